//! From what is written to what is true, with every fault of the whole table.

mod auth;
mod inject;
mod scenario;
mod scope;
mod service;

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::bounds::TABLE_BYTES;
use super::decode::{Misread, decode};
use super::fault::{Complaint, Fault, Place};
use super::file::{
    ConfigFile, LimitsFile, ListenFile, ListenTlsFile, LogFile, LogFormatFile, RegisterFile, StoreFile, VaultFile,
};
use super::reference::{References, cannot_read, cause_of, read};
use super::syntax::Document;
use super::tree::{Node, Step, Value, shown_path};
use super::{
    Config, Faults, Limits, Listen, ListenTls, Log, Register, Service, StoreConfig, StoreUrl, VaultConfig, defaults,
    pem, value,
};
pub use scenario::{load_policy, load_scenario, parse_scenario};
use scope::{Ground, Scope};

/// Far above any configuration that people or their tools write.
const LONGEST_FILE: u64 = 16 * 1024 * 1024;

/// Reads `gateway.toml`. Paths in it start at its directory; `env` is the environment for `${…}`.
///
/// # Errors
/// Everything that is wrong with it, at once, in the order of the file.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let instead =
        "name the file with `--config PATH`, or make one: `carta-gateway quickstart`, or copy gateway.toml.example";
    parse(&read_text(path, "cannot read the configuration", instead)?, path, env)
}

/// Reads the text of a configuration as if it stood in the file `path`.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str, path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut document = Document::read(text, path);
    let mut excused = HashSet::new();
    let (file, misread) = decode::<ConfigFile>(&mut document.tree, &mut excused);
    let ground = Ground {
        tree: &document.tree,
        source: Some((path, text)),
        references: References::Followed { directory, env },
        excused,
        broken: !document.faults.is_empty(),
        faults: RefCell::new(Vec::new()),
    };
    ground.report(misread);
    let config = file.and_then(|file| config(&ground.root(), &file));
    let mut faults = ground.faults.into_inner();
    faults.retain(|fault| !document.explains(fault));
    faults.extend(document.faults);
    finish(config, faults)
}

/// Reads a registered service's table, the same as `[[service]]` but as JSON: `${ENV}`, `file:` and
/// `forward_token = "full"` are refused, and the owner is the store's to know.
///
/// # Errors
/// Everything that is wrong with it, at once, by key.
pub fn parse_service(namespace: &str, name: &str, table: &serde_json::Value) -> Result<Service, Faults> {
    let mut tree = Node::from_json(table);
    let mut excused = HashSet::new();
    let bytes = table.to_string().len();
    let whole = |complaint| (None, vec![Misread { path: Vec::new(), on_key: false, complaint }]);
    let (file, misread) = if bytes > TABLE_BYTES {
        let what = format!("the table has {bytes} bytes, which are too many");
        whole(Complaint::new(
            what,
            format!("send at most {TABLE_BYTES} bytes, such as with fewer authorities to trust"),
        ))
    } else if matches!(tree.value, Value::Table(_)) {
        decode(&mut tree, &mut excused)
    } else {
        whole(Complaint::new("a service is a JSON object", "send an object such as {\"base_url\": \"…\"}"))
    };
    let ground = Ground {
        tree: &tree,
        source: None,
        references: References::Refused,
        excused,
        broken: false,
        faults: RefCell::new(Vec::new()),
    };
    ground.report(misread);
    let service = file.and_then(|file| service::registered(&ground.root(), &file, namespace, name));
    finish(service, ground.faults.into_inner())
}

/// A fault of the `index`th service of a file that was read without fault, found by comparing it with something else.
#[must_use]
pub fn service_fault(
    path: &Path,
    index: usize,
    key: &str,
    what: impl Into<String>,
    instead: impl Into<String>,
) -> Fault {
    late_fault(path, &[Step::Key("service".to_owned()), Step::Index(index), Step::Key(key.to_owned())], what, instead)
}

/// A fault of `vault.key` in a file that was read without fault, found by comparing it with something else.
#[must_use]
pub fn vault_key_fault(path: &Path, what: impl Into<String>, instead: impl Into<String>) -> Fault {
    late_fault(path, &[Step::Key("vault".to_owned()), Step::Key("key".to_owned())], what, instead)
}

