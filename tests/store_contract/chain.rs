//! The audit's chain: every change leaves one entry that holds, and whatever is done to the entries is found.

use std::sync::OnceLock;

use carta_gateway::policy::{Levels, Subject};
use carta_gateway::store::sqlite::SqliteStore;
use carta_gateway::store::{
    AUDIT_KEYS, Actor, AuditQuery, Auditor, Break, CHAIN_BEGINS, CHAIN_BROKEN, Followed, Mutation, Reader, Recorder,
    Step, Store, StoreError,
};
use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::fixture::*;

crate::contract!(
    every_change_leaves_an_entry_that_holds,
    a_batch_leaves_an_entry_for_each_part_that_holds,
    questions_to_the_audit_are_answered_newest_first_and_page_by_page
);

/// The chain followed to its end in steps of this many entries.
async fn followed(store: &dyn Store, limit: usize) -> Result<Followed, Break> {
    let mut at = Followed::default();
    loop {
        match store.follow_audit(at, limit).await.unwrap() {
            Step::More(next, _) => at = next,
            Step::Whole(end, _) => return Ok(end),
            Step::Broken(fault) => return Err(fault),
        }
    }
}

async fn every_change_leaves_an_entry_that_holds(store: &dyn Store) {
    assert_eq!(followed(store, 3).await.unwrap(), Followed::default());
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let namespace = reserved(store, "ns", ann).await;
    let service = registered(store, "ns", "svc", ann).await;
    done(store, put(grant(Subject::User(bob), &["ns", "svc"], Levels::READ))).await;
    done(store, put(grant(Subject::Everyone, &["ns", "other", "x"], Levels::READ))).await;
    done(store, Mutation::PutSecrets(vec![secret(bob, "key", 1)])).await;
    done(store, Mutation::RenameService { id: service, to: "other".to_owned() }).await;
    idle(store, Mutation::RenameService { id: service, to: "other".to_owned() }).await;
    let entries = store.audit(0, usize::MAX).await.unwrap();
    assert_eq!(entries.len(), 8);
    assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq && entry.mac.is_some()));
    let about: Vec<_> = entries.iter().map(|entry| entry.resource).collect();
    let (ns, svc) = (Some(namespace), Some(service));
    assert_eq!(about, [None, None, ns, svc, svc, ns, None, svc]);
    for limit in [1, 3, 8, 100] {
        let end = followed(store, limit).await.unwrap();
        assert_eq!((end.seq, Some(end.mac), end.before), (8, entries[7].mac, 0), "{limit}");
    }
    let head = store.audit_head().await.unwrap().unwrap();
    assert_eq!((head.seq, Some(head.mac)), (8, entries[7].mac));
    assert_eq!(store.audit_mac(3).await.unwrap(), entries[2].mac);
    assert_eq!(store.audit_mac(9).await.unwrap(), None);
}

async fn a_batch_leaves_an_entry_for_each_part_that_holds(store: &dyn Store) {
    let groups = (0..5).map(|number| {
        let id = carta_gateway::policy::GroupId(uuid::Uuid::new_v4());
        Mutation::CreateGroup(carta_gateway::store::Group { id, name: format!("g-{number}"), owner: None })
    });
    done(store, Mutation::Batch(groups.collect())).await;
    assert_eq!(followed(store, 2).await.unwrap().seq, 5);
}

/// A store with this many entries, and the way to its file past the gateway.
async fn attacked(directory: &tempfile::TempDir, entries: usize) -> (SqliteStore, Connection) {
    let store = sqlite(directory);
    for number in 0..entries {
        made(&store, &format!("user-{number}")).await;
    }
    drop(store);
    let connection = past_the_triggers(directory);
    (SqliteStore::look(&path(directory), keys()).unwrap().unwrap(), connection)
}

