//! What only a file can get wrong, and what only several processes see.

use std::path::Path;
use std::time::{Duration, Instant};

use carta_gateway::store::sqlite::SqliteStore;
use carta_gateway::store::{Changes, Feed, MOST_NAMESPACES, Mutation, Reader, Revision, StoreError};
use rusqlite::Connection;

use crate::fixture::*;

/// The reason for which the file is refused; it must be unchanged afterwards.
fn refusal(path: &Path) -> String {
    let before = std::fs::read(path).unwrap();
    let why = match SqliteStore::open(path, keys()) {
        Err(StoreError::Damaged(why)) => why,
        other => panic!("not refused: {other:?}"),
    };
    assert!(std::fs::read(path).unwrap() == before, "the file was changed");
    assert!(why.contains(path.to_str().unwrap()), "{why}");
    why
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in [("text", b"[listen]\nproxy = 1\n".repeat(100)), ("zeros", vec![0; 5000])] {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert!(refusal(&path).contains("not a SQLite database"));
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE users (name TEXT)").unwrap();
    assert!(refusal(&path).contains("another program"));
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    made(&sqlite(&directory), "ann").await;
    let path = path(&directory);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let why = refusal(&path);
    assert!(why.contains("schema 99") && why.contains("newer"), "{why}");
}

#[tokio::test]
async fn namespaces_of_an_older_schema_count_as_made_by_their_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    let ann = user("ann");
    let id = ann.id.0.as_bytes();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../migrations/sqlite/0001_start.sql")).unwrap();
    old.execute_batch("PRAGMA application_id = 0x63677477; PRAGMA user_version = 1").unwrap();
    let row = "INSERT INTO users VALUES (?1, 'ann', NULL, 0, NULL, NULL, NULL, 'Guest', 0, 0, NULL, 0)";
    old.execute(row, [id]).unwrap();
    for number in 0..MOST_NAMESPACES {
        let key = uuid::Uuid::new_v4();
        let row = "INSERT INTO namespaces (id, name, owner) VALUES (?1, ?2, ?3)";
        old.execute(row, (key.as_bytes(), format!("ns-{number}"), id)).unwrap();
    }
    drop(old);
    let store = sqlite(&directory);
    assert_eq!(store.namespace_named("ns-7").await.unwrap().unwrap().owner, Some(ann.id));
    let another = Mutation::ReserveNamespace { name: "another".to_owned(), owner: ann.id };
    refused(&store, "namespaces that one user made", another).await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    for number in 0..200 {
        made(&store, &format!("user-{number}")).await;
    }
    drop(store);
    let path = path(&directory);
    let whole = std::fs::read(&path).unwrap();
    let mut zeroed = whole.clone();
    zeroed[whole.len() / 2..whole.len() / 2 + 8192].fill(0xff);
    let cut = whole[..whole.len() / 2].to_vec();
    for damaged in [zeroed, cut] {
        std::fs::write(&path, damaged).unwrap();
        refusal(&path);
    }
    std::fs::write(&path, whole).unwrap();
    assert_eq!(sqlite(&directory).load().await.unwrap().items.len(), 200);
}

#[tokio::test]
async fn a_value_that_does_not_read_is_damage_and_never_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let ann = made(&sqlite(&directory), "ann").await;
    let with = |statement: &str| Connection::open(path(&directory)).unwrap().execute_batch(statement).unwrap();
    with("INSERT INTO grants VALUES ('someone', 'a.', 1, NULL, NULL, 0)");
    assert!(matches!(sqlite(&directory).load().await, Err(StoreError::Damaged(_))));
    with("UPDATE grants SET subject = 'everyone', pattern = 'a'");
    assert!(matches!(sqlite(&directory).load().await, Err(StoreError::Damaged(_))));
    with("DELETE FROM grants; DROP TABLE secrets");
    let store = sqlite(&directory);
    assert!(matches!(store.load().await, Err(StoreError::Damaged(_))));
    assert!(store.user_named("ann").await.unwrap().is_some_and(|user| user.id == ann));
}

