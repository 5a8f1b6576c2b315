//! `[auth]`: who may prove an identity.

use url::Url;

use super::super::fault::{Complaint, shown};
use super::super::file::{AdminKeyFile, AuthFile, HeaderFile, JwtFile, LocalFile};
use super::super::header::{HeaderUse, header_use};
use super::super::{AdminKey, Auth, Hidden, JwtIssuer, Local, TrustedHeader, defaults, own_issuer, pem, value};
use super::scope::Scope;

pub(super) fn auth(here: &Scope<'_>, file: &AuthFile) -> Option<Auth> {
    let local = local(&here.key("local"), &file.local);
    let jwt = here.each("jwt", &file.jwt, jwt);
    let header = match &file.header {
        Some(file) => header(&here.key("header"), file).map(Some),
        None => Some(None),
    };
    for (index, one) in file.jwt.iter().enumerate() {
        let same = |earlier: &&JwtFile| one.issuer.is_some() && earlier.issuer == one.issuer;
        if file.jwt.iter().take(index).find(same).is_some() {
            let issuer = here.key("jwt").index(index).key("issuer");
            issuer.fault("this issuer is there twice", "write it once, with every audience in its list");
        }
    }
    let auth = Auth { local: local?, jwt: jwt?, header: header? };
    if !auth.local.enabled && auth.jwt.is_empty() && auth.header.is_none() {
        let local = here.key("local").key("enabled");
        local.fault("nobody could prove who they are", "leave it enabled, or add [[auth.jwt]] or [auth.header]");
    }
    Some(auth)
}

/// Reports an issuer that is the built-in one: whose keys its tokens are verified with could be read in two ways.
pub(super) fn spare_own_issuer(here: &Scope<'_>, auth: &Auth, public_api: &Url) {
    for (index, other) in auth.jwt.iter().enumerate() {
        if auth.local.enabled && other.issuer == own_issuer(public_api) {
            let issuer = here.key("jwt").index(index).key("issuer");
            issuer.fault("this is the built-in issuer", "leave the table out; its tokens are taken without it");
        }
    }
}

fn local(here: &Scope<'_>, file: &LocalFile) -> Option<Local> {
    let pool_id = here.read("pool_id", file.pool_id.as_ref(), defaults::POOL_ID, value::pool_id);
    let client_id = here.read("client_id", file.client_id.as_ref(), defaults::CLIENT_ID, value::label);
    let token_ttl = here.read("token_ttl", file.token_ttl.as_ref(), defaults::TOKEN_TTL, value::some_duration);
    let admin_keys = here.each("admin_keys", &file.admin_keys, admin_key);
    for (index, one) in file.admin_keys.iter().enumerate() {
        if one.id.is_some() && file.admin_keys.iter().take(index).any(|earlier| earlier.id == one.id) {
            let id = here.key("admin_keys").index(index).key("id");
            id.fault("this id is there twice", "give each key an id of its own");
        }
    }
    Some(Local {
        enabled: file.enabled.unwrap_or(defaults::LOCAL_ENABLED),
        pool_id: pool_id?,
        client_id: client_id?,
        token_ttl: token_ttl?,
        admin_keys: admin_keys?,
    })
}