fn late_fault(path: &Path, steps: &[Step], what: impl Into<String>, instead: impl Into<String>) -> Fault {
    // Read again, as a configuration in use has no need to know its places. Changed meanwhile, the place is the file.
    let place = std::fs::read_to_string(path).ok().and_then(|text| {
        let document = Document::read(&text, path);
        let (node, _) = document.tree.find(steps)?;
        Some(Place::at(path, &text, node.span.start))
    });
    Fault {
        place: Some(place.unwrap_or_else(|| Place::whole(path))),
        key: shown_path(steps),
        what: what.into(),
        instead: instead.into(),
    }
}

fn finish<T>(read: Option<T>, faults: Vec<Fault>) -> Result<T, Faults> {
    match read {
        Some(read) if faults.is_empty() => Ok(read),
        _ => Err(Faults::new(faults)),
    }
}

impl Ground<'_> {
    fn report(&self, misread: Vec<Misread>) {
        self.faults.borrow_mut().extend(misread.into_iter().map(|wrong| Fault {
            place: self.place(&wrong.path, wrong.on_key),
            key: shown_path(&wrong.path),
            what: wrong.complaint.what,
            instead: wrong.complaint.instead,
        }));
    }
}

fn one_fault(place: Place, what: impl Into<String>, instead: impl Into<String>) -> Faults {
    Faults::new(vec![Fault { place: Some(place), key: String::new(), what: what.into(), instead: instead.into() }])
}

/// The text of a file, which is to be UTF-8; `what` and `instead` are for one that cannot be read.
fn read_text(path: &Path, what: &str, instead: &str) -> Result<String, Faults> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 <= LONGEST_FILE => {}
        Ok(_) => {
            return Err(one_fault(Place::whole(path), "the file is larger than 16 MiB", "name a configuration file"));
        }
        Err(error) => {
            return Err(one_fault(Place::whole(path), format!("{what}: {}", cause_of(&error)), instead));
        }
    }
    String::from_utf8(bytes).map_err(|error| {
        let length = error.utf8_error().valid_up_to();
        let valid = String::from_utf8_lossy(error.as_bytes().get(..length).unwrap_or_default());
        one_fault(Place::at(path, &valid, length), "the file is not UTF-8 here", "save it as UTF-8")
    })
}

fn config(root: &Scope<'_>, file: &ConfigFile) -> Option<Config> {
    let listen = listen(&root.key("listen"), &file.listen);
    let limits = limits(&root.key("limits"), &file.limits);
    let store = store(&root.key("store"), &file.store);
    let vault = vault(&root.key("vault"), &file.vault);
    let auth = auth::auth(&root.key("auth"), &file.auth);
    if let (Some(listen), Some(auth)) = (&listen, &auth) {
        auth::spare_own_issuer(&root.key("auth"), auth, &listen.public_api);
    }
    let services = service::services(root, &file.service);
    if let Some(Some(header)) = auth.as_ref().map(|auth| &auth.header) {
        service::spare_header(root, &file.service, &header.name);
    }
    let register = register(&root.key("register"), &file.register);
    let log = log(&root.key("log"), &file.log);
    Some(Config {
        listen: listen?,
        limits: limits?,
        store: store?,
        vault: vault?,
        auth: auth?,
        services: services?,
        register: register?,
        log: log?,
    })
}