fn past_the_triggers(directory: &tempfile::TempDir) -> Connection {
    let connection = Connection::open(path(directory)).unwrap();
    for trigger in ["audit_is_not_rewritten", "audit_is_not_shortened", "audit_grows_at_its_end"] {
        connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    connection
}

#[tokio::test]
async fn a_mistake_is_stopped_by_the_file_itself() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    made(&store, "ann").await;
    made(&store, "bob").await;
    let connection = Connection::open(path(&directory)).unwrap();
    for statement in [
        "UPDATE audit SET what = 'nothing'",
        "UPDATE audit SET chain = NULL",
        "DELETE FROM audit WHERE seq = 2",
        "INSERT INTO audit (seq, revision, at, via, came_from, what, target) VALUES (1, 1, 1, '', '', '', '')",
        "INSERT OR REPLACE INTO audit (seq, revision, at, via, came_from, what, target) VALUES (2, 1, 1, '', '', '', '')",
    ] {
        let error = connection.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("the audit is only appended to"), "{statement}: {error}");
    }
    assert_eq!(followed(&store, 10).await.unwrap().seq, 2);
}

#[tokio::test]
async fn each_attack_on_the_entries_is_found_as_what_it_is() {
    let renumber = "UPDATE audit SET seq = -seq WHERE seq > 4; UPDATE audit SET seq = -seq - 1 WHERE seq < 0;";
    let make_room = "UPDATE audit SET seq = -seq WHERE seq > 4; UPDATE audit SET seq = -seq + 1 WHERE seq < 0;";
    let forged = "INSERT INTO audit (seq, revision, at, via, came_from, what, target, chain_key, chain) \
                  SELECT 5, 5, 5, 'cli', 'root', 'user.create', 'mallory', 1, randomblob(32);";
    let swap = |one: u64, other: u64| {
        format!(
            "UPDATE audit SET seq = -1 WHERE seq = {one}; UPDATE audit SET seq = {one} WHERE seq = {other}; UPDATE audit SET \
             seq = {other} WHERE seq = -1;"
        )
    };
    let cases: Vec<(String, Break)> = vec![
        ("DELETE FROM audit WHERE seq = 4".into(), Break::Missing { from: 4, to: 4 }),
        ("DELETE FROM audit WHERE seq BETWEEN 3 AND 6".into(), Break::Missing { from: 3, to: 6 }),
        ("DELETE FROM audit WHERE seq < 3".into(), Break::Missing { from: 1, to: 2 }),
        (format!("DELETE FROM audit WHERE seq = 4; {renumber}"), Break::Foreign { seq: 4 }),
        (swap(3, 4), Break::Moved { seq: 3, was: 4 }),
        (swap(3, 7), Break::Moved { seq: 3, was: 7 }),
        (format!("{make_room}{forged}"), Break::Foreign { seq: 5 }),
        ("UPDATE audit SET chain = randomblob(32) WHERE seq = 4".into(), Break::Altered { seq: 4 }),
        ("UPDATE audit SET chain = x'00' WHERE seq = 4".into(), Break::Altered { seq: 4 }),
        ("UPDATE audit SET chain = NULL WHERE seq = 4".into(), Break::Unchained { seq: 4 }),
        ("UPDATE audit SET chain = NULL WHERE seq < 4".into(), Break::Unchained { seq: 3 }),
        ("UPDATE audit SET chain_key = 2 WHERE seq = 4".into(), Break::WrongKey { seq: 4, key: 2 }),
        ("UPDATE audit SET chain_key = 0 WHERE seq = 4".into(), Break::WrongKey { seq: 4, key: 0 }),
        ("DELETE FROM audit WHERE seq > 6".into(), Break::Cut { seq: 6 }),
        ("DELETE FROM audit".into(), Break::Cut { seq: 0 }),
        ("UPDATE audit SET target = 'x' WHERE seq = 8".into(), Break::Foreign { seq: 8 }),
        (
            "INSERT INTO audit (seq, revision, at, via, came_from, what, target) VALUES (-7, 5, 5, '', '', '', '')"
                .into(),
            Break::Foreign { seq: 0 },
        ),
        (
            "INSERT INTO audit (revision, at, via, came_from, what, target) VALUES (8, 5, '', '', '', '')".into(),
            Break::Unchained { seq: 9 },
        ),
    ];
    for (attack, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (store, connection) = attacked(&directory, 8).await;
        assert_eq!(followed(&store, 3).await.unwrap().seq, 8);
        connection.execute_batch(&attack).unwrap();
        for limit in [1, 3, 100] {
            assert_eq!(followed(&store, limit).await.unwrap_err(), expected, "{attack}");
        }
    }
}

