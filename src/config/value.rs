//! Readers of single values: each takes a text and says what is wrong with it and what to write.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderName, Method};
use ipnet::IpNet;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::fault::{Complaint, nearest, shown};
use super::{VaultKey, valid_name};
use crate::policy::Levels;

type Read<T> = Result<T, Complaint>;

fn wrong<T>(what: impl Into<String>, instead: impl Into<String>) -> Read<T> {
    Err(Complaint::new(what, instead))
}

/// `127.0.0.1:8080`.
pub(super) fn address(text: &str) -> Read<SocketAddr> {
    text.parse().or_else(|_| {
        wrong(
            format!("{} is no IP address with a port", shown(text)),
            "write them as `127.0.0.1:8080`, `0.0.0.0:8080` or `[::1]:8080`",
        )
    })
}

/// A span of time, which may be `0`.
pub(super) fn duration(text: &str) -> Read<Duration> {
    let read = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    match read {
        // Sums of times must stay far from the end of what clocks can say.
        Ok(duration) if duration <= Duration::from_secs(100 * 366 * 24 * 3600) => Ok(duration),
        Ok(_) => wrong(format!("{} is longer than a century", shown(text)), "write a shorter time"),
        Err(_) => wrong(
            format!("{} is no span of time", shown(text)),
            "write a number with its unit, such as `500ms`, `30s`, `5m`, `8h` or `1h 30m`",
        ),
    }
}

/// A span of time that must not be `0`.
pub(super) fn some_duration(text: &str) -> Read<Duration> {
    match duration(text)? {
        Duration::ZERO => {
            wrong(format!("{} would wait for nothing", shown(text)), "write a time above zero, such as `30s`")
        }
        duration => Ok(duration),
    }
}

/// A span of time; `0` is none.
pub(super) fn bound(text: &str) -> Read<Option<Duration>> {
    duration(text).map(|duration| (!duration.is_zero()).then_some(duration))
}

/// What a call needs: at least one level.
pub(super) fn levels(text: &str) -> Read<Levels> {
    const WORDS: [&str; 9] = ["create", "read", "update", "delete", "write", "execute", "clone", "admin", "all"];
    match text.parse::<Levels>() {
        Ok(levels) if levels.is_empty() => wrong(
            "a call that needs nothing would be refused to everybody",
            "write a level, such as `execute` or `read`; `public` opens paths to all",
        ),
        Ok(levels) => Ok(levels),
        Err(unknown) => {
            let near = nearest(&unknown.0, WORDS).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            wrong(
                format!("unknown level {}", shown(&unknown.0)),
                format!(
                    "{near}write words (create, read, update, delete, write, execute, clone, admin) joined by commas, \
                     or letters of `crud`"
                ),
            )
        }
    }
}

/// The name of a namespace or service.
pub(super) fn name(text: &str) -> Read<String> {
    if valid_name(text) {
        Ok(text.to_owned())
    } else {
        wrong(
            format!("{} is no name", shown(text)),
            "write at most 63 lower-case letters, digits, `_` and `-`, a letter or digit first",
        )
    }
}

/// The name of an operation: one key of a resource name.
pub(super) fn operation_name(text: &str) -> Read<String> {
    let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=63).contains(&text.len()) && text.bytes().all(ordinary) {
        Ok(text.to_owned())
    } else {
        wrong(format!("{} is no name", shown(text)), "write at most 63 letters, digits, `_` and `-`")
    }
}

/// A text for people or other systems: a role, a user, a claim, an audience.
pub(super) fn label(text: &str) -> Read<String> {
    if text.is_empty() || text.trim() != text || text.len() > 255 || text.chars().any(char::is_control) {
        wrong(
            format!("{} is no name", shown(text)),
            "write at most 255 characters, without blanks around them and without control characters",
        )
    } else {
        Ok(text.to_owned())
    }
}

