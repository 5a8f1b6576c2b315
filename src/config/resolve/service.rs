//! `[[service]]` and its JSON through the API.

use std::collections::HashSet;

use http::HeaderName;

use super::super::bounds::{CORS_ITEMS, ENDPOINTS, PATTERNS, PUBLIC_PATHS};
use super::super::fault::{Complaint, shown};
use super::super::header::spelling;
use super::super::service_file::{
    BaseUrlFile, CorsFile, EndpointFile, ForwardTokenFile, MatchFile, OperationFile, ProtocolFile, ServiceFile,
    TimeoutsFile, UnmatchedFile, UpstreamTlsFile,
};
use super::super::{
    Cors, Endpoint, Hidden, Operation, Protocol, RequestPattern, ResourceKey, Service, Timeouts, TokenForwarding,
    Unmatched, UpstreamTls, defaults, pem, reserved_name, reserved_service, value,
};
use super::inject::inject;
use super::scope::Scope;

/// The services of the file.
pub(super) fn services(root: &Scope<'_>, files: &[ServiceFile]) -> Option<Vec<Service>> {
    let mut seen = HashSet::new();
    root.each("service", files, |here, file| {
        let namespace = here.need("namespace", file.namespace.as_ref(), "write `namespace = \"…\"`", |text| {
            match value::name(text)? {
                // `carta` is no name to reserve, but its administrators may put services there.
                name if name != "carta" && reserved_name(&name) => Err(reserved(text)),
                name => Ok(name),
            }
        });
        let name = here.need("name", file.name.as_ref(), "write `name = \"…\"`", value::name);
        let owner = here.need(
            "owner",
            file.owner.as_ref(),
            "write `owner = \"USER\"`: who may share the service",
            value::label,
        );
        let place = namespace.zip(name);
        if let Some((namespace, name)) = &place {
            if reserved_service(namespace, name) {
                here.key("name").complain(reserved(name));
            }
            if !seen.insert((namespace.clone(), name.clone())) {
                let what = format!("the service `{namespace}/{name}` is there twice");
                here.key("name").fault(what, "give one of them another name");
            }
        }
        let known = place.clone().unwrap_or_default();
        let service = service(here, file, &known.0, &known.1);
        place?;
        Some(Service { owner: Some(owner?), ..service? })
    })
}

/// Reports injections of the header by which a trusted proxy says who calls.
pub(super) fn spare_header(root: &Scope<'_>, files: &[ServiceFile], header: &HeaderName) {
    root.each("service", files, |here, file| {
        let headers = here.key("inject").key("headers");
        for (name, _) in &file.inject.headers.0 {
            if value::header_name(name).is_ok_and(|name| spelling(name.as_str()) == spelling(header.as_str())) {
                let what = format!("the header {} cannot be injected: by it [auth.header] says who calls", shown(name));
                headers.key(name).fault(what, "leave it out; the upstream gets X-Carta-User and X-Carta-Email");
            }
        }
        Some(())
    });
}

/// A service that came through the API.
pub(super) fn registered(here: &Scope<'_>, file: &ServiceFile, namespace: &str, name: &str) -> Option<Service> {
    for (key, written, fixed) in [("namespace", &file.namespace, namespace), ("name", &file.name, name)] {
        if written.as_deref().is_some_and(|written| written != fixed) {
            here.key(key).fault(format!("the service is `{namespace}/{name}`"), "leave it out; renaming is a call");
        }
    }
    if file.owner.is_some() {
        here.key("owner").fault("the owner of a registered service is not part of its table", "leave it out");
    }
    service(here, file, namespace, name)
}

fn reserved(name: &str) -> Complaint {
    Complaint::new(format!("{} is a word of the API in this place", shown(name)), "choose another name")
}

fn service(here: &Scope<'_>, file: &ServiceFile, namespace: &str, name: &str) -> Option<Service> {
    let endpoints = endpoints(&here.key("base_url"), file.base_url.as_ref());
    let level = here.read("level", file.level.as_ref(), defaults::LEVEL, value::levels);
    let public = here.few("public", PUBLIC_PATHS, &file.public, |here, text| here.accept(value::public_path(text)));
    let inject = inject(&here.key("inject"), &file.inject);
    let operations = operations(here, &file.operation, namespace, name);
    let timeouts = timeouts(&here.key("timeouts"), &file.timeouts);
    let tls = tls(&here.key("tls"), &file.tls);
    let cors = match &file.cors {
        Some(file) => cors(&here.key("cors"), file).map(Some),
        None => Some(None),
    };
    let forward_token = match file.forward_token.unwrap_or_default() {
        ForwardTokenFile::No => TokenForwarding::No,
        ForwardTokenFile::Minted => TokenForwarding::Minted,
        ForwardTokenFile::Full => {
            if here.is_registered() {
                let what = "`full` passes on the caller's own token and is for gateway.toml only";
                here.key("forward_token").fault(what, "write true: a token minted for this service");
            }
            TokenForwarding::Full
        }
    };
    Some(Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        owner: None,
        endpoints: endpoints?,
        level: level?,
        unmatched: match file.unmatched.unwrap_or_default() {
            UnmatchedFile::Refuse => Unmatched::Refuse,
            UnmatchedFile::Level => Unmatched::Level,
        },
        public: public?,
        forward_token,
        // Where calls of a service of the file go, the file says, and nobody who merely may write to the service.
        tunnel: file.tunnel.unwrap_or(here.is_registered()),
        inject: inject?,
        operations: operations?,
        timeouts: timeouts?,
        tls: tls?,
        cors: cors?,
        trusted: !here.is_registered(),
    })
}