#[tokio::test]
async fn a_change_of_any_column_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (store, connection) = attacked(&directory, 6).await;
    for (column, value) in [
        ("revision", "4711"),
        ("at", "at + 1"),
        ("user", "x'00'"),
        ("via", "'api'"),
        ("came_from", "'nobody'"),
        ("request_id", "NULL"),
        ("what", "'user.update'"),
        ("target", "'mallory'"),
        ("before", "'{}'"),
        ("after", "after || ' '"),
        ("resource", "x'00'"),
    ] {
        let cell = format!("SELECT {column} FROM audit WHERE seq = 3");
        let was: Value = connection.query_row(&cell, [], |row| row.get(0)).unwrap();
        connection.execute(&format!("UPDATE audit SET {column} = {value} WHERE seq = 3"), []).unwrap();
        assert_eq!(followed(&store, 2).await.unwrap_err(), Break::Altered { seq: 3 }, "{column}");
        connection.execute(&format!("UPDATE audit SET {column} = ?1 WHERE seq = 3"), [was]).unwrap();
        assert_eq!(followed(&store, 2).await.unwrap().seq, 6, "{column}");
    }
}

/// One thing that somebody with the file can do.
#[derive(Clone, Debug)]
enum Attack {
    Alter(u8, u8),
    Delete(u8),
    Swap(u8, u8),
    Copy(u8),
    Forge,
    Truncate(u8),
    Blind,
}

impl Attack {
    fn run(&self, connection: &Connection) {
        let statement = match self {
            Self::Alter(seq, column) => {
                let column =
                    ["what", "target", "came_from", "after", "chain", "chain_key", "at"][usize::from(column % 7)];
                let value = if matches!(column, "chain_key" | "at") { "2" } else { "x'41'" };
                let value = if column == "chain" || column == "chain_key" || column == "at" { value } else { "'A'" };
                format!("UPDATE audit SET {column} = {value} WHERE seq = {seq}")
            }
            Self::Delete(seq) => format!("DELETE FROM audit WHERE seq = {seq}"),
            Self::Swap(one, other) => format!(
                "UPDATE audit SET seq = -1000 WHERE seq = {one}; UPDATE audit SET seq = {one} WHERE seq = {other}; UPDATE \
                 audit SET seq = {other} WHERE seq = -1000"
            ),
            Self::Copy(seq) => format!(
                "INSERT INTO audit (revision, at, via, came_from, what, target, chain_key, chain) \
                 SELECT revision, at, via, came_from, what, target, chain_key, chain FROM audit WHERE seq = {seq}"
            ),
            Self::Forge => "INSERT INTO audit (revision, at, via, came_from, what, target, chain_key, chain) \
                            VALUES (1, 1, 'cli', 'root', 'user.create', 'mallory', 1, randomblob(32))"
                .to_owned(),
            // Whoever does that hides it everywhere in the file.
            Self::Truncate(seq) => format!(
                "DELETE FROM audit WHERE seq > {seq}; UPDATE sqlite_sequence SET seq = min(seq, {seq}) WHERE name = 'audit'; \
                 UPDATE meta SET revision = min(revision, {seq})"
            ),
            // What says that everything up to far ahead was pruned, where nobody would come to it.
            Self::Blind => format!(
                "DELETE FROM audit WHERE seq > 2; INSERT INTO audit (seq, revision, at, via, came_from, what, target, after, \
                 chain_key, chain) SELECT 0, revision, at, via, came_from, 'audit.prune', 'audit', json_object('head', '100:{}', \
                 'key', 1), chain_key, chain FROM audit WHERE seq = 1",
                "ab".repeat(32)
            ),
        };
        connection.execute_batch(&statement).unwrap();
    }
}

