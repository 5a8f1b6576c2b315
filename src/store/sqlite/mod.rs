//! The embedded store: one SQLite file, one thread that writes, two that read.
//!
//! Other processes may write to the same file (the commands `user`, `grant`, …): each is a store of its own, and hears
//! of the others' changes by asking the file.

mod access;
mod apply;
mod audit;
mod chain;
mod changes;
mod code;
mod connection;
mod entries;
mod failure;
mod file;
mod follow;
mod load;
mod meter;
mod read;
mod row;
mod seen;
mod writer;

use std::path::Path;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use self::chain::Chain;
use self::file::OpenFile;
use self::seen::Seen;
use super::{
    Actor, ApiToken, ApiTokenId, Audit, AuditPage, AuditQuery, Auditor, Batch, ChainKeys, Changes, Committed, Contents,
    Count, Feed, Followed, Grant, Group, Head, Item, Key, Mac, Meter, Mutation, Namespace, Password, Portion, Reader,
    Recorder, Refusal, Revision, Service, Step, StoreError, User, Writer,
};
use crate::policy::{Subject, UserId};

pub(crate) use self::code::pattern_text;

/// How many changes, or questions, may wait for a thread before more are refused.
const WAITING: usize = 4096;

/// How many of those may be uses of API tokens: callers make them, and changes must find a place beside them.
const SPENDING: usize = 512;

/// A store in one file.
pub struct SqliteStore {
    file: Arc<OpenFile>,
    revisions: watch::Receiver<Revision>,
    /// Short questions.
    reader: Lane<Question>,
    /// Loading everything, which must not hold up the short questions.
    loader: Lane<Question>,
    /// The audit's chain, as it is followed by who asks; the writer has its own.
    chain: Arc<Mutex<Chain>>,
    spending: Semaphore,
    /// The last to be dropped: closing the last connection folds the log into the file, which readers may not.
    writer: Lane<writer::Command>,
}

impl SqliteStore {
    /// Opens the file, makes it where there is none, and brings an older schema up to date. The keys are those of the
    /// audit's chain: without them nothing is changed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a file that is no database, damaged, another program's or newer than this program;
    /// such a file is left byte for byte as it is. [`StoreError::Unavailable`] where it cannot be opened or made.
    pub fn open(path: &Path, keys: Arc<dyn ChainKeys>) -> Result<Self, StoreError> {
        let connection = connection::open_writer(path)?;
        let file = Arc::new(OpenFile::at(path));
        let (publish, revisions) = watch::channel(read::revision(&connection)?);
        let (sender, commands) = mpsc::sync_channel(WAITING);
        let seen = Seen::begin(&connection)?;
        let chain = Chain::new(Arc::clone(&keys));
        let work = writer::Writer { connection, file: Arc::clone(&file), commands, revisions: publish, chain, seen };
        Ok(Self {
            file,
            revisions,
            reader: Lane::of_questions("store-read", path)?,
            loader: Lane::of_questions("store-load", path)?,
            chain: Arc::new(Mutex::new(Chain::new(keys))),
            spending: Semaphore::new(SPENDING),
            writer: Lane::start("store-write", sender, move || work.run())?,
        })
    }

    /// Opens the file for reading only, and leaves it as it is, an older schema too: every change is refused as
    /// [`StoreError::Unavailable`]. None where there is no file, or an empty one, of which [`SqliteStore::open`] would make
    /// a store.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn look(path: &Path, keys: Arc<dyn ChainKeys>) -> Result<Option<Self>, StoreError> {
        let Some(connection) = connection::open_to_look(path)? else { return Ok(None) };
        let (_, revisions) = watch::channel(read::revision(&connection)?);
        Ok(Some(Self {
            file: Arc::new(OpenFile::at(path)),
            revisions,
            reader: Lane::of_questions("store-read", path)?,
            loader: Lane::of_questions("store-load", path)?,
            chain: Arc::new(Mutex::new(Chain::new(keys))),
            spending: Semaphore::new(SPENDING),
            writer: Lane { sender: None, thread: None },
        }))
    }

    async fn ask<T: Send + 'static>(
        &self,
        lane: &Lane<Question>,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        lane.send(Box::new(move |connection| {
            // Whoever asked may have gone.
            let _ = answer.send(question(connection));
        }))?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.file.path()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Feed for SqliteStore {
    async fn load(&self) -> Result<Contents, StoreError> {
        self.file.still_there()?;
        let whole = |connection: &Connection| {
            let mut items = Vec::new();
            let revision = load::whole(connection, &mut |mut batch| {
                items.append(&mut batch);
                Ok(())
            })?;
            Ok(Contents { revision, items })
        };
        self.ask(&self.loader, whole).await
    }

    async fn load_into(&self, portions: SyncSender<Portion>) -> Result<Revision, StoreError> {
        self.file.still_there()?;
        let hand_over = move |connection: &Connection| {
            load::in_portions(connection, &|portion| {
                portions.send(portion).map_err(|_| StoreError::Unavailable("nobody takes what it reads".to_owned()))
            })
        };
        self.ask(&self.loader, hand_over).await
    }

    async fn changes(&self, since: Revision) -> Result<Changes, StoreError> {
        self.file.still_there()?;
        self.ask(&self.reader, move |connection| changes::since(connection, since)).await
    }

    fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.clone()
    }
}

#[async_trait]
impl Writer for SqliteStore {
    async fn commit(&self, actor: Actor, mutation: Mutation) -> Result<Committed, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(writer::Command::Change(Box::new(writer::Change { actor, mutation, answer })))?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

#[async_trait]
impl Reader for SqliteStore {
    async fn password(&self, user: UserId) -> Result<Option<Password>, StoreError> {
        self.ask(&self.reader, move |connection| read::password(connection, user)).await
    }

