//! Killed at any moment, the store has every change that it answered as done, and each one whole.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use carta_gateway::config::{VaultConfig, VaultKey};
use carta_gateway::policy::{Levels, Pattern, Subject, UserId};
use carta_gateway::store::sqlite::SqliteStore;
use carta_gateway::store::{
    Actor, Auditor, Feed, Followed, Item, Mutation, NewUser, Reader, Revision, Step, User, Writer,
};
use carta_gateway::vault::Vault;
use jiff::Timestamp;
use uuid::Uuid;

/// Set for the process that writes until it is killed: the file to write to.
const FILE: &str = "CARTA_CRASH_FILE";

/// What the writing process prints before the name of each user who is there for good.
const DONE: &str = "done ";

const KILLS: u64 = 50;

#[test]
fn every_change_that_was_answered_survives_fifty_kills() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("carta.db");
    let mut answered = HashSet::new();
    for round in 0..KILLS {
        let heard = write_and_kill(&file, round);
        assert!(!heard.is_empty(), "round {round} was killed before its first change");
        answered.extend(heard);
        let there = verify(&file);
        let lost: Vec<_> = answered.difference(&there).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
    }
}

/// The other side: writes until it is killed. Without the variable it is no test at all.
#[test]
fn write_until_killed() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = SqliteStore::open(Path::new(&file), keys()).unwrap();
    runtime.block_on(async {
        let writers = (0..4).map(|_| async {
            loop {
                let name = Uuid::new_v4().to_string();
                make(&store, &name).await;
                // One write, so that no line is torn by the kill's moment and read as another.
                std::io::stdout().write_all(format!("{DONE}{name}\n").as_bytes()).unwrap();
                std::io::stdout().flush().unwrap();
            }
        });
        futures_util::future::join_all(writers).await;
    });
}

/// The keys of the audit, the same in every process.
fn keys() -> Arc<Vault> {
    Arc::new(Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap())
}

/// Starts a process that writes, kills it in the midst of it, and returns what it said is done.
fn write_and_kill(file: &Path, round: u64) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "write_until_killed", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut heard = Vec::new();
    // Some changes, another number each round, and then somewhere within the next.
    while heard.len() < 1 + (round as usize * 7) % 23 {
        let line = lines.next().unwrap_or_else(|| panic!("round {round}: the writer ended by itself"));
        heard.extend(done(&line));
    }
    // Nothing waits for this: it only spreads the moments of the kills.
    std::thread::sleep(Duration::from_micros(round * 997 % 5000));
    child.kill().unwrap();
    child.wait().unwrap();
    // What was said between the last line read and the kill counts, too.
    heard.extend(lines.filter_map(|line| done(&line)));
    heard
}

fn done(line: &str) -> Option<String> {
    // The test runner's own words may stand before it on the line.
    line.rsplit_once(DONE).map(|(_, name)| name.to_owned()).filter(|name| Uuid::parse_str(name).is_ok())
}

/// Two changes: the user, and a grant that is answered second.
async fn make(store: &SqliteStore, name: &str) {
    let id = UserId(Uuid::parse_str(name).unwrap());
    let user = User {
        id,
        name: name.to_owned(),
        email: None,
        email_verified: false,
        first_name: None,
        last_name: None,
        organization: None,
        role: "Guest".to_owned(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::UNIX_EPOCH,
    };
    let new = NewUser { user, link: None, password: None, first_role: None };
    store.commit(actor(), Mutation::CreateUser(Box::new(new))).await.unwrap();
    let pattern = Pattern::literal(["ns", name]).unwrap();
    let (subject, levels) = (Subject::User(id), Levels::READ);
    let grant = carta_gateway::policy::Grant { subject, pattern, levels, expires: None };
    store.commit(actor(), Mutation::PutGrant { grant, by: None, at: Timestamp::UNIX_EPOCH }).await.unwrap();
}

fn actor() -> Actor {
    Actor { user: None, via: "cli", from: "test".into(), request_id: None }
}

/// Opens the file, checks that it is whole, and returns the users who have their grant.
fn verify(file: &Path) -> HashSet<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = SqliteStore::open(file, keys()).unwrap();
    runtime.block_on(async {
        let contents = store.load().await.unwrap();
        let audit = store.audit(0, usize::MAX).await.unwrap();
        let revisions: Vec<_> = audit.iter().map(|record| record.revision).collect();
        let expected: Vec<_> = (1..=contents.revision.0).map(Revision).collect();
        assert_eq!(revisions, expected, "one audit record for each revision");
        let followed = store.follow_audit(Followed::default(), usize::MAX).await.unwrap();
        assert!(matches!(followed, Step::Whole(..)), "{followed:?}");
        assert_eq!(contents.items.len() as u64, contents.revision.0, "one record for each change");
        let granted = |item: Item| match item {
            Item::Grant(grant) => match grant.row.subject {
                Subject::User(id) => Some(id.to_string()),
                other => panic!("{other:?}"),
            },
            _ => None,
        };
        contents.items.into_iter().filter_map(granted).collect()
    })
}