fn endpoints(here: &Scope<'_>, file: Option<&BaseUrlFile>) -> Option<Vec<Endpoint>> {
    if let Some(BaseUrlFile::Many(items)) = file {
        here.at_most(ENDPOINTS, items.len())?;
    }
    let read = |here: &Scope<'_>, text: &Hidden, weight: u32| {
        here.accept(value::web_url(text.reveal())).map(|url| Endpoint { url, weight })
    };
    let endpoints: Vec<_> = match file {
        None => {
            here.missing("write `base_url = \"https://…\"`");
            return None;
        }
        Some(BaseUrlFile::One(text)) => return Some(vec![read(here, text, defaults::WEIGHT)?]),
        Some(BaseUrlFile::Many(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| match item {
                EndpointFile::Url(text) => read(&here.index(index), text, defaults::WEIGHT),
                EndpointFile::Table(table) => {
                    let here = here.index(index);
                    let weight = table.weight.unwrap_or(defaults::WEIGHT);
                    if !(1..=10_000).contains(&weight) {
                        here.key("weight").fault(format!("`{weight}` is no weight"), "write 1 to 10000");
                    }
                    match &table.url {
                        Some(text) => read(&here.key("url"), text, weight),
                        None => {
                            here.key("url").missing("write `url = \"https://…\"`");
                            None
                        }
                    }
                }
            })
            .collect(),
    };
    if endpoints.is_empty() {
        here.fault("the list of endpoints is empty", "write at least one URL");
        return None;
    }
    let mut seen = HashSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoint.as_ref().is_some_and(|endpoint| !seen.insert(endpoint.url.clone())) {
            here.index(index).fault("this endpoint is there twice", "write it once, with a weight");
        }
    }
    endpoints.into_iter().collect()
}

fn operations(here: &Scope<'_>, files: &[OperationFile], namespace: &str, service: &str) -> Option<Vec<Operation>> {
    let mut seen = HashSet::new();
    let read = here.few("operation", PATTERNS, files, |here, file| {
        let name = here.need("name", file.name.as_ref(), "write `name = \"…\"`", value::operation_name);
        if let Some(name) = &name
            && !seen.insert(name.clone())
        {
            let instead = "give it another name, or list its patterns in one: `match = [\"…\", \"…\"]`";
            here.key("name").fault(format!("the operation `{name}` is there twice"), instead);
        }
        let level = here.may("level", file.level.as_ref(), value::levels);
        let patterns = patterns(&here.key("match"), file.requests.as_ref());
        let (name, patterns) = (name?, patterns?);
        let resources: Vec<_> = patterns
            .iter()
            .map(|requests| resource(&here.key("resource"), file, requests, [namespace, service, &name]))
            .collect();
        let level = level?;
        let operations = patterns.into_iter().zip(resources).map(|(requests, resource)| {
            Some(Operation { name: name.as_str().into(), requests, level, resource: resource? })
        });
        operations.collect::<Option<Vec<_>>>()
    });
    let operations: Vec<_> = read?.into_iter().flatten().collect();
    if operations.len() > PATTERNS {
        let what = format!("the operations have {} patterns, which are too many", operations.len());
        here.key("operation").fault(what, format!("write at most {PATTERNS} in all, such as with `*` and `**`"));
        return None;
    }
    Some(operations)
}

fn patterns(here: &Scope<'_>, file: Option<&MatchFile>) -> Option<Vec<RequestPattern>> {
    let example = "write `match = \"METHOD /path\"`, such as \"POST|PUT /tags/{id}\"";
    let read = |here: &Scope<'_>, text: &String| here.accept(RequestPattern::parse(text).map_err(Complaint::from));
    match file {
        None => {
            here.missing(example);
            None
        }
        Some(MatchFile::One(text)) => read(here, text).map(|pattern| vec![pattern]),
        Some(MatchFile::Many(texts)) if texts.is_empty() => {
            here.fault("the list of patterns is empty", example);
            None
        }
        Some(MatchFile::Many(texts)) => {
            here.at_most(PATTERNS, texts.len())?;
            let patterns: Vec<_> =
                texts.iter().enumerate().map(|(index, text)| read(&here.index(index), text)).collect();
            patterns.into_iter().collect()
        }
    }
}

