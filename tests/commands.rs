//! The commands as an operator meets them: what they print, where, and with which exit code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use support::gateway::OWNER;
use support::tls::Authority;
use support::{A_SECOND_WITH_SLACK, Gateway, Upstream, eventually};

const COMMANDS: [&str; 16] = [
    "serve",
    "quickstart",
    "check",
    "user",
    "group",
    "grant",
    "revoke",
    "transfer",
    "token",
    "issuer",
    "explain",
    "policy",
    "import",
    "vault",
    "bench",
    "health",
];

#[test]
fn help_reads_like_a_manual_page_and_usage_errors_end_with_2() {
    let gateway = Gateway::builder().prepare();
    let help = gateway.run(&["--help"]).done();
    for command in COMMANDS {
        assert!(help.contains(command), "`{command}` is missing:\n{help}");
    }
    for command in COMMANDS {
        let text = gateway.run(&[command, "--help"]).done();
        assert!(text.lines().count() > 5, "{text}");
    }
    assert!(gateway.run(&["--version"]).done().contains(env!("CARGO_PKG_VERSION")));
    for wrong in [
        &["nonsense"][..],
        &[],
        &["grant", "alice"],
        &["user", "add"],
        &["serve", "--nonsense"],
        &["token", OWNER, "--ttl", "nonsense"],
        &["grant", OWNER, "materials", "nonsense"],
        &["serve", "--config", "missing.toml"],
    ] {
        let ran = gateway.run(wrong).code(2);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{wrong:?}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn check_says_every_fault_at_once_with_its_place() {
    let gateway = Gateway::builder().prepare();
    gateway.run(&["check"]).done();
    let config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    let faulty = format!(
        "{config}\n[limits]\nheaders = \"many\"\nnonsense = 1\n[[auth.jwt]]\nissuer = \"https://x\"\n[[service]]\nnamespace \
         = \"Bad Name\"\nname = \"ok\"\nbase_url = \"ftp://x\"\nowner = \"{OWNER}\"\nlevel = \"fly\"\n"
    );
    std::fs::write(gateway.path("gateway.toml"), &faulty).unwrap();
    let ran = gateway.run(&["check"]).code(1);
    let said = format!("{}{}", ran.out, ran.err);
    for (key, sign) in [
        ("headers", "headers = "),
        ("nonsense", "nonsense = "),
        ("audience", ""),
        ("namespace", "namespace ="),
        ("base_url", "base_url = \"ftp"),
        ("level", "level = \"fly"),
    ] {
        assert!(said.contains(key), "`{key}` is missing:\n{said}");
        if !sign.is_empty() {
            let line = faulty.lines().position(|line| line.contains(sign)).unwrap() + 1;
            assert!(said.contains(&format!("gateway.toml:{line}:")), "{key} at line {line}:\n{said}");
        }
    }
    gateway.run(&["serve"]).code(2);
}

#[test]
fn check_reports_an_owner_who_is_not_there_and_prints_the_schema() {
    let gateway = Gateway::builder().prepare();
    let schema: serde_json::Value = serde_json::from_str(&gateway.run(&["check", "--schema"]).done()).unwrap();
    assert!(schema["properties"]["listen"].is_object(), "{schema}");
    let mut config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    config += "[[service]]\nnamespace = \"a\"\nname = \"b\"\nbase_url = \"http://127.0.0.1:1\"\nowner = \"zoe\"\n";
    std::fs::write(gateway.path("gateway.toml"), config).unwrap();
    let ran = gateway.run(&["check"]).code(1);
    assert!(format!("{}{}", ran.out, ran.err).contains("zoe"), "{}{}", ran.out, ran.err);
    gateway.run(&["user", "add", "zoe"]).done();
    gateway.run(&["check"]).done();
}

#[test]
fn a_service_in_somebody_elses_namespace_stops_the_start() {
    let gateway = Gateway::builder().user("mallory", &[]).start();
    let mallory = gateway.token("mallory");
    gateway.rest("POST", "/service/reserve/materials").token(&mallory).body("").expect(200);
    gateway.kill();
    let mut config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    config.push_str("[[service]]\nnamespace = \"materials\"\nname = \"mp\"\nbase_url = \"http://127.0.0.1:9\"\n");
    config.push_str("owner = \"olga\"\n");
    std::fs::write(gateway.path("gateway.toml"), &config).unwrap();
    let said = gateway.run(&["serve"]).code(2).err;
    assert!(said.contains("the namespace `materials` belongs to `mallory`"), "{said}");
    assert!(said.contains("\nwrite another namespace"), "{said}");
    std::fs::write(gateway.path("gateway.toml"), config.replace("\"materials\"", "\"metals\"")).unwrap();
    gateway.serve();
}

#[test]
fn users_are_added_once_and_what_is_not_there_is_said() {
    let gateway = Gateway::builder().user("alice", &["--email", "alice@example.org", "--role", "Scientist"]).prepare();
    let twice = gateway.run(&["user", "add", "alice"]).code(1);
    assert!(twice.err.contains("`alice`"), "{}", twice.err);
    for arguments in [
        &["token", "zoe"][..],
        &["user", "disable", "zoe"],
        &["user", "enable", "zoe"],
        &["grant", "zoe", "materials", "execute"],
        &["grant", "group:Nobody", "materials", "execute"],
        &["explain", "--user", "zoe", "GET", "/materials/mp/x"],
    ] {
        let ran = gateway.run(arguments);
        assert!(matches!(ran.code, Some(1 | 2)), "{arguments:?}: {:?}", ran.code);
        assert!(!ran.err.is_empty() && !ran.err.contains("panicked"), "{arguments:?}: {}", ran.err);
    }
    let weak = gateway.run_with(&["user", "passwd", "alice"], "\n");
    assert!(matches!(weak.code, Some(1 | 2)), "an empty password is none: {:?}", weak.code);
    gateway.run_with(&["user", "add", "bob", "--password-stdin"], "Correct-Horse-7\n").done();
}

#[test]
fn a_role_is_changed_and_holds_from_the_next_request() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    gateway.run(&["grant", "role:Analyst", "materials.mp", "execute"]).done();
    let bob = gateway.token("bob");
    gateway.call("GET", "/materials/mp/x").token(&bob).expect(403);
    let said = gateway.run(&["user", "role", "bob", "Analyst"]).done();
    assert!(said.starts_with("bob has the role Analyst now, and Guest no longer (revision "), "{said}");
    let status = || gateway.call("GET", "/materials/mp/x").token(&bob).send().status();
    eventually("the role holds", A_SECOND_WITH_SLACK, || (status() == 200).then_some(()));
    assert_eq!(gateway.run(&["user", "role", "bob", "Analyst"]).done(), "bob has the role Analyst already\n");
    gateway.run(&["user", "role", "zoe", "Analyst"]).code(1);
    for role in ["", " Analyst", "a\nb"] {
        gateway.run(&["user", "role", "bob", role]).code(2);
        gateway.run(&["user", "add", "zoe", "--role", role]).code(2);
    }
    gateway.run(&["user", "role", "bob", "Guest"]).done();
    eventually("the role is gone", A_SECOND_WITH_SLACK, || (status() == 403).then_some(()));
}

#[test]
fn there_is_always_an_administrator_once_there_was_one() {
    let gateway = Gateway::builder().user("bob", &[]).prepare();
    let refused = gateway.run(&["user", "admin", OWNER, "off"]).code(1).err;
    assert!(refused.contains(&format!("without `{OWNER}` there would be no administrator")), "{refused}");
    let said = gateway.run(&["user", "admin", "bob", "on"]).done();
    assert!(said.starts_with("bob is an administrator now (revision "), "{said}");
    assert_eq!(gateway.run(&["user", "admin", "bob", "on"]).done(), "bob is an administrator already\n");
    let said = gateway.run(&["user", "admin", OWNER, "off"]).done();
    assert!(said.starts_with(&format!("{OWNER} is no administrator any more (revision ")), "{said}");
    assert_eq!(gateway.run(&["user", "admin", OWNER, "off"]).done(), format!("{OWNER} is no administrator\n"));
    gateway.run(&["user", "admin", "bob", "off"]).code(1);
    gateway.run(&["user", "admin", "bob", "maybe"]).code(2);
}

#[test]
fn token_prints_the_token_and_nothing_else() {
    let gateway = Gateway::builder().prepare();
    let ran = gateway.run(&["token", OWNER, "--ttl", "1h"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.out.trim_end().split('.').count(), 3);
    assert_eq!(ran.out.lines().count(), 1);
}

#[test]
fn explain_says_the_decision_the_grant_and_who_could_change_it() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let allowed = gateway.run(&["explain", "--user", "alice", "GET", "/materials/mp/x"]);
    assert_eq!(allowed.code, Some(0), "{}{}", allowed.out, allowed.err);
    assert!(allowed.out.contains("materials.mp") && allowed.out.contains("execute"), "{}", allowed.out);
    let denied = gateway.run(&["explain", "--user", "bob", "GET", "/materials/mp/x"]);
    assert_eq!(denied.code, Some(1), "what was asked about is not fine: {}{}", denied.out, denied.err);
    assert!(denied.out.contains(OWNER), "who could change it: {}", denied.out);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn explain_answers_as_the_gateway_does_whatever_the_path() {
    let upstream = Upstream::fixed("ok");
    let operations = "public = [\"/health\", \"/docs/index\"]\n[[service.operation]]\nname = \"item\"\nmatch = \"GET \
                      /x/{id}\"\nresource = \"{namespace}.{service}.item.{id}\"\n[[service.operation]]\nname = \
                      \"write\"\nmatch = \"POST|PUT /x/{id}\"\nlevel = \"update\"\n[[service.operation]]\nname = \
                      \"rest\"\nmatch = \"GET /files/**\"";
    let loose = format!("unmatched = \"level\"\n{operations}");
    let gateway = Gateway::with_service(&upstream.url(), "public = [\"/\"]")
        .service("a", "strict", &upstream.url(), operations)
        .service("a", "loose", &upstream.url(), &loose)
        .user("dora", &[])
        .grant("alice", "a", "execute")
        .grant("bob", "a.strict.item.7", "execute")
        .grant("bob", "a.loose", "update")
        .start();
    let tokens: Vec<_> = ["alice", "bob", "dora"].map(|name| (name, gateway.token(name))).into();
    gateway.run(&["user", "disable", "dora"]).done();
    let of_each = |rest: &str| ["strict", "loose"].map(|service| format!("/a/{service}{rest}"));
    let mut targets: Vec<String> = [
        "",
        "/",
        "/x",
        "/x/7",
        "/x/8",
        "/x/7/",
        "/x/7%2F8",
        "/x/%37",
        "/x//7",
        "/x/7;v=1",
        "/X/7",
        "/x/7/8",
        "/health",
        "/health/",
        "/h%65alth",
        "/docs/index",
        "/docs%2Findex",
        "/docs//index",
        "/files",
        "/files/a%2Fb",
        "/files/a/../b",
        "/files/%zz",
        "/other",
    ]
    .iter()
    .flat_map(|rest| of_each(rest))
    .collect();
    targets.extend(
        ["/materials/mp", "/materials/mp/", "/materials/mp//", "/materials/mp/y", "/a/none/x", "/a", "/a%2Fb/c"]
            .map(str::to_owned),
    );
    support::eventually("dora is refused", support::A_SECOND_WITH_SLACK, || {
        (gateway.call("GET", "/materials/mp/y").token(&tokens[2].1).send().status() == 401).then_some(())
    });
    for (at, target) in targets.iter().enumerate() {
        for (who, (name, token)) in tokens.iter().enumerate() {
            // Each path by one method, or two, for each user: a command costs a process.
            let methods =
                if target.contains("/x/7") { &["GET", "PUT"][..] } else { &[["GET", "HEAD", "POST"][(at + who) % 3]] };
            for method in methods {
                let status = gateway.call(method, target).token(token).send().status();
                let ran = gateway.run(&["explain", "--user", name, method, target]);
                let allowed = match status {
                    200 => Some(0),
                    400 | 401 | 403 | 404 => Some(1),
                    other => panic!("{name} {method} {target}: {other}"),
                };
                assert_eq!(ran.code, allowed, "{name} {method} {target}: {status}\n{}{}", ran.out, ran.err);
            }
        }
    }
}

#[test]
fn quickstart_walks_the_whole_flow_by_itself() {
    let gateway = Gateway::builder().prepare();
    let ran = gateway.run(&["quickstart", "--check"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for step in ["nobody is refused: 401", "before the grant: 403", "bob's own key", "as expected"] {
        assert!(ran.out.contains(step), "{}", ran.out);
    }
    assert!(!ran.out.contains("unexpected") && !ran.err.contains("panicked"), "{}{}", ran.out, ran.err);
}

#[test]
fn health_tells_whether_the_gateway_of_this_configuration_is_ready() {
    let gateway = Gateway::builder().prepare();
    let ran = gateway.run(&["health"]).code(1);
    assert!(ran.err.contains("does not answer"), "{}", ran.err);
    gateway.serve();
    gateway.run(&["health"]).done();

    let authority = Authority::new();
    let certificate = authority.certify(&["gw.example.org"]);
    let mut sealed = Gateway::builder()
        .listen("[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"")
        .file("cert.pem", &certificate.chain)
        .file("key.pem", &certificate.key)
        .prepare();
    sealed.tls = true;
    sealed.serve();
    support::eventually("the gateway is well", support::PATIENCE, || {
        (sealed.run(&["health"]).code == Some(0)).then_some(())
    });
}

#[test]
fn bench_prints_percentiles() {
    let gateway = Gateway::builder().prepare();
    let ran = gateway.run(&["bench", "--users", "200", "--services", "50", "--decisions", "20000", "--calls", "200"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for column in ["p50", "p99", "max"] {
        assert!(ran.out.contains(column), "{}", ran.out);
    }
    // In process, the service alone, and through the gateway: each with five times.
    for layer in ["decision anew, one user", "call of the service itself", "call through the gateway"] {
        let row = ran.out.lines().find_map(|line| line.strip_prefix(layer)).unwrap_or_else(|| panic!("{}", ran.out));
        let times = row.split_whitespace().filter(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        assert!(times.count() >= 5, "{layer}: {row}");
    }
}

#[test]
fn a_command_does_not_wait_for_a_terminal_or_print_colours_to_a_pipe() {
    let gateway = Gateway::builder().prepare();
    for arguments in [&["--help"][..], &["check"], &["user", "add", "alice"]] {
        let ran = gateway.run(arguments);
        assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{arguments:?}: {}{}", ran.out, ran.err);
    }
    gateway.serve();
    gateway.call("GET", "/materials/mp/x").expect(401);
    gateway.signal("TERM");
    gateway.wait_for_end();
    assert!(!gateway.log().is_empty() && !gateway.log().contains('\u{1b}'), "{}", gateway.log());
}

#[test]
fn an_operator_moves_an_ownership_that_its_owner_left_behind() {
    let gateway = Gateway::builder().user("alice", &[]).user("bob", &[]).start();
    let alice = gateway.token("alice");
    gateway.rest("POST", "/service/reserve/lab").token(&alice).body("").expect(200);
    gateway.run(&["grant", "bob", "lab", "none"]).done();
    let said = gateway.run(&["transfer", "lab", "bob", "--keep", "read"]).done();
    assert!(said.starts_with("bob owns lab now"), "{said}");
    assert!(gateway.run(&["transfer", "lab", "bob"]).done().contains("already"));
    let bob = gateway.token("bob");
    support::eventually("bob owns it", support::PATIENCE, || {
        let details = gateway.rest("GET", "/service/details/lab").token(&bob).send();
        (details.status() == 200 && details.json()["permission"] == "Read, Write, Execute, Clone, Admin").then_some(())
    });
    assert_eq!(gateway.rest("GET", "/service/details/lab").token(&alice).expect(200).json()["permission"], "Read");
    gateway.run(&["grant", "bob", "lab", "read"]).code(1);
    for arguments in [&["transfer", "lab", "zoe"][..], &["transfer", "nothing", "bob"]] {
        gateway.run(arguments).code(1);
    }
}