fn listen(here: &Scope<'_>, file: &ListenFile) -> Option<Listen> {
    let proxy = here.read("proxy", file.proxy.as_ref(), defaults::PROXY, value::address);
    let api = here.read("api", file.api.as_ref(), defaults::API, value::address);
    if let (Some(proxy), Some(api)) = (proxy, api)
        && proxy == api
        && proxy.port() != 0
    {
        here.key("api").fault(format!("`{api}` is the address of `listen.proxy` too"), "write another port");
    }
    let tls = match &file.tls {
        Some(file) => listen_tls(&here.key("tls"), file).map(Some),
        None => Some(None),
    };
    let trusted_proxies =
        here.each("trusted_proxies", &file.trusted_proxies, |here, text| here.accept(value::network(text)));
    let public = here.key("public_url");
    let public_proxy = public.may("proxy", file.public_url.proxy.as_ref(), value::web_url);
    let public_api = public.may("api", file.public_url.api.as_ref(), value::web_url);
    let workers = file.workers.unwrap_or(defaults::WORKERS);
    if workers > 1024 {
        here.key("workers").fault(format!("`{workers}` threads are too many"), "write 0 for one a core");
    }
    let drain = here.read("drain", file.drain.as_ref(), defaults::DRAIN, value::duration);
    let (tls, proxy, api) = (tls?, proxy?, api?);
    Some(Listen {
        public_proxy: public_proxy?.or_else(|| url_of(proxy, tls.is_some()))?,
        public_api: public_api?.or_else(|| url_of(api, tls.is_some()))?,
        proxy,
        api,
        trusted_proxies: trusted_proxies?,
        tls,
        workers: if workers == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { workers },
        drain: drain?,
    })
}

fn url_of(address: SocketAddr, tls: bool) -> Option<Url> {
    Url::parse(&format!("{}://{address}", if tls { "https" } else { "http" })).ok()
}

fn listen_tls(here: &Scope<'_>, file: &ListenTlsFile) -> Option<ListenTls> {
    let path = |text: &str| {
        let path = here.references().path(text)?;
        let content = read(&path).map_err(|cause| cannot_read(text, &cause))?;
        Ok((path, content))
    };
    let certificate = here.need("certificate", file.certificate.as_ref(), "write `certificate = \"PATH\"`", path);
    let key = here.need("key", file.key.as_ref(), "write `key = \"PATH\"`", path);
    let ((certificate, chain), (key, secret)) = (certificate?, key?);
    identity(here, &chain, &secret)?;
    Some(ListenTls { certificate, key })
}

/// Reports what is wrong with a certificate chain and its key.
fn identity(here: &Scope<'_>, chain: &str, key: &str) -> Option<()> {
    pem::identity(chain, key)
        .map_err(|(part, complaint)| {
            let at = match part {
                pem::Part::Certificate => "certificate",
                pem::Part::Key => "key",
            };
            here.key(at).complain(complaint);
        })
        .ok()
}

fn limits(here: &Scope<'_>, file: &LimitsFile) -> Option<Limits> {
    let count = |key: &str, written: Option<usize>, default: usize, least: usize| {
        let value = written.unwrap_or(default);
        if value < least {
            here.key(key).fault(format!("`{value}` is too little to work with"), format!("write at least {least}"));
        }
        value
    };
    let wait =
        |key: &str, written: &Option<String>, default| here.read(key, written.as_ref(), default, value::some_duration);
    // Secrets come in headers of up to 8 KiB, and one that is too long must get its own answer.
    let header_bytes = count("header_bytes", file.header_bytes, defaults::HEADER_BYTES, 8 * 1024);
    let headers = count("headers", file.headers, defaults::HEADERS, 16);
    let uri_bytes = count("uri_bytes", file.uri_bytes, defaults::URI_BYTES, 256);
    let api_body_bytes = count("api_body_bytes", file.api_body_bytes, defaults::API_BODY_BYTES, 256);
    let changes = file.changes.unwrap_or(defaults::CHANGES);
    count("changes", Some(changes as usize), 1, 1);
    let per_hour = file.changes_per_hour.unwrap_or(defaults::CHANGES_PER_HOUR);
    let connections = count("connections", file.connections, defaults::CONNECTIONS, 1);
    let h2_streams = file.h2_streams.unwrap_or(defaults::H2_STREAMS);
    count("h2_streams", Some(h2_streams as usize), 1, 1);
    let handshake_timeout = wait("handshake_timeout", &file.handshake_timeout, defaults::HANDSHAKE_TIMEOUT);
    let header_timeout = wait("header_timeout", &file.header_timeout, defaults::HEADER_TIMEOUT);
    let api_body_timeout = wait("api_body_timeout", &file.api_body_timeout, defaults::API_BODY_TIMEOUT);
    let keep_alive = wait("keep_alive", &file.keep_alive, defaults::KEEP_ALIVE);
    Some(Limits {
        header_bytes,
        headers,
        uri_bytes,
        body_bytes: Some(file.body_bytes.unwrap_or(defaults::BODY_BYTES)).filter(|bytes| *bytes > 0),
        api_body_bytes,
        changes,
        change_each: Duration::from_secs(3600).checked_div(per_hour),
        connections,
        h2_streams,
        handshake_timeout: handshake_timeout?,
        header_timeout: header_timeout?,
        api_body_timeout: api_body_timeout?,
        keep_alive: keep_alive?,
    })
}