fn resource(
    here: &Scope<'_>,
    file: &OperationFile,
    requests: &RequestPattern,
    of: [&str; 3],
) -> Option<Vec<ResourceKey>> {
    let text = file.resource.as_deref().unwrap_or(defaults::RESOURCE);
    let keys = here.accept(requests.resource(text, of).map_err(Complaint::from))?;
    let [namespace, service, _] = of;
    let is = |position: usize, text: &str| keys.get(position) == Some(&ResourceKey::Text(text.into()));
    if here.is_registered() && !(is(0, namespace) && is(1, service)) {
        // Else grants that people hold on other names would open this service.
        let what = "the resource of a registered service's operation is not below the service";
        here.fault(what, "begin it with `{namespace}.{service}`");
        return None;
    }
    Some(keys)
}

fn timeouts(here: &Scope<'_>, file: &TimeoutsFile) -> Option<Timeouts> {
    let connect = here.read("connect", file.connect.as_ref(), defaults::CONNECT, value::bound);
    let first_byte = here.read("first_byte", file.first_byte.as_ref(), defaults::FIRST_BYTE, value::bound);
    let idle = here.read("idle", file.idle.as_ref(), defaults::IDLE, value::bound);
    let total = here.read("total", file.total.as_ref(), defaults::TOTAL, value::bound);
    Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle?, total: total? })
}

fn tls(here: &Scope<'_>, file: &UpstreamTlsFile) -> Option<UpstreamTls> {
    let text = |key: &str, written: &Option<Hidden>| match written {
        Some(written) => {
            let here = here.key(key);
            here.accept(here.references().text(written.reveal())).map(Some)
        }
        None => Some(None),
    };
    let ca = text("ca", &file.ca).and_then(|ca| match ca {
        Some(ca) => here.key("ca").accept(pem::anchors(&ca)).map(Some),
        None => Some(None),
    });
    if here.is_registered() && file.key.is_some() {
        // The table of a registered service is stored and shown as it is.
        let instead = "declare the service in gateway.toml, where the key can be named as `file:PATH`";
        here.key("key").fault("a private key cannot be registered: it would be stored unsealed", instead);
        return None;
    }
    let identity = match (text("certificate", &file.certificate), text("key", &file.key)) {
        (Some(None), Some(None)) => Some(None),
        (Some(Some(chain)), Some(Some(key))) => super::identity(here, &chain, &key)
            .map(|()| Some((chain.as_bytes().to_vec(), Hidden::new(key.to_string())))),
        (Some(Some(_)), Some(None)) => {
            here.key("key").missing("write `key = \"file:PATH\"` beside the certificate");
            None
        }
        (Some(None), Some(Some(_))) => {
            here.key("certificate").missing("write `certificate = \"file:PATH\"` beside the key");
            None
        }
        _ => None,
    };
    let protocol = match file.protocol.unwrap_or_default() {
        ProtocolFile::Auto => Protocol::Auto,
        ProtocolFile::Http1 => Protocol::Http1,
        ProtocolFile::Http2 => Protocol::Http2,
    };
    Some(UpstreamTls { ca: ca?, identity: identity?, protocol })
}

fn cors(here: &Scope<'_>, file: &CorsFile) -> Option<Cors> {
    let example = "write the origins that may call, such as `origins = [\"https://app.example.org\"]`";
    let origins = match &file.origins {
        Some(origins) if !origins.is_empty() => {
            here.few("origins", CORS_ITEMS, origins, |here, text| here.accept(value::origin(text)))
        }
        Some(_) => {
            here.key("origins").fault("the list of origins is empty", example);
            None
        }
        None => {
            here.key("origins").missing(example);
            None
        }
    };
    let credentials = file.credentials.unwrap_or(defaults::CORS_CREDENTIALS);
    if let Some(origins) = &origins
        && origins.iter().any(|origin| origin == "*")
    {
        if origins.len() > 1 {
            here.key("origins").fault("`*` stands beside other origins", "write `[\"*\"]`, or only the others");
        }
        if credentials {
            here.key("credentials").fault("every site could call with the browser's credentials", "list the origins");
        }
    }
    let written: Vec<String> =
        file.methods.clone().unwrap_or_else(|| defaults::CORS_METHODS.map(String::from).to_vec());
    let methods = here.few("methods", CORS_ITEMS, &written, |here, text| here.accept(value::method(text)));
    let headers = here.few("headers", CORS_ITEMS, &file.headers, |here, text| here.accept(value::header_name(text)));
    let expose = here.few("expose", CORS_ITEMS, &file.expose, |here, text| here.accept(value::header_name(text)));
    let max_age = here.read("max_age", file.max_age.as_ref(), defaults::CORS_MAX_AGE, value::duration);
    Some(Cors {
        origins: origins?,
        methods: methods?,
        headers: headers?,
        expose: expose?,
        credentials,
        max_age: max_age?,
    })
}
