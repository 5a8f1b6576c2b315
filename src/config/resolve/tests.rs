//! The contract's own example, and a table of bad files with the exact texts.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::{Protocol, TemplatePart, TokenForwarding, Unmatched, Variable};
use crate::policy::Levels;

const KEY: &str = "BwgHCAcIBwgHCAcIBwgHCAcIBwgHCAcIBwgHCAcIBwg=";

/// A directory with a vault key, a certificate and its key.
pub(super) fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::create_dir(directory.path().join("tls")).unwrap();
    for (name, content) in [
        ("vault.key", format!("{KEY}\n")),
        ("cert.pem", pair.cert.pem()),
        ("key.pem", pair.signing_key.serialize_pem()),
        ("other.pem", other.signing_key.serialize_pem()),
        ("private-ca.pem", other.cert.pem()),
        ("tls/cert.pem", pair.cert.pem()),
        ("tls/key.pem", pair.signing_key.serialize_pem()),
        ("token", "canary-token\n".to_owned()),
    ] {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" | "SITE_TOKEN" => Some("canary-env".to_owned()),
        "BROKEN" => Some("canary\nline".to_owned()),
        _ => None,
    }
}

pub(super) fn read_in(directory: &Path, text: &str) -> Result<Config, Faults> {
    parse(text, &directory.join("gateway.toml"), &env)
}

fn faults(text: &str) -> String {
    let directory = directory();
    let faults =
        read_in(directory.path(), text).map(|_| "no fault".to_owned()).unwrap_or_else(|faults| faults.to_string());
    faults.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn everything_in_the_contract_is_accepted_as_written_there() {
    let directory = directory();
    let text = include_str!("contract.toml");
    let config = read_in(directory.path(), text).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listen.public_proxy.as_str(), "https://gw.example.org/");
    assert_eq!(config.listen.tls.unwrap().key, directory.path().join("tls/key.pem"));
    assert_eq!(config.store.url, StoreUrl::Sqlite(directory.path().join("carta.db")));
    assert_eq!(config.store.max_staleness, Duration::from_secs(300));
    assert_eq!(config.auth.local.token_ttl, Duration::from_secs(8 * 3600));
    assert_eq!(config.auth.jwt[0].user_claim, "cognito:username");
    let header = config.auth.header.unwrap();
    assert_eq!((header.name.as_str(), header.first_user_role.as_deref()), ("x-forwarded-email", Some("Admin")));
    let service = &config.services[0];
    assert_eq!(service.endpoints[0].url.as_str(), "https://api.example.org/v2");
    assert_eq!(service.owner.as_deref(), Some("alice"));
    assert_eq!((service.level, service.unmatched), (Levels::EXECUTE, Unmatched::Refuse));
    assert_eq!(service.public, ["/health"]);
    assert_eq!(service.forward_token, TokenForwarding::No);
    assert_eq!(service.timeouts.connect, Some(Duration::from_secs(2)));
    assert_eq!(service.timeouts.total, None);
    assert!(service.tls.ca.as_ref().unwrap().starts_with(b"-----BEGIN"));
    assert_eq!(service.tls.protocol, Protocol::Auto);
    let (name, template) = &service.inject.headers[0];
    assert_eq!(name, "x-api-key");
    assert!(matches!(&template.parts[..], [TemplatePart::Variable(Variable::Secret(name))] if &**name == "mp-api-key"));
    assert_eq!(service.inject.headers[1].0, "x-requested-by");
    assert_eq!(service.operations[0].level, Some(Levels::CREATE));
    assert_eq!(config.register.allow_hosts, ["*.example.org"]);
    assert!(service.trusted);
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let text = r#"
[listen]
proxi = "127.0.0.1:1"
workers = "4"
api = 5
[store]
url = "postgres://u:canary@h/db"
max_staleness = "5 fortnights"
"#;
    let expected = "\
gateway.toml:3:1: listen.proxi: unknown key
  did you mean `proxy`? known here: `proxy`, `api`, `public_url`, `tls`, `workers`, `drain`
gateway.toml:4:11: listen.workers: expected a whole number, found text
  write it without quotes
gateway.toml:5:7: listen.api: expected text, found a number
  put it in quotes
gateway.toml:7:7: store.url: a PostgreSQL store is not built into this version
  write `sqlite://carta.db`; the path starts at the directory of gateway.toml
gateway.toml:8:17: store.max_staleness: `5 fortnights` is no span of time
  write a number with its unit, such as `500ms`, `30s`, `5m`, `8h` or `1h 30m`";
    assert_eq!(faults(text), expected);
}
