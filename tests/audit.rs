//! The audit from outside: what was done to the store's file behind the gateway's back, and how `audit verify` tells it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::json;
use support::{Gateway, PATIENCE, Ran, eventually};

const PAST_THE_TRIGGERS: &str = "DROP TRIGGER IF EXISTS audit_is_not_rewritten; DROP TRIGGER IF EXISTS \
                                 audit_is_not_shortened; DROP TRIGGER IF EXISTS audit_grows_at_its_end;";

/// Twelve entries or so, made by commands.
fn populated() -> Gateway {
    let mut builder = Gateway::builder();
    for name in ["ann", "bob", "eve", "kim"] {
        builder = builder.user(name, &[]);
    }
    let gateway = builder.grant("ann", "ns.svc", "read").grant("bob", "ns.svc", "execute").prepare();
    gateway.run(&["group", "add", "Lab"]).done();
    gateway
}

fn file(gateway: &Gateway) -> Connection {
    let connection = Connection::open(gateway.path("carta.db")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

fn attack(gateway: &Gateway, statements: &str) {
    file(gateway).execute_batch(&format!("{PAST_THE_TRIGGERS}{statements}")).unwrap();
}

fn verify(gateway: &Gateway, arguments: &[&str]) -> Ran {
    gateway.run(&[&["audit", "verify"], arguments].concat())
}

/// That the audit is told to be broken, with this in the message.
fn broken(gateway: &Gateway, arguments: &[&str], message: &str) {
    let ran = verify(gateway, arguments).code(1);
    assert!(ran.err.starts_with("the audit is broken: "), "{}", ran.err);
    assert!(ran.err.contains(message), "{message}: {}", ran.err);
    assert!(
        ran.err.contains("\ncopy the store's files") || ran.err.contains(": copy the store's files"),
        "{}",
        ran.err
    );
}

fn head(gateway: &Gateway) -> String {
    gateway.run(&["audit", "head"]).done().trim_end().to_owned()
}

fn entries(gateway: &Gateway) -> Vec<serde_json::Value> {
    let lines = gateway.run(&["audit", "export"]).done();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_audit_that_nobody_touched_is_whole_and_says_who_did_what() {
    let gateway = populated();
    let out = verify(&gateway, &[]).done();
    let head = head(&gateway);
    assert!(out.contains(&format!("head {head}\n")), "{out}");
    assert!(out.contains("only a head kept elsewhere can tell"), "{out}");
    let out = verify(&gateway, &["--head", &head]).done();
    assert!(!out.contains("kept elsewhere"), "{out}");
    let entries = entries(&gateway);
    assert!(out.contains(&format!("whole: entries 1 to {}", entries.len())), "{out}");
    assert!(head.starts_with(&format!("{}:", entries.len())));
    let grant = entries.iter().find(|entry| entry["what"] == "grant.put").unwrap();
    assert_eq!((&grant["target"], &grant["via"], &grant["before"]), (&json!("ns.svc"), &json!("cli"), &json!(null)));
    assert_eq!(grant["after"]["levels"], "read");
    let later = gateway.run(&["audit", "export", "--after", &(entries.len() - 1).to_string()]).done();
    assert_eq!(later.lines().count(), 1);
}

#[test]
fn every_column_that_was_altered_is_found() {
    let gateway = populated();
    let connection = file(&gateway);
    connection.execute_batch(PAST_THE_TRIGGERS).unwrap();
    for (column, value) in [
        ("revision", "99"),
        ("at", "at - 1"),
        ("user", "randomblob(16)"),
        ("via", "'api'"),
        ("came_from", "'127.0.0.1'"),
        ("request_id", "'00000000000000000000000000000000'"),
        ("what", "'user.update'"),
        ("target", "'mallory'"),
        ("before", "'{}'"),
        ("after", "'{}'"),
        ("resource", "randomblob(16)"),
        ("chain", "randomblob(32)"),
    ] {
        let cell = format!("SELECT {column} FROM audit WHERE seq = 4");
        let was: Value = connection.query_row(&cell, [], |row| row.get(0)).unwrap();
        connection.execute(&format!("UPDATE audit SET {column} = {value} WHERE seq = 4"), []).unwrap();
        broken(&gateway, &[], "entry 4 is not what was written: it was altered");
        connection.execute(&format!("UPDATE audit SET {column} = ?1 WHERE seq = 4"), [was]).unwrap();
    }
    verify(&gateway, &[]).done();
    connection.execute("UPDATE audit SET chain_key = 7 WHERE seq = 4", []).unwrap();
    broken(&gateway, &[], "entry 4 names key 7");
}

#[test]
fn entries_that_were_removed_reordered_or_put_there_are_found() {
    for (statements, message) in [
        ("DELETE FROM audit WHERE seq = 3", "entries 3 to 3 are missing"),
        (
            "UPDATE audit SET seq = -1 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE \
             seq = -1",
            "entry 3 was written as entry 5: entries were reordered",
        ),
        (
            "INSERT INTO audit (revision, at, via, came_from, what, target, chain_key, chain) \
             SELECT revision, at, via, came_from, what, 'mallory', chain_key, chain FROM audit WHERE seq = 4",
            "was put there or altered",
        ),
        (
            "INSERT INTO audit (revision, at, via, came_from, what, target) \
             SELECT revision, at, via, came_from, what, 'mallory' FROM audit WHERE seq = 4",
            "has no hash: it was put there",
        ),
        ("DELETE FROM audit WHERE seq > 5", "entries after 5 are missing"),
    ] {
        let gateway = populated();
        let head = head(&gateway);
        attack(&gateway, statements);
        broken(&gateway, &[], message);
        broken(&gateway, &["--head", &head], message);
        gateway.run(&["audit", "export"]).done();
    }
}

#[test]
fn an_older_state_of_the_whole_store_is_found_with_a_head_that_was_kept() {
    let gateway = populated();
    let old = std::fs::read(gateway.path("carta.db")).unwrap();
    let old_head = head(&gateway);
    gateway.run(&["user", "add", "mallory", "--admin"]).done();
    let new_head = head(&gateway);
    std::fs::write(gateway.path("carta.db"), old).unwrap();
    verify(&gateway, &[]).done();
    verify(&gateway, &["--head", &old_head]).done();
    broken(&gateway, &["--head", &new_head], "is not there: the newest entries were removed, or an older state");
    // Written on since, so that an entry of that number is there again.
    gateway.run(&["user", "add", "mallory"]).done();
    broken(&gateway, &["--head", &old_head, "--head", &new_head], "is another one than it was");
}

#[test]
fn a_gateway_that_runs_tells_its_head_and_notes_what_was_done_behind_its_back() {
    let gateway = populated();
    gateway.serve();
    let kept = eventually("the head is in the log", PATIENCE, || {
        let log = gateway.log();
        let line = log.lines().rfind(|line| line.contains("audit head"))?.to_owned();
        let from = line.find("head=")? + "head=".len();
        Some(line[from..].chars().take_while(|letter| letter.is_ascii_hexdigit() || *letter == ':').collect::<String>())
    });
    verify(&gateway, &["--head", &kept]).done();
    let newest = head(&gateway).split_once(':').unwrap().0.parse::<u64>().unwrap();
    attack(
        &gateway,
        &format!(
            "DELETE FROM audit WHERE seq = {newest}; UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'audit'; UPDATE meta \
             SET revision = revision - 1"
        ),
    );
    let noted = eventually("the gateway notes it", PATIENCE, || {
        entries(&gateway).into_iter().find(|entry| entry["what"] == "audit.broken")
    });
    assert!(noted["after"]["found"].as_str().unwrap().contains("newest entries were removed"), "{noted}");
    assert!(gateway.log().contains("the audit is not what it was"), "{}", gateway.log());
    let metrics = gateway.rest("GET", "/-/metrics").send().text();
    assert!(metrics.contains("carta_gateway_audit_broken_total 1"), "{metrics}");
    // The note stays when the process is gone.
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_end(), Some(0));
    let seq = noted["seq"].to_string();
    let ran = verify(&gateway, &[]).code(1);
    assert!(ran.err.contains(&format!("entry {seq} notes")) && ran.err.contains("--known"), "{}", ran.err);
    verify(&gateway, &["--known", &seq]).done();
}

#[test]
fn entries_stay_verifiable_when_the_vault_key_is_changed_and_the_old_one_is_thrown_away() {
    let gateway = populated();
    let before = head(&gateway);
    let other = "CQoJCgkKCQoJCgkKCQoJCgkKCQoJCgkKCQoJCgkKCQo=";
    std::fs::write(gateway.path("next.key"), other).unwrap();
    std::fs::set_permissions(gateway.path("next.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let toml = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    let with = |key: &str| {
        std::fs::write(gateway.path("gateway.toml"), toml.replace("key = \"file:vault.key\"", key)).unwrap();
    };
    with("key = \"file:next.key\"\nprevious = [\"file:vault.key\"]");
    gateway.run(&["vault", "rotate"]).done();
    with("key = \"file:next.key\"");
    gateway.run(&["user", "add", "zoe"]).done();
    let out = verify(&gateway, &["--head", &before]).done();
    assert!(out.contains("whole"), "{out}");
    // Without the key there is no telling, and no writing either.
    with("key = \"file:vault.key\"");
    verify(&gateway, &[]).code(2);
    gateway.run(&["user", "add", "yan"]).code(2);
}

#[test]
fn an_audit_whose_hashes_were_all_taken_away_is_never_fine_by_itself() {
    let gateway = populated();
    let forged = "UPDATE audit SET target = 'mallory' WHERE seq = 4; UPDATE audit SET chain = NULL;";
    attack(&gateway, forged);
    broken(&gateway, &[], "has no hash");
    // Made to look like a store of an older version.
    attack(&gateway, "UPDATE audit SET chain_key = NULL; DELETE FROM settings WHERE name = 'audit.keys'");
    let before = verify(&gateway, &[]).code(1);
    assert!(before.err.contains("older than the chain") && before.err.contains("--before"), "{}", before.err);
    gateway.run(&["user", "add", "zoe"]).done();
    let after = verify(&gateway, &[]).code(1);
    assert!(after.err.contains("taken away"), "{}", after.err);
    let older = entries(&gateway).iter().filter(|entry| entry["mac"].is_null()).count().to_string();
    verify(&gateway, &["--before", &older]).done();
}

#[test]
fn a_last_entry_that_was_put_there_keeps_nobody_from_disabling_an_account() {
    let gateway = populated();
    let row = "INSERT INTO audit (revision, at, via, came_from, what, target) VALUES (1, 5, '', '', '', '')";
    attack(&gateway, row);
    gateway.run(&["user", "disable", "bob"]).done();
    broken(&gateway, &[], "has no hash: it was put there");
}

#[test]
fn old_entries_are_removed_by_who_has_the_keys_and_the_rest_stays_whole() {
    let gateway = populated();
    let before = entries(&gateway);
    let (old_head, middle) = (head(&gateway), before[6]["at"].as_str().unwrap());
    let seq = |entry: &serde_json::Value| entry["seq"].as_u64().unwrap();
    gateway.run(&["audit", "prune", "--to", "2000-01-01T00:00:00Z"]).done();
    assert_eq!(entries(&gateway).len(), before.len(), "nothing is that old");
    let out = gateway.run(&["audit", "prune", "--to", middle]).done();
    let after = entries(&gateway);
    let upto = seq(&after[0]) - 1;
    assert!(out.contains(&format!("entries up to {upto} are removed\nhead {}\n", head(&gateway))), "{out}");
    assert!((1..=6).contains(&upto) && after[0]["mac"] == before[usize::try_from(upto).unwrap()]["mac"]);
    let told = after.last().unwrap();
    assert_eq!(
        (&told["what"], &told["via"], &told["before"]["last"]),
        (&json!("audit.prune"), &json!("cli"), &json!(upto))
    );
    let out = verify(&gateway, &["--head", &old_head]).done();
    assert!(out.contains(&format!("whole: entries {} to {}", upto + 1, seq(told))), "{out}");
    assert!(out.contains("were removed by `audit prune`"), "{out}");
    // Again, and everything there is: the newest entry always stays.
    gateway.run(&["user", "add", "zoe"]).done();
    gateway.run(&["audit", "prune", "--to", "2999-01-01T00:00:00Z"]).done();
    assert_eq!(entries(&gateway).len(), 2);
    let gone = verify(&gateway, &["--head", &old_head]).code(1);
    assert!(gone.err.contains("was removed by `audit prune`"), "{}", gone.err);
    verify(&gateway, &["--head", &head(&gateway)]).done();
    // What an entry may not be, it still may not be.
    let refused = file(&gateway).execute_batch("DELETE FROM audit").unwrap_err().to_string();
    assert!(refused.contains("only appended to"), "{refused}");
}

#[test]
fn who_has_only_the_file_cannot_prune() {
    let forged = |last: u64| {
        format!(
            "DELETE FROM audit WHERE seq <= {last}; \
             INSERT INTO audit (revision, at, via, came_from, what, target, after, chain_key, chain) \
             SELECT revision, at, 'cli', 'root', 'audit.prune', 'audit', json_object('head', '{last}:{}', 'key', 1), chain_key, \
             chain FROM audit ORDER BY seq DESC LIMIT 1;",
            "ab".repeat(32)
        )
    };
    let further = "UPDATE audit SET after = replace(after, '\"head\":\"3:', '\"head\":\"4:') WHERE what = 'audit.prune'; DELETE FROM \
                   audit WHERE seq = 4;";
    let again = "INSERT INTO audit (seq, revision, at, via, came_from, what, target, chain_key, chain) \
                 SELECT 2, revision, at, via, came_from, what, 'mallory', chain_key, chain FROM audit WHERE seq = 5;";
    for (statements, message) in [
        (forged(3), "entry 4 "),
        (forged(5), "entry 6 "),
        ("DELETE FROM audit WHERE what = 'audit.prune'".to_owned(), "entries 1 to 3 are missing"),
        ("UPDATE audit SET after = NULL WHERE what = 'audit.prune'".to_owned(), "entries 1 to 3 are missing"),
        ("DELETE FROM audit WHERE seq = 4".to_owned(), "entries 4 to 4 are missing"),
        (further.to_owned(), "entry 5 "),
        (again.to_owned(), "entry 2 is not the one"),
    ] {
        let gateway = populated();
        if !statements.contains("'cli', 'root'") {
            let at = entries(&gateway)[3]["at"].as_str().unwrap().to_owned();
            gateway.run(&["audit", "prune", "--to", &at]).done();
            assert_eq!(entries(&gateway)[0]["seq"], 4);
        }
        attack(&gateway, &statements);
        broken(&gateway, &[], message);
        // Nor is what is broken removed by who has the keys, before it is known what happened.
        gateway.run(&["audit", "prune", "--to", "2999-01-01T00:00:00Z"]).code(1);
    }
}

#[test]
fn a_gateway_that_runs_goes_on_when_the_audit_is_pruned_beside_it() {
    let gateway = populated();
    gateway.serve();
    gateway.run(&["audit", "prune", "--to", "2999-01-01T00:00:00Z"]).done();
    gateway.run(&["user", "add", "zoe"]).done();
    // The running gateway has looked at what was appended once it knows the user.
    eventually("zoe is known", PATIENCE, || {
        let ran = gateway.run(&["token", "zoe"]);
        (gateway.rest("GET", "/user").token(ran.out.trim()).send().status() == 200).then_some(())
    });
    verify(&gateway, &[]).done();
    assert!(!gateway.log().contains("the audit is not what it was"), "{}", gateway.log());
}