fn store(here: &Scope<'_>, file: &StoreFile) -> Option<StoreConfig> {
    let written = file.url.as_ref().map_or(defaults::STORE_URL, |url| url.reveal());
    let url = here.key("url");
    let read = url.references().text(written).and_then(|text| store_url(&text, url.references()));
    let url = url.accept(read);
    let max_staleness = here.read("max_staleness", file.max_staleness.as_ref(), defaults::MAX_STALENESS, |text| {
        match value::duration(text)? {
            // Word from the store comes a few times a second at most: less would refuse calls while all is well.
            least if least < Duration::from_secs(1) => Err(Complaint::new(
                format!("{} is too short: an idle store would look stale", super::fault::shown(text)),
                "write at least `1s`",
            )),
            duration => Ok(duration),
        }
    });
    Some(StoreConfig { url: url?, max_staleness: max_staleness? })
}

/// Never shows the text: a store's URL may hold a password.
fn store_url(text: &str, references: References<'_>) -> Result<StoreUrl, Complaint> {
    let example = "write `sqlite://carta.db`; the path starts at the directory of gateway.toml";
    let Some(rest) = text.strip_prefix("sqlite:") else {
        let what = if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            "a PostgreSQL store is not built into this version"
        } else {
            "the URL of the store begins with no kind of store that is known"
        };
        return Err(Complaint::new(what, example));
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.ends_with('/') || path.contains(['?', '#', '\0']) || path == ":memory:" {
        return Err(Complaint::new("the URL of the store names no file", example));
    }
    references.path(path).map(StoreUrl::Sqlite)
}

fn vault(here: &Scope<'_>, file: &VaultFile) -> Option<VaultConfig> {
    let read = |here: &Scope<'_>, written: &str| {
        let text = here.references().text(written).map_err(|complaint| Complaint {
            instead: if complaint.what.ends_with("no such file or directory") {
                format!("{}; make a key: `head -c 32 /dev/urandom | base64 > vault.key`", complaint.instead)
            } else {
                complaint.instead
            },
            ..complaint
        });
        here.accept(text.and_then(|text| value::vault_key(&text)))
    };
    let key = read(&here.key("key"), file.key.as_ref().map_or(defaults::VAULT_KEY, |key| key.reveal()));
    let previous = here.each("previous", &file.previous, |here, written| read(here, written.reveal()));
    Some(VaultConfig { key: key?, previous: previous? })
}

fn register(here: &Scope<'_>, file: &RegisterFile) -> Option<Register> {
    Some(Register {
        allow_hosts: here.each("allow_hosts", &file.allow_hosts, |here, text| here.accept(value::host_rule(text)))?,
        allow_loopback: file.allow_loopback.unwrap_or(defaults::ALLOW_LOOPBACK),
        allow_private: file.allow_private.unwrap_or(defaults::ALLOW_PRIVATE),
    })
}

fn log(here: &Scope<'_>, file: &LogFile) -> Option<Log> {
    let filter = here.read("filter", file.filter.as_ref(), defaults::LOG_FILTER, |text| {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err(Complaint::new(
                format!("{} is no log filter", super::fault::shown(text)),
                "write a level (error, warn, info, debug, trace), or `info,carta_gateway=debug`",
            )),
        }
    });
    Some(Log {
        filter: filter?,
        json: matches!(file.format.unwrap_or_default(), LogFormatFile::Json),
        access: file.access.unwrap_or(defaults::LOG_ACCESS),
    })
}
