//! The contract's own example, and a table of bad files with the exact texts.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

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
        ("admin.key", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
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

/// `faults.txt` holds blocks of a title, a file, `---` and exactly what is said about it. To take over changed texts
/// (and read the difference), run the test with `CARTA_BLESS=1`.
#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let table = include_str!("faults.txt");
    let mut said = String::new();
    for block in table.split("=== ").skip(1) {
        let (input, _) = block.split_once("\n---\n").unwrap();
        let (title, text) = input.split_once('\n').unwrap();
        let faults = faults(text);
        assert!(!faults.contains("canary"), "{title}:\n{faults}");
        said.push_str(&format!("=== {title}\n{text}\n---\n{faults}\n"));
    }
    if std::env::var_os("CARTA_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/resolve/faults.txt"), said).unwrap();
    } else {
        assert!(said == table, "the faults are now:\n{said}");
    }
}

#[test]
fn the_address_of_an_issuers_keys_is_kept_as_it_is_written() {
    let directory = directory();
    for url in ["https://idp.example.org/application/o/x/jwks/", "https://idp.example.org/keys?p=policy"] {
        let text = format!(
            "[vault]\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n[[auth.jwt]]\nissuer = \
             \"https://idp.example.org\"\naudience = [\"c\"]\njwks_url = \"{url}\""
        );
        let config = read_in(directory.path(), &text).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(config.auth.jwt[0].jwks_url.as_ref().map(url::Url::as_str), Some(url));
    }
}

#[test]
fn a_staleness_that_a_store_at_hand_would_exceed_is_a_fault() {
    for (text, fine) in [("0", false), ("0s", false), ("999ms", false), ("1s", true), ("5m", true)] {
        let said = faults(&format!("store.max_staleness = \"{text}\""));
        assert_eq!(said == "no fault", fine, "{text}: {said}");
        assert!(fine || said.starts_with("gateway.toml:1:23: store.max_staleness: "), "{said}");
    }
}

#[test]
fn what_a_compiled_service_would_refuse_to_inject_is_a_fault_already_when_it_is_read() {
    for name in
        ["Content-Type", "content_encoding", "Content-Range", "X-HTTP-Method", "X-Method_Override", "X-Original-Url"]
    {
        let said =
            registered(json!({ "base_url": "http://x", "inject": { "headers": { name: "canary" } } })).unwrap_err();
        assert!(said.contains(&format!("the header `{name}` cannot be injected: ")), "{said}");
    }
}

fn registered(table: Json) -> Result<Service, String> {
    parse_service("a", "b", &table).map_err(|faults| {
        let text = faults.to_string();
        assert!(!text.contains("canary"), "{text}");
        text
    })
}

