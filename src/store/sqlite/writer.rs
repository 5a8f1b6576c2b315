//! The one thread that writes: it gathers what waits, makes each change behind a savepoint, and commits them together.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Savepoint, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::chain::Chain;
use super::failure::failure;
use super::file::OpenFile;
use super::seen::Seen;
use super::{access, apply, changes, meter, read};
use crate::store::{Actor, ApiTokenId, Batch, Committed, Mutation, Revision, StoreError};

/// How often the file is asked whether another process wrote to it.
const POLL: Duration = Duration::from_millis(200);

/// How many changes may share one commit, and so one wait for the disk.
const TOGETHER: usize = 128;

/// What waits for the writer.
pub(super) enum Command {
    Change(Box<Change>),
    /// What is no change, and shares no transaction with one.
    Record(Arc<Batch>, oneshot::Sender<Result<(), StoreError>>),
    /// The same.
    Spend(Spend),
    /// The same.
    Note(Vec<(ApiTokenId, Timestamp)>, oneshot::Sender<Result<(), StoreError>>),
}

/// A use of an API token that waits for the writer.
pub(super) struct Spend {
    pub(super) token: ApiTokenId,
    pub(super) now: Timestamp,
    pub(super) answer: oneshot::Sender<Result<Option<u64>, StoreError>>,
}

/// A change that waits for the writer.
pub(super) struct Change {
    pub(super) actor: Actor,
    pub(super) mutation: Mutation,
    pub(super) answer: oneshot::Sender<Result<Committed, StoreError>>,
}

/// What the thread works with.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) file: Arc<OpenFile>,
    pub(super) commands: Receiver<Command>,
    pub(super) revisions: watch::Sender<Revision>,
    pub(super) chain: Chain,
    pub(super) seen: Seen,
}

impl Writer {
    /// Works until every sender of commands is gone.
    pub(super) fn run(mut self) {
        let (mut version_seen, mut behind) = (None, false);
        loop {
            match self.commands.recv_timeout(POLL) {
                Ok(first) => {
                    let waiting = std::iter::once(first).chain(self.commands.try_iter().take(TOGETHER - 1));
                    behind |= self.work_off(waiting.collect());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.look();
                    return self.seen.tell(true);
                }
            }
            // Differs once another connection has written; our own changes are published as they are made.
            let version = self.connection.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).ok();
            if version != version_seen {
                (version_seen, behind) = (version, true);
                match read::revision(&self.connection) {
                    Ok(revision) => self.publish(revision),
                    Err(error) => {
                        tracing::error!(path = %self.file.path().display(), %error, "the store cannot be read")
                    }
                }
            }
            if behind {
                behind = self.look();
            }
        }
    }

    /// Looks whether the audit is still what it was. True: there is more to look at.
    fn look(&mut self) -> bool {
        self.seen.look(&mut self.connection, &mut self.chain).unwrap_or_else(|error| {
            tracing::error!(path = %self.file.path().display(), %error, "the audit cannot be followed");
            false
        })
    }

    /// Changes first, then the uses that callers wait for, then what nobody waits for. Changes share a transaction, and so
    /// do uses. Whether there were changes.
    fn work_off(&mut self, commands: Vec<Command>) -> bool {
        let (mut changes, mut spends, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for command in commands {
            match command {
                Command::Change(change) => changes.push(*change),
                Command::Spend(spend) => spends.push(spend),
                other => rest.push(other),
            }
        }
        let changed = !changes.is_empty();
        if changed {
            self.work(changes);
        }
        if !spends.is_empty() {
            self.spend(spends);
        }
        for command in rest {
            // Whoever asked may have gone.
            let _ = match command {
                Command::Record(batch, answer) => answer.send(self.record(&batch)).is_ok(),
                Command::Note(used, answer) => answer.send(self.note(&used)).is_ok(),
                Command::Change(_) | Command::Spend(_) => true,
            };
        }
        changed
    }

    /// Makes the changes and answers them, after they are on the disk and no sooner.
    fn work(&mut self, batch: Vec<Change>) {
        let (asked, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|command| ((command.actor, command.mutation), command.answer)).unzip();
        match self.file.still_there().and_then(|()| commit_all(&mut self.connection, &mut self.chain, asked)) {
            Ok((revision, results)) => {
                self.publish(revision);
                for (answer, result) in answers.into_iter().zip(results) {
                    // Whoever asked may have gone; the change is made all the same.
                    let _ = answer.send(result);
                }
            }
            Err(error) => {
                tracing::error!(path = %self.file.path().display(), %error, "the store made no change");
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Takes the uses and answers them, after they are on the disk and no sooner.
    fn spend(&mut self, spends: Vec<Spend>) {
        // One time for all: none of them is older than a batch.
        let now = spends.iter().map(|spend| spend.now).max().unwrap_or(Timestamp::MAX);
        let tokens: Vec<ApiTokenId> = spends.iter().map(|spend| spend.token).collect();
        match self.file.still_there().and_then(|()| meter::spend(&mut self.connection, &tokens, now)) {
            Ok(left) => {
                for (spend, left) in spends.into_iter().zip(left) {
                    // Whoever asked may have gone; the use is taken all the same.
                    let _ = spend.answer.send(Ok(left));
                }
            }
            Err(error) => {
                for spend in spends {
                    let _ = spend.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn note(&mut self, used: &[(ApiTokenId, Timestamp)]) -> Result<(), StoreError> {
        self.file.still_there()?;
        meter::note(&mut self.connection, used)
    }

    fn record(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.file.still_there()?;
        access::record(&mut self.connection, batch, Timestamp::now(), access::BOUNDS)
    }

    fn publish(&self, revision: Revision) {
        self.revisions.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }
}

type Results = Vec<Result<Committed, StoreError>>;

/// Makes all the changes in one transaction: one that fails leaves nothing behind and lets the others be.
///
/// # Errors
/// Where the transaction as a whole fails: none of the changes is made.
fn commit_all(
    connection: &mut Connection,
    chain: &mut Chain,
    asked: Vec<(Actor, Mutation)>,
) -> Result<(Revision, Results), StoreError> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
    let mut results = Vec::with_capacity(asked.len());
    for (actor, mutation) in asked {
        let savepoint = transaction.savepoint().map_err(failure)?;
        results.push(commit_one(savepoint, chain, &actor, mutation));
        // A full disk makes SQLite roll everything back: then nothing of what was answered so far is true.
        if transaction.is_autocommit() {
            return Err(StoreError::Unavailable("the transaction was rolled back".to_owned()));
        }
    }
    changes::prune(&transaction, changes::KEEP)?;
    let revision = read::revision(&transaction)?;
    transaction.commit().map_err(failure)?;
    Ok((revision, results))
}

/// Makes one change, with its revision, its audit records and its place in the feed.
fn commit_one(
    savepoint: Savepoint<'_>,
    chain: &mut Chain,
    actor: &Actor,
    mutation: Mutation,
) -> Result<Committed, StoreError> {
    let mut outcome = apply::apply(&savepoint, mutation)?;
    if !outcome.entries.is_empty() {
        savepoint.execute("UPDATE meta SET revision = revision + 1", []).map_err(failure)?;
        let revision = read::revision(&savepoint)?;
        outcome.touched.sort();
        outcome.touched.dedup();
        changes::record(&savepoint, revision, &outcome.touched)?;
        chain.append(&savepoint, revision, Timestamp::now(), actor, &outcome.entries)?;
    }
    let committed = Committed { revision: read::revision(&savepoint)?, id: outcome.id };
    savepoint.commit().map_err(failure)?;
    Ok(committed)
}