    async fn passwords(&self) -> Result<Vec<(UserId, Password)>, StoreError> {
        self.ask(&self.loader, |connection| read::all(connection, "", [])).await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.ask(&self.reader, move |connection| read::setting(connection, &name)).await
    }

    async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError> {
        let name = name.to_owned();
        self.ask(&self.reader, move |connection| read::one(connection, "WHERE name = ?1", [name])).await
    }

    async fn group_named(&self, name: &str) -> Result<Option<Group>, StoreError> {
        let name = name.to_owned();
        self.ask(&self.reader, move |connection| read::one(connection, "WHERE name = ?1", [name])).await
    }

    async fn namespace_named(&self, name: &str) -> Result<Option<Namespace>, StoreError> {
        let name = name.to_owned();
        self.ask(&self.reader, move |connection| read::one(connection, "WHERE name = ?1", [name])).await
    }

    async fn service_named(&self, namespace: &str, name: &str) -> Result<Option<Service>, StoreError> {
        let names = (namespace.to_owned(), name.to_owned());
        let condition = "WHERE n.name = ?1 AND s.name = ?2";
        self.ask(&self.reader, move |connection| read::one(connection, condition, names)).await
    }

    async fn grants_of(&self, subject: &Subject, limit: usize) -> Result<Vec<Grant>, StoreError> {
        let asked = (subject.to_string(), i64::try_from(limit).unwrap_or(i64::MAX));
        self.ask(&self.reader, move |connection| read::all(connection, "WHERE subject = ?1 LIMIT ?2", asked)).await
    }

    async fn item(&self, key: Key) -> Result<Item, StoreError> {
        self.ask(&self.reader, move |connection| read::item(connection, &key)).await
    }

    async fn api_tokens(&self, user: UserId) -> Result<Vec<ApiToken>, StoreError> {
        self.file.still_there()?;
        let condition = "WHERE user = ?1 ORDER BY name";
        self.ask(&self.reader, move |connection| read::all(connection, condition, [user.0.as_bytes()])).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<Audit>, StoreError> {
        self.ask(&self.reader, move |connection| read::audit(connection, after, limit)).await
    }
}

#[async_trait]
impl Recorder for SqliteStore {
    async fn record(&self, batch: Arc<Batch>) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(writer::Command::Record(batch, answer))?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn refusal(&self, id: &str) -> Result<Option<Refusal>, StoreError> {
        let id = id.to_owned();
        self.ask(&self.reader, move |connection| access::refusal(connection, &id, jiff::Timestamp::now())).await
    }

    async fn counts(&self, since: i32, limit: usize) -> Result<Vec<Count>, StoreError> {
        self.ask(&self.loader, move |connection| access::counts(connection, since, limit)).await
    }
}

#[async_trait]
impl Auditor for SqliteStore {
    async fn follow_audit(&self, from: Followed, limit: usize) -> Result<Step, StoreError> {
        let chain = Arc::clone(&self.chain);
        let verify = move |connection: &Connection| {
            let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
            follow::verify(connection, &mut chain, from, limit)
        };
        self.ask(&self.loader, verify).await
    }

    async fn audit_head(&self) -> Result<Option<Head>, StoreError> {
        self.ask(&self.reader, chain::head).await
    }

    async fn find_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let find = move |connection: &Connection| {
            if let Some(after) = query.after
                && !entries::is_there(connection, after)?
            {
                return Err(StoreError::Missing { what: "entry", name: after.to_string() });
            }
            entries::find(connection, &query)
        };
        self.ask(&self.loader, find).await
    }

    async fn audit_mac(&self, seq: u64) -> Result<Option<Mac>, StoreError> {
        self.ask(&self.reader, move |connection| chain::mac_at(connection, seq)).await
    }
}

#[async_trait]
impl Meter for SqliteStore {
    async fn spend(&self, token: ApiTokenId, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let full = |_| StoreError::Unavailable("too many uses of API tokens wait for it".to_owned());
        let _place = self.spending.try_acquire().map_err(full)?;
        let (answer, answered) = oneshot::channel();
        self.writer.send(writer::Command::Spend(writer::Spend { token, now, answer }))?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn note_uses(&self, used: Vec<(ApiTokenId, Timestamp)>) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(writer::Command::Note(used, answer))?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// A thread and the way to it. Dropping it lets the thread finish what waits and close its connection.
struct Lane<C> {
    sender: Option<SyncSender<C>>,
    thread: Option<JoinHandle<()>>,
}

impl<C> Lane<C> {
    fn start(name: &str, sender: SyncSender<C>, work: impl FnOnce() + Send + 'static) -> Result<Self, StoreError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Unavailable(format!("no thread for it: {error}")))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// Never waits: a caller's thread serves others, too.
    fn send(&self, command: C) -> Result<(), StoreError> {
        match self.sender.as_ref().map(|sender| sender.try_send(command)) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_))) => Err(StoreError::Unavailable("too much waits for it".to_owned())),
            Some(Err(TrySendError::Disconnected(_))) | None => Err(closed()),
        }
    }
}

impl Lane<Question> {
    fn of_questions(name: &str, path: &Path) -> Result<Self, StoreError> {
        let connection = connection::open_reader(path)?;
        let (sender, questions) = mpsc::sync_channel::<Question>(WAITING);
        Self::start(name, sender, move || questions.iter().for_each(|question| question(&connection)))
    }
}

impl<C> Drop for Lane<C> {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the thread.
            let _ = thread.join();
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}