#[test]
fn a_place_where_no_file_can_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("carta.db");
    match SqliteStore::open(&path, keys()) {
        Err(StoreError::Unavailable(why)) => assert!(why.contains(path.to_str().unwrap()), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        SqliteStore::open(directory.path(), keys()),
        Err(StoreError::Unavailable(_) | StoreError::Damaged(_))
    ));
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_read_the_file_and_its_log() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    made(&store, "ann").await;
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn another_process_is_heard_within_half_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (sqlite(&directory), sqlite(&directory));
    let mut revisions = one.revisions();
    revisions.borrow_and_update();
    let ann = made(&other, "ann").await;
    let start = Instant::now();
    tokio::time::timeout(Duration::from_secs(5), revisions.changed()).await.unwrap().unwrap();
    // The promise is half a second; a loaded machine gets some more.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(*revisions.borrow(), Revision(1));
    let (_, changed) = since(&one, Revision(0)).await;
    assert_eq!(changed.len(), 1);
    assert_eq!(known(&one, ann).await.name, "ann");
}

#[tokio::test]
async fn processes_that_write_at_once_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let stores = [sqlite(&directory), sqlite(&directory), sqlite(&directory)];
    let work = stores.iter().enumerate().map(|(writer, store)| async move {
        for number in 0..30 {
            made(store, &format!("user-{writer}-{number}")).await;
        }
    });
    futures_util::future::join_all(work).await;
    for store in &stores {
        let contents = store.load().await.unwrap();
        assert_eq!((contents.revision, contents.items.len()), (Revision(90), 90));
    }
}

#[tokio::test]
async fn a_file_that_is_opened_again_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    made(&store, "ann").await;
    let before = store.load().await.unwrap();
    drop(store);
    let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["carta.db"], "the log is folded into the file");
    let store = sqlite(&directory);
    assert_eq!(*store.revisions().borrow(), before.revision);
    assert_eq!(store.load().await.unwrap().items, before.items);
}

#[tokio::test]
async fn a_feed_that_was_pruned_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    made(&store, "ann").await;
    let old = Connection::open(path(&directory)).unwrap();
    // As if 101,000 changes had come since.
    old.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 101000)
         INSERT INTO changes (revision, kind, a) SELECT 1 + i, 'key', 'k' FROM n;
         UPDATE meta SET revision = 101001;",
    )
    .unwrap();
    let bob = made(&store, "bob").await;
    assert_eq!(store.changes(Revision(0)).await.unwrap(), Changes::Gap);
    assert_eq!(store.changes(Revision(1000)).await.unwrap(), Changes::Gap);
    let (revision, changed) = since(&store, Revision(101_001)).await;
    assert_eq!((revision, changed.len()), (Revision(101_002), 1));
    assert_eq!(since(&store, Revision(2000)).await.0, revision);
    assert_eq!(known(&store, bob).await.name, "bob");
    let rows: i64 = old.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 100_000);
}

#[tokio::test]
async fn the_audit_cannot_be_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    made(&store, "ann").await;
    let connection = Connection::open(path(&directory)).unwrap();
    assert!(connection.execute("UPDATE audit SET what = 'nothing'", []).is_err());
    assert_eq!(store.audit(0, 10).await.unwrap()[0].what, "user.create");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_replaced_takes_no_change_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    made(&store, "ann").await;
    std::fs::rename(path(&directory), directory.path().join("old.db")).unwrap();
    let unavailable =
        |result: &dyn std::fmt::Debug| assert!(format!("{result:?}").contains("Unavailable"), "{result:?}");
    unavailable(&commit(&store, new(&user("bob"))).await);
    std::fs::write(path(&directory), b"").unwrap();
    unavailable(&commit(&store, new(&user("bob"))).await);
    unavailable(&store.changes(Revision(0)).await);
    unavailable(&store.load().await.map(|_| ()));
    std::fs::rename(directory.path().join("old.db"), path(&directory)).unwrap();
    made(&store, "bob").await;
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let old = Connection::open(path(&directory)).unwrap();
    old.execute_batch(include_str!("../../migrations/sqlite/0001_start.sql")).unwrap();
    old.execute_batch("PRAGMA application_id = 0x63677477; PRAGMA user_version = 1").unwrap();
    drop(old);
    let store = sqlite(&directory);
    let ann = made(&store, "ann").await;
    reserved(&store, "ns", ann).await;
    let service = registered(&store, "ns", "svc", ann).await;
    done(&store, Mutation::PutSecrets(vec![secret(ann, "key", 1)])).await;
    let secret = "key".to_owned();
    done(&store, Mutation::WithdrawConsent { user: ann, secret, service, at: at(1) }).await;
}