fn attack() -> impl Strategy<Value = Attack> {
    prop_oneof![
        (1u8..10, 0u8..7).prop_map(|(seq, column)| Attack::Alter(seq, column)),
        (1u8..12).prop_map(Attack::Delete),
        (1u8..10, 1u8..10).prop_map(|(one, other)| Attack::Swap(one, other)),
        (1u8..10).prop_map(Attack::Copy),
        Just(Attack::Forge),
        (0u8..12).prop_map(Attack::Truncate),
    ]
}

/// The entries, and the counter of those that there ever were: an entry that came and went is found by it.
fn dump(connection: &Connection) -> (Vec<Vec<Value>>, i64) {
    let mut statement = connection.prepare("SELECT * FROM audit ORDER BY seq").unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|index| row.get(index)).collect()).unwrap();
    let counter = connection.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'audit'", [], |row| row.get(0));
    (rows.map(Result::unwrap).collect(), counter.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_the_entries_is_found_with_a_head_that_was_kept(
        attacks in prop::collection::vec(attack(), 1..5)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            if let Some(template) = TEMPLATE.get() {
                std::fs::write(path(&directory), template).unwrap();
            } else {
                drop(attacked(&directory, 9).await);
                TEMPLATE.get_or_init(|| std::fs::read(path(&directory)).unwrap());
            }
            let store = SqliteStore::look(&path(&directory), keys()).unwrap().unwrap();
            let connection = Connection::open(path(&directory)).unwrap();
            let (before, head) = (dump(&connection), store.audit_head().await.unwrap().unwrap());
            attacks.iter().for_each(|attack| attack.run(&connection));
            let whole = followed(&store, 4).await.is_ok();
            let kept = store.audit_mac(head.seq).await.unwrap() == Some(head.mac);
            assert_eq!(whole && kept, dump(&connection) == before, "{attacks:?}");
        });
    }
}

#[tokio::test]
async fn what_only_shortens_the_end_and_hides_it_is_found_by_the_head_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (store, connection) = attacked(&directory, 8).await;
    let head = store.audit_head().await.unwrap().unwrap();
    Attack::Truncate(5).run(&connection);
    assert_eq!(followed(&store, 100).await.unwrap().seq, 5);
    assert_eq!(store.audit_mac(head.seq).await.unwrap(), None);
}

#[tokio::test]
async fn the_keys_of_the_chain_cannot_be_taken_away_or_put_back() {
    let directory = tempfile::tempdir().unwrap();
    let (store, connection) = attacked(&directory, 3).await;
    let other = tempfile::tempdir().unwrap();
    made(&sqlite(&other), "ann").await;
    let foreign: String = Connection::open(path(&other))
        .unwrap()
        .query_row("SELECT value FROM settings WHERE name = ?1", [AUDIT_KEYS], |row| row.get(0))
        .unwrap();
    // The keys of another store of the same vault open, and make other hashes.
    connection.execute("UPDATE settings SET value = ?1 WHERE name = ?2", [&foreign, AUDIT_KEYS]).unwrap();
    assert_eq!(followed(&store, 100).await.unwrap_err(), Break::Foreign { seq: 1 });
    connection.execute("DELETE FROM settings WHERE name = ?1", [AUDIT_KEYS]).unwrap();
    let gone = store.follow_audit(Followed::default(), 10).await;
    assert!(format!("{gone:?}").contains("keys"), "{gone:?}");
    // Changes go on, and the break stays found.
    let writing = sqlite(&directory);
    made(&writing, "zoe").await;
    let entries = writing.audit(3, 10).await.unwrap();
    assert_eq!(entries[0].what, CHAIN_BROKEN);
    assert_eq!(followed(&writing, 10).await.unwrap_err(), Break::Foreign { seq: 1 });
}