/// Cognito's `<region>_<name>`: pycarta takes what stands between the first underscore and the second as the name.
pub(super) fn pool_id(text: &str) -> Read<String> {
    let ordinary = |part: &str| {
        !part.is_empty() && part.len() <= 55 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match text.split_once('_') {
        Some((region, name)) if ordinary(region) && ordinary(name) => Ok(text.to_owned()),
        _ => wrong(
            format!("{} is no pool id", shown(text)),
            "write a region and a name of letters, digits and `-`, with exactly one underscore between them, such as \
             `local_carta`",
        ),
    }
}

/// A network, or a single address.
pub(super) fn network(text: &str) -> Read<IpNet> {
    let read = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match read {
        Ok(network) => Ok(network.trunc()),
        Err(_) => wrong(
            format!("{} is no network", shown(text)),
            "write an address, such as `10.0.0.7`, or a network, such as `10.0.0.0/24`",
        ),
    }
}

/// An `http` or `https` URL with a host and nothing but a path after it, without the path's trailing slash. Its text
/// is shown only as far as it can hold no password or key.
pub(super) fn web_url(text: &str) -> Read<Url> {
    let mut url = any_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return wrong(
            format!("{} has a query or a fragment", shown(before_query(text))),
            "write the URL up to its path; `[service.inject]` has `query`",
        );
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// An `http` or `https` URL of one document: path and query are kept as they are written, and there is no fragment.
pub(super) fn document_url(text: &str) -> Read<Url> {
    let url = any_url(text)?;
    if url.fragment().is_some() {
        return wrong(
            format!("{} has a fragment", shown(before_query(text))),
            "write the URL without `#` and what follows",
        );
    }
    Ok(url)
}

/// The part of a URL's text that holds no key.
fn before_query(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

fn any_url(text: &str) -> Read<Url> {
    let shown = if text.contains('@') { "this".to_owned() } else { shown(before_query(text)) };
    let example = "write it as `https://api.example.org/v2`";
    if text.chars().any(|found| found.is_whitespace() || found.is_control() || found == '\\') {
        return wrong(format!("{shown} has a blank, a control character or a backslash"), example);
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(cause) => return wrong(format!("{shown} is no URL: {cause}"), example),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong(format!("{shown} is neither http nor https"), example);
    }
    // The standard would also read `https:example.org` and `https:///example.org`.
    let authority = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
    if url.host().is_none() || authority.is_none_or(|rest| rest.starts_with('/')) {
        return wrong(format!("{shown} has no host"), example);
    }
    if authority.is_some_and(|rest| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'))) {
        return wrong(
            "the URL holds a user name or a password",
            "write it without them; `[service.inject]` has `basic_auth`",
        );
    }
    if url.port() == Some(0) {
        return wrong(format!("{shown} has the port 0"), example);
    }
    Ok(url)
}

/// Whether the URL stays on this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A host name, or `*.` and a suffix, in lower case.
pub(super) fn host_rule(text: &str) -> Read<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let read = if name.contains(['*', '/', '@', '%']) { None } else { Host::parse(name).ok() };
    match read {
        Some(host @ Host::Domain(_)) => {
            Ok(if name.len() < text.len() { format!("*.{host}") } else { host.to_string() })
        }
        Some(host) if name.len() == text.len() => Ok(host.to_string()),
        _ => wrong(
            format!("{} is no host name", shown(text)),
            "write a name without scheme and port, such as `api.example.org`, or `*.example.org` for all below it",
        ),
    }
}

/// A header's name.
pub(super) fn header_name(text: &str) -> Read<HeaderName> {
    HeaderName::from_bytes(text.as_bytes()).or_else(|_| {
        // Not shown: `X-Api-Key: value` may have been written where only the name belongs.
        wrong("that is no name of a header", "write letters, digits and `-`, such as `X-Api-Key`")
    })
}

/// A method in upper case.
pub(super) fn method(text: &str) -> Read<Method> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') => Ok(method),
        _ => wrong(format!("{} is no method", shown(text)), "write it in upper case, such as `POST`"),
    }
}

/// An origin as browsers send it, or `*`.
pub(super) fn origin(text: &str) -> Read<String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    match web_url(text) {
        Ok(url) if url.origin().ascii_serialization() == text => Ok(text.to_owned()),
        Ok(url) => wrong(
            format!("{} is not an origin as browsers send it", shown(text)),
            format!("write `{}`", url.origin().ascii_serialization()),
        ),
        Err(complaint) => wrong(complaint.what, "write scheme, host and port, such as `https://app.example.org`"),
    }
}

/// An exact endpoint path, decoded, without its trailing slash.
pub(super) fn public_path(text: &str) -> Read<String> {
    let instead = "write one exact path, such as `/health`, decoded and without query";
    let Some(rest) = text.strip_prefix('/') else {
        return wrong(format!("{} does not begin with `/`", shown(text)), instead);
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Ok("/".to_owned());
    }
    let odd = |found: char| found.is_control() || matches!(found, '*' | '{' | '}' | '?' | '#' | '%' | '\\');
    if rest.contains(odd) || rest.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return wrong(format!("{} is no exact path", shown(text)), instead);
    }
    Ok(format!("/{rest}"))
}

/// 32 random bytes in base64. Never shown.
pub(super) fn vault_key(text: &str) -> Read<VaultKey> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let make = "make one: `head -c 32 /dev/urandom | base64 > vault.key`, and write `key = \"file:vault.key\"`";
    let Ok(bytes) = BASE64.decode(text.trim()).map(Zeroizing::new) else {
        return wrong("the vault key is not base64", make);
    };
    let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) else {
        return wrong(format!("the vault key has {} bytes where 32 are needed", bytes.len()), make);
    };
    if key.iter().all(|byte| Some(byte) == key.first()) {
        return wrong("the vault key is one byte repeated", make);
    }
    Ok(VaultKey(key))
}