/// An access key; a guessable secret would let anybody sign.
fn admin_key(here: &Scope<'_>, file: &AdminKeyFile) -> Option<AdminKey> {
    let id = here.need("id", file.id.as_ref(), "write `id = \"…\"`, 16 to 128 letters, digits and `_`", |text| {
        let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if fits && (16..=128).contains(&text.len()) {
            return Ok(text.to_owned());
        }
        Err(Complaint::new(format!("{} is no key's id", shown(text)), "write 16 to 128 letters, digits and `_`"))
    });
    let place = here.key("secret");
    let Some(written) = &file.secret else {
        place.missing("write `secret = \"file:admin.key\"`; make one: `openssl rand -base64 30 > admin.key`");
        return None;
    };
    let secret = place.accept(place.references().text(written.reveal()).and_then(|text| {
        let fits = (32..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let short = "the secret is no text of 32 to 256 characters without blanks";
        if fits {
            Ok(Hidden::new(text.to_string()))
        } else {
            Err(Complaint::new(short, "make one: `openssl rand -base64 30`"))
        }
    }));
    Some(AdminKey { id: id?, secret: secret? })
}

fn jwt(here: &Scope<'_>, file: &JwtFile) -> Option<JwtIssuer> {
    let allow_http = file.allow_http.unwrap_or(defaults::ALLOW_HTTP);
    let issuer = here.need("issuer", file.issuer.as_ref(), "write `issuer = \"https://…\"`", |text| {
        safe(value::web_url(text)?, text, allow_http).map(|_| text.to_owned())
    });
    let audience = audience(here, file);
    let jwks_url =
        here.may("jwks_url", file.jwks_url.as_ref(), |text| safe(value::document_url(text)?, text, allow_http));
    let ca = match &file.ca {
        Some(written) => {
            let here = here.key("ca");
            here.accept(here.references().text(written.reveal()).and_then(|text| pem::anchors(&text))).map(Some)
        }
        None => Some(None),
    };
    let user_claim = here.read("user_claim", file.user_claim.as_ref(), defaults::USER_CLAIM, value::label);
    let email_claim = here.read("email_claim", file.email_claim.as_ref(), defaults::EMAIL_CLAIM, value::label);
    let groups_claim = here.read("groups_claim", file.groups_claim.as_ref(), defaults::GROUPS_CLAIM, value::label);
    let new_user_role = here.read("new_user_role", file.new_user_role.as_ref(), defaults::NEW_USER_ROLE, value::label);
    Some(JwtIssuer {
        issuer: issuer?,
        audience: audience?,
        jwks_url: jwks_url?,
        ca: ca?,
        user_claim: user_claim?,
        email_claim: email_claim?,
        groups_claim: groups_claim?,
        create_users: file.create_users.unwrap_or(defaults::CREATE_USERS),
        new_user_role: new_user_role?,
    })
}

/// Without an audience, a token that the same issuer made for any other application would open the gateway.
fn audience(here: &Scope<'_>, file: &JwtFile) -> Option<Vec<String>> {
    let instead = "write the client ids whose tokens are meant for this gateway: `audience = [\"client-id\"]`";
    match &file.audience {
        Some(audience) if !audience.is_empty() => {
            here.each("audience", audience, |here, text| here.accept(value::label(text)))
        }
        Some(_) => {
            here.key("audience").fault("the list of audiences is empty", instead);
            None
        }
        None => {
            here.key("audience").missing(instead);
            None
        }
    }
}

/// Over plain HTTP anybody on the way could hand out keys of their own.
fn safe(url: Url, text: &str, allow_http: bool) -> Result<Url, Complaint> {
    if url.scheme() == "http" && !allow_http && !value::is_loopback(&url) {
        return Err(Complaint::new(
            format!("{} is plain HTTP to another machine: keys that come that way prove nothing", shown(text)),
            "write `https://…`; or `allow_http = true` where the whole way is trusted",
        ));
    }
    Ok(url)
}

fn header(here: &Scope<'_>, file: &HeaderFile) -> Option<TrustedHeader> {
    let name = here.read("name", file.name.as_ref(), defaults::HEADER_NAME, |text| {
        let name = value::header_name(text)?;
        let credential = matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization");
        match header_use(name.as_str()) {
            _ if credential => {
                Err(Complaint::new(format!("{} has credentials of its own", shown(text)), "name another header"))
            }
            HeaderUse::Framing => {
                Err(Complaint::new(format!("{} is needed for the connection", shown(text)), "name another header"))
            }
            HeaderUse::Gateway => {
                let what = format!("the gateway sets or reads {} itself", shown(text));
                Err(Complaint::new(what, "name another header"))
            }
            HeaderUse::Override => {
                Err(Complaint::new(format!("{} has a meaning of its own", shown(text)), "name another header"))
            }
            HeaderUse::Identity | HeaderUse::Forwarding | HeaderUse::Cookie | HeaderUse::Free => Ok(name),
        }
    });
    let trusted_proxies =
        here.each("trusted_proxies", &file.trusted_proxies, |here, text| here.accept(value::network(text)));
    let first_user_role = here.may("first_user_role", file.first_user_role.as_ref(), value::label);
    let new_user_role = here.read("new_user_role", file.new_user_role.as_ref(), defaults::NEW_USER_ROLE, value::label);
    Some(TrustedHeader {
        name: name?,
        trusted_proxies: trusted_proxies?,
        required: file.required.unwrap_or(defaults::HEADER_REQUIRED),
        create_users: file.create_users.unwrap_or(defaults::CREATE_USERS),
        first_user_role: first_user_role?,
        new_user_role: new_user_role?,
    })
}