#[tokio::test]
async fn hashes_that_were_all_taken_away_are_missed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, connection) = attacked(&directory, 5).await;
    connection
        .execute_batch("UPDATE audit SET target = 'mallory' WHERE seq = 4; UPDATE audit SET chain = NULL")
        .unwrap();
    for limit in [1, 5, 100] {
        assert_eq!(followed(&store, limit).await.unwrap_err(), Break::Unchained { seq: 5 }, "{limit}");
    }
    // Nobody is locked out by that, and it stays found.
    let writing = sqlite(&directory);
    made(&writing, "zoe").await;
    made(&writing, "yan").await;
    let entries = writing.audit(5, 10).await.unwrap();
    let what: Vec<_> = entries.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(what[0], CHAIN_BROKEN);
    assert!(followed(&writing, 10).await.is_err());
}

#[tokio::test]
async fn a_last_entry_without_a_hash_or_a_counter_at_its_end_stops_no_change() {
    for attack in [
        "INSERT INTO audit (revision, at, via, came_from, what, target) VALUES (3, 5, '', '', '', '')",
        "UPDATE audit SET chain_key = 9 WHERE seq = 3",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'audit'",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (_, connection) = attacked(&directory, 3).await;
        connection.execute_batch(attack).unwrap();
        let store = sqlite(&directory);
        made(&store, "zoe").await;
        made(&store, "yan").await;
        if !attack.contains("sqlite_sequence") {
            assert!(followed(&store, 10).await.is_err(), "{attack}");
            assert!(store.audit(0, 10).await.unwrap().iter().any(|entry| entry.what == CHAIN_BROKEN), "{attack}");
        }
    }
}

#[tokio::test]
async fn entries_of_an_older_schema_are_taken_over_and_cannot_be_altered_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let old = Connection::open(path(&directory)).unwrap();
    old.execute_batch(include_str!("../../migrations/sqlite/0001_start.sql")).unwrap();
    old.execute_batch(
        "PRAGMA application_id = 0x63677477; PRAGMA user_version = 1; UPDATE meta SET revision = 3;
         INSERT INTO audit (revision, at, via, came_from, what, target, after) VALUES
         (1, 1, 'cli', 'root', 'user.create', 'ann', '{}'), (2, 2, 'cli', 'root', 'user.create', 'bob', '{}'),
         (3, 3, 'cli', 'root', 'user.create', 'eve', '{}');",
    )
    .unwrap();
    drop(old);
    let store = sqlite(&directory);
    assert_eq!(followed(&store, 2).await.unwrap(), Followed { seq: 3, before: 3, ..Followed::default() });
    assert_eq!(store.audit_head().await.unwrap(), None);
    made(&store, "dora").await;
    let entries = store.audit(0, 10).await.unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.mac.is_some()).count(), 2);
    assert_eq!((entries[3].what.as_str(), entries[4].what.as_str()), (CHAIN_BEGINS, "user.create"));
    let end = followed(&store, 2).await.unwrap();
    assert_eq!((end.seq, end.before), (5, 3));
    let connection = Connection::open(path(&directory)).unwrap();
    connection
        .execute_batch("DROP TRIGGER audit_is_not_rewritten; UPDATE audit SET target = 'x' WHERE seq = 2")
        .unwrap();
    assert_eq!(followed(&store, 10).await.unwrap_err(), Break::BeforeChain { upto: 4 });
}