#[test]
fn a_registered_service_has_the_same_table_as_json() {
    let service = registered(json!({
        "namespace": "a",
        "name": "b",
        "base_url": [{ "url": "https://api.example.org", "weight": 3 }, "https://b.example.org/"],
        "level": "read",
        "owner": null,
        "forward_token": true,
        "timeouts": { "total": "1m", "connect": null },
        "inject": { "headers": { "X-Key": "{secret:key}" } },
        "operation": [{ "name": "tag", "match": "PUT /tags/{id}", "resource": "a.b.tag.{id}" }],
    }))
    .unwrap();
    assert_eq!((service.namespace.as_str(), service.name.as_str(), service.owner), ("a", "b", None));
    assert_eq!(service.endpoints.iter().map(|endpoint| endpoint.weight).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(service.forward_token, TokenForwarding::Minted);
    assert_eq!(service.timeouts.total, Some(Duration::from_secs(60)));
    assert_eq!(service.timeouts.connect, Some(Duration::from_secs(2)));
    assert!(!service.trusted);
}

#[test]
fn a_registered_service_has_the_same_faults_by_key() {
    for (table, said) in [
        (json!(["canary"]), "a service is a JSON object\n  send an object such as {\"base_url\": \"…\"}"),
        (json!({}), "base_url: is missing\n  write `base_url = \"https://…\"`"),
        (
            json!({ "base_url": "http://x", "name": "c", "owner": "o" }),
            "name: the service is `a/b`\n  leave it out; renaming is a call\nowner: the owner of a registered service \
             is not part of its table\n  leave it out",
        ),
        (
            json!({ "base_url": "http://x", "inject": { "headers": { "A": "canary${TOKEN}", "B": "file:/etc/passwd" } } }),
            "inject.headers.A: `${…}` is for gateway.toml only\n  write the value itself, or `{secret:NAME}` for a \
             secret of the caller\ninject.headers.B: `file:` is for gateway.toml only\n  write the value itself, or \
             `{secret:NAME}` for a secret of the caller",
        ),
        (
            json!({ "base_url": "http://x", "forward_token": "full" }),
            "forward_token: `full` passes on the caller's own token and is for gateway.toml only\n  write true: a token \
             minted for this service",
        ),
        (
            json!({ "base_url": "http://x", "tls": { "key": "canary", "ca": "file:ca.pem" } }),
            "tls.ca: `file:` is for gateway.toml only\n  write the value itself, or `{secret:NAME}` for a secret of the \
             caller\ntls.key: a private key cannot be registered: it would be stored unsealed\n  declare the service in \
             gateway.toml, where the key can be named as `file:PATH`",
        ),
        (
            json!({ "base_url": "http://x", "operation": [{ "name": "o", "match": "GET /{id}", "resource": "c.{id}" }] }),
            "operation[0].resource: the resource of a registered service's operation is not below the service\n  begin \
             it with `{namespace}.{service}`",
        ),
        (
            json!({ "base_url": 7, "injekt": {}, "inject": { "query": { "a": true } } }),
            "base_url: expected a URL or a list of URLs, found a number\n  write a URL or a list of URLs\ninjekt: unknown \
             key\n  did you mean `inject`? known here: `namespace`, `name`, `base_url`, `owner`, `level`, `unmatched`, \
             `public`, `forward_token`, `tunnel`, `timeouts`, `tls`, `inject`, `operation`, `cors`\ninject.query.a: expected text, \
             found true or false\n  put it in quotes",
        ),
    ] {
        assert_eq!(registered(table).unwrap_err(), said);
    }
}

#[test]
fn a_table_that_would_cost_every_call_too_much_is_refused() {
    let many = |count: usize, of: fn(usize) -> String| (0..count).map(of).collect::<Vec<_>>();
    let pairs =
        |count: usize| many(count, |n| format!("X-{n}")).into_iter().map(|key| (key, json!("{user}"))).collect();
    let patterns = |count: usize| json!([{ "name": "o", "match": many(count, |n| format!("GET /{n}")) }]);
    let long = "a".repeat(8193);
    for (key, fits, too_many, said) in [
        (
            "operation",
            patterns(256),
            patterns(257),
            "operation[0].match: 257 of these are too many\n  write at most 256",
        ),
        (
            "operation",
            patterns(1),
            json!([
                { "name": "o", "match": many(200, |n| format!("GET /{n}")) },
                { "name": "p", "match": many(57, |n| format!("PUT /{n}")) },
            ]),
            "operation: the operations have 257 patterns, which are too many\n  write at most 256 in all",
        ),
        (
            "inject",
            json!({ "headers": Json::Object(pairs(64)), "query": Json::Object(pairs(64)) }),
            json!({ "headers": Json::Object(pairs(65)), "query": Json::Object(pairs(65)), "cookies": Json::Object(pairs(65)) }),
            "inject.headers: 65 of these are too many\n  write at most 64\ninject.query: 65 of these are too many\n  \
             write at most 64\ninject.cookies: 65",
        ),
        (
            "inject",
            json!({}),
            json!({ "query": { "a": long } }),
            "inject.query.a: the template is longer than 8192 bytes",
        ),
        (
            "inject",
            json!({ "query": { "a": "{user}".repeat(8) } }),
            json!({ "query": { "a": "{user}".repeat(9) } }),
            "inject.query.a: the template has more than 8 variables",
        ),
        (
            "public",
            json!(many(256, |n| format!("/{n}"))),
            json!(many(257, |n| format!("/{n}"))),
            "public: 257 of these are too many",
        ),
        (
            "base_url",
            json!(many(64, |n| format!("http://h{n}"))),
            json!(many(65, |n| format!("http://h{n}"))),
            "base_url: 65 of these are too many",
        ),
        (
            "cors",
            json!({ "origins": many(64, |n| format!("https://h{n}")) }),
            json!({ "origins": many(65, |n| format!("https://h{n}")) }),
            "cors.origins: 65 of these are too many",
        ),
    ] {
        let table = |value: &Json| {
            let mut table = json!({ "base_url": "http://x" });
            table[key] = value.clone();
            registered(table)
        };
        table(&fits).unwrap_or_else(|faults| panic!("{key}: {faults}"));
        let faults = table(&too_many).map(|_| ()).unwrap_err();
        assert!(faults.starts_with(said), "{faults}");
    }
}

#[test]
fn references_reach_the_upstream_and_nothing_that_is_shown() {
    let config = read_in(
        directory().path(),
        r#"
[[service]]
namespace = "a"
name = "b"
owner = "o"
base_url = "https://x"
tls = { certificate = "file:cert.pem", key = "file:key.pem" }
inject.headers = { Authorization = "Bearer ${TOKEN}", X-File = "file:token", X-Plain = "canary-plain {user}" }
inject.basic_auth = { username = "", password = "canary" }
"#,
    );
    let faults = config.map(|_| ()).unwrap_err().to_string();
    assert!(faults.contains("`basic_auth` sets this header too"), "{faults}");
    let config = read_in(
        directory().path(),
        r#"
[[service]]
namespace = "a"
name = "b"
owner = "o"
base_url = "https://x"
tls = { certificate = "file:cert.pem", key = "file:key.pem" }
inject.headers = { X-Env = "Bearer ${TOKEN}", X-File = "file:token", X-Plain = "canary-plain {user}" }
inject.basic_auth = { username = "", password = "canary" }
"#,
    )
    .unwrap();
    let injected = &config.services[0].inject;
    let texts: Vec<_> = injected.headers.iter().map(|(_, template)| template.literals().collect::<String>()).collect();
    assert_eq!(texts, ["Bearer canary-env", "canary-token", "canary-plain "]);
    assert_eq!(&*injected.headers[0].1.written, "Bearer ${TOKEN}");
    assert!(config.services[0].tls.identity.is_some());
    let shown = format!("{config:?} {config:#?}");
    for hidden in ["canary", "PRIVATE KEY", &format!("{:?}", config.vault.key.0)] {
        assert!(!shown.contains(hidden), "{hidden}");
    }
}

#[test]
fn a_file_that_is_not_there_or_not_utf_8_says_so() {
    let directory = directory();
    let path = directory.path().join("gateway.toml");
    let said = |path: &Path| {
        let faults = load(path, &env).map(|_| ()).unwrap_err().to_string();
        faults.replace(&format!("{}/", directory.path().display()), "")
    };
    assert!(said(&path).starts_with("gateway.toml: cannot read the configuration: no such file or directory\n"));
    std::fs::write(&path, b"[log]\n# \xc3\xa4 \xff").unwrap();
    assert_eq!(said(&path), "gateway.toml:2:5: the file is not UTF-8 here\n  save it as UTF-8");
    std::fs::write(&path, b"").unwrap();
    assert!(load(&path, &env).is_ok());
}

proptest! {
    #[test]
    fn reading_never_panics(text in "\\PC{0,80}") {
        let _ = parse(&text, Path::new("gateway.toml"), &env);
    }

    /// The contract's example with a piece cut out and another put in.
    #[test]
    fn a_damaged_file_never_panics_and_every_fault_has_its_place(
        from in 0usize..1600, length in 0usize..40, piece in "[\\[\\]{}=\"'\n.#a-z0-9äß$]{0,12}"
    ) {
        let text = include_str!("contract.toml");
        let from = text.floor_char_boundary(from);
        let to = text.floor_char_boundary(from + length);
        let text = format!("{}{piece}{}", &text[..from], &text[to..]);
        if let Err(faults) = parse(&text, Path::new("gateway.toml"), &env) {
            for fault in faults.iter() {
                let place = fault.place.as_ref().unwrap();
                prop_assert!(place.line <= text.lines().count() + 1, "{}", fault);
                prop_assert!(!fault.what.is_empty() && !fault.instead.is_empty());
            }
        }
    }

    #[test]
    fn a_table_with_any_values_never_panics(
        key in prop::sample::select(vec![
            "base_url", "level", "public", "forward_token", "tunnel", "timeouts", "tls", "inject", "operation", "cors", "x",
        ]),
        value in any_json(),
    ) {
        let _ = parse_service("a", "b", &json!({ "base_url": "http://x", key: value }));
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let words =
        ["headers", "query", "match", "name", "url", "weight", "origins", "basic_auth", "username", "x", "GET /{a}"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        prop::sample::select(words.to_vec()).prop_map(Json::from),
        "\\PC{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((prop::sample::select(words.to_vec()), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}