#[tokio::test]
async fn a_store_that_is_open_notes_that_the_audit_is_not_what_it_was() {
    for (attack, at_once) in
        [(Attack::Truncate(2), true), (Attack::Truncate(3), false), (Attack::Forge, false), (Attack::Blind, false)]
    {
        let directory = tempfile::tempdir().unwrap();
        let store = sqlite(&directory);
        for name in ["ann", "bob", "eve", "kim"] {
            made(&store, name).await;
        }
        // The writer takes this after it has looked at what it wrote.
        store.record(carta_gateway::store::Batch::default().into()).await.unwrap();
        attack.run(&past_the_triggers(&directory));
        if at_once {
            made(&store, "dora").await;
        }
        let noted = || async {
            let entries = store.audit(0, 100).await.unwrap();
            entries.into_iter().find(|entry| entry.what == CHAIN_BROKEN)
        };
        let start = std::time::Instant::now();
        let noted = loop {
            if let Some(noted) = noted().await {
                break noted;
            }
            assert!(start.elapsed() < std::time::Duration::from_secs(30), "nothing was noted: {attack:?}");
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        };
        assert!(noted.after.unwrap()["known"].as_str().unwrap().starts_with("4:"), "{attack:?}");
        // One break is noted once, and the chain goes on from there.
        made(&store, "zoe").await;
        let entries = store.audit(0, 100).await.unwrap();
        assert_eq!(entries.iter().filter(|entry| entry.what == CHAIN_BROKEN).count(), 1);
    }
}

#[tokio::test]
async fn processes_that_write_at_once_make_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let stores = [sqlite(&directory), sqlite(&directory), sqlite(&directory)];
    let work = stores.iter().enumerate().map(|(writer, store)| async move {
        for number in 0..20 {
            made(store, &format!("user-{writer}-{number}")).await;
        }
    });
    futures_util::future::join_all(work).await;
    let end = followed(&stores[0], 7).await.unwrap();
    assert_eq!((end.seq, end.before), (60, 0));
}

/// All pages of the question, and that none is longer than asked for.
async fn paged(store: &dyn Store, query: AuditQuery) -> Vec<u64> {
    let (mut found, mut query) = (Vec::new(), query);
    loop {
        let page = store.find_audit(query.clone()).await.unwrap();
        assert!(page.entries.len() <= query.limit);
        found.extend(page.entries.iter().map(|entry| entry.seq));
        query.after = page.next;
        if page.next.is_none() {
            return found;
        }
    }
}

async fn questions_to_the_audit_are_answered_newest_first_and_page_by_page(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let namespace = reserved(store, "ns", ann).await;
    // Several entries of one moment.
    let grants = (0..6).map(|number| put(grant(Subject::Role(format!("r-{number}").into()), &["ns"], Levels::READ)));
    store.commit(Actor { user: Some(bob), ..actor() }, Mutation::Batch(grants.collect())).await.unwrap();
    store
        .commit(Actor { user: Some(ann), ..actor() }, put(grant(Subject::Everyone, &["ns"], Levels::READ)))
        .await
        .unwrap();
    let all = store.audit(0, 100).await.unwrap();
    assert_eq!(all.len(), 10);
    let (from, to) = (Some(all[2].at), Some(all[9].at));
    let (what, target) = (Some("grant.put".to_owned()), Some("ns".to_owned()));
    let resource = Some(namespace);
    let none = AuditQuery::default();
    let range = |seqs: std::ops::RangeInclusive<u64>| seqs.rev().collect::<Vec<_>>();
    for limit in [1, 2, 3, 100] {
        for (query, expected) in [
            (none.clone(), range(1..=10)),
            (AuditQuery { user: Some(bob), ..none.clone() }, range(4..=9)),
            (AuditQuery { user: Some(ann), what: what.clone(), ..none.clone() }, vec![10]),
            (AuditQuery { what: what.clone(), from, ..none.clone() }, range(4..=10)),
            (AuditQuery { target: target.clone(), ..none.clone() }, range(3..=10)),
            (AuditQuery { resource, to, ..none.clone() }, range(3..=9)),
            (AuditQuery { from: to, ..none.clone() }, vec![10]),
            (AuditQuery { target: Some("nothing".to_owned()), ..none.clone() }, vec![]),
        ] {
            let asked = AuditQuery { limit, ..query };
            assert_eq!(paged(store, asked.clone()).await, expected, "{asked:?}");
        }
    }
    let beyond = AuditQuery { after: Some(99), limit: 1, ..none };
    assert!(matches!(store.find_audit(beyond).await, Err(StoreError::Missing { what: "entry", .. })));
}
