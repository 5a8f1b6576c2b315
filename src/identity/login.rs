//! Login by name and password over Cognito's SRP exchange (`docs/API.md` §3): challenges, and what answers prove.
//!
//! A name that nobody has, or that has no password, takes the same way with a decoy: the same reads, the same powers of
//! the same length. Powers of 3,072 bits are slow, so they are computed elsewhere, so many at a time, and a few wait.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::Directory;
use super::attempts::Attempts;
use super::clock;
use super::handles::Handles;
use super::srp::{self, Number, SrpError, Verifier};
use crate::policy::UserId;
use crate::store::{Actor, Item, Key, Mutation, Password, Store, StoreError};
use crate::vault::Vault;

/// How long a challenge, or a session for a new password, can be answered.
const LIFE: Duration = Duration::from_secs(180);

/// How far the client's clock may be off.
const CLOCK: SignedDuration = SignedDuration::from_mins(15);

/// Challenges that can be answered at once. Making one takes a power, so that the oldest has had many seconds.
const CHALLENGES: usize = 8192;

/// Sessions for a new password that are open at once.
const SESSIONS: usize = 1024;

/// Computations that wait or are at work; more are refused.
const WAITING: usize = 32;

/// The longest login name that is looked at, in bytes.
const NAME_BYTES: usize = 512;

/// The setting that keeps the key of the decoys, in base64. It hides which names are accounts, which the store's readers
/// know anyway, so it is not sealed; it outlives vault keys, as the salts of passwords do.
const DECOY_SETTING: &str = "login_decoy_key";

/// Whose the decoy's record is: nobody's.
const NOBODY: UserId = UserId(Uuid::nil());

/// The logins of this process.
pub struct Logins {
    pool: String,
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    decoy_key: [u8; 32],
    /// What is opened where there is no password.
    decoy: Password,
    challenges: Mutex<Handles<Challenge>>,
    sessions: Mutex<Handles<Session>>,
    attempts: Attempts,
    waiting: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// What a client is asked to prove.
#[derive(Debug)]
pub struct Asked {
    /// `USERNAME`, `USER_ID_FOR_SRP`.
    pub name: String,
    /// `SALT`.
    pub salt: String,
    /// `SRP_B`.
    pub public: String,
    /// `SECRET_BLOCK`.
    pub block: String,
}

/// A client's answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// `USERNAME`.
    pub name: &'a str,
    /// `PASSWORD_CLAIM_SECRET_BLOCK`.
    pub block: &'a str,
    /// `PASSWORD_CLAIM_SIGNATURE`.
    pub signature: &'a str,
    /// `TIMESTAMP`.
    pub timestamp: &'a str,
}

/// What a right signature comes to.
#[derive(Clone, Debug)]
pub enum Proved {
    /// The user is who they say.
    User(UserId),
    /// The user is, and must choose another password first, by this session.
    MustChange {
        /// `Session`.
        session: String,
        /// The login name.
        name: String,
    },
}

/// From where, and when.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// The client's address.
    pub from: IpAddr,
    /// Now, as people count.
    pub clock: Timestamp,
    /// Now, as it only ever goes on.
    pub now: Instant,
}

/// Why a login does not go on.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Wrong name or password, a challenge that is not there any more: never more than that.
    #[error("Incorrect username or password.")]
    Incorrect,
    /// The password was reset: told only to who has it.
    #[error("Password reset required for the user")]
    Reset,
    /// A session for a new password that is not there any more.
    #[error("Invalid session for the user.")]
    Session,
    /// Too many failures of this name from this address.
    #[error("Too many failed attempts. Try again in a minute.")]
    Attempts,
    /// Too many logins at once.
    #[error("Too many logins at once. Try again.")]
    Busy,
    /// A request that no client of this protocol sends.
    #[error("{0}")]
    Parameter(&'static str),
    /// A new password that does not fit.
    #[error("Password does not conform to policy: it needs {0}")]
    Password(String),
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours.
    #[error("the login failed: {0}")]
    Internal(String),
}

struct Challenge {
    /// As the client wrote it, and as it was told: either comes back.
    name: String,
    /// Whose, where the name is somebody's who can log in.
    user: Option<UserId>,
    /// The record that the verifier was opened from.
    password: Password,
    verifier: Verifier,
    a: Number,
    b: Number,
    public: Number,
}

struct Session {
    user: UserId,
    name: String,
    password: Password,
    verifier: Verifier,
}

impl Logins {
    /// The logins of this pool. Makes the key of the decoys where there is none yet.
    ///
    /// # Errors
    /// [`LoginError::Store`], and [`LoginError::Internal`] where nothing can be sealed.
    pub async fn new(pool_id: &str, store: Arc<dyn Store>, vault: Arc<Vault>) -> Result<Self, LoginError> {
        let decoy_key = decoy_key(&*store).await?;
        let decoy = Verifier::decoy(&decoy_key, "").seal(&vault, NOBODY, false)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            pool: srp::pool_name(pool_id).to_owned(),
            store,
            vault,
            decoy_key,
            decoy,
            challenges: Mutex::new(Handles::new(CHALLENGES, LIFE)),
            sessions: Mutex::new(Handles::new(SESSIONS, LIFE)),
            attempts: Attempts::new(Instant::now()),
            waiting: Arc::new(Semaphore::new(WAITING)),
            // Half of the machine stays for everybody who is logged in.
            working: Arc::new(Semaphore::new((cores / 2).max(1))),
        })
    }

    /// `InitiateAuth`: a challenge for the name, whoever's it is.
    ///
    /// # Errors
    /// [`LoginError`]; none tells whether the name is somebody's.
    pub async fn begin(&self, directory: &Directory, name: &str, a: &str, when: When) -> Result<Asked, LoginError> {
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(LoginError::Parameter("USERNAME is missing or too long"));
        }
        let a = Number::from_hex(a).filter(|a| !a.is_zero_in_group());
        let a = a.ok_or(LoginError::Parameter("SRP_A is not a valid public number"))?;
        if !(self.attempts.admits(name, when.from, when.now) && self.attempts.begins(when.from, when.now)) {
            return Err(LoginError::Attempts);
        }
        let account = directory.by_name(name).filter(|account| !account.disabled);
        let kept = self.store.password(account.map_or(NOBODY, |account| account.id)).await?;
        let user = account.filter(|_| kept.is_some()).map(|account| account.id);
        let password = kept.filter(|_| user.is_some()).unwrap_or_else(|| self.decoy.clone());
        let opened = Verifier::open(&self.vault, user.unwrap_or(NOBODY), &password)?;
        let decoy = Verifier::decoy(&self.decoy_key, name);
        let verifier = if user.is_some() { opened } else { decoy };
        let b = Number::random()?;
        let (verifier, public) = self
            .compute(self.place()?, move || {
                let public = verifier.public(&b);
                (verifier, public)
            })
            .await?;
        let salt = verifier.salt().to_hex();
        let challenge = Challenge { name: name.to_owned(), user, password, verifier, a, b, public };
        let block = held(&self.challenges).put(challenge, when.now)?;
        Ok(Asked { name: name.to_owned(), salt, public: public.to_hex(), block: STANDARD.encode(block) })
    }

    /// `PASSWORD_VERIFIER`: whether the answer proves the user. The challenge is spent, whatever the answer.
    ///
    /// # Errors
    /// [`LoginError`]; a wrong password is no other than a wrong name.
    pub async fn prove(&self, answer: Answer<'_>, when: When) -> Result<Proved, LoginError> {
        if answer.name.len() > NAME_BYTES {
            return Err(LoginError::Parameter("USERNAME is too long"));
        }
        if !self.attempts.count(answer.name, when.from, when.now) {
            return Err(LoginError::Attempts);
        }
        let outcome = self.judge(answer, when).await;
        if !matches!(outcome, Err(LoginError::Incorrect)) {
            self.attempts.forgive(answer.name, when.from);
        }
        outcome
    }

    async fn judge(&self, answer: Answer<'_>, when: When) -> Result<Proved, LoginError> {
        let block = STANDARD.decode(answer.block).map_err(|_| LoginError::Incorrect)?;
        let signature = STANDARD.decode(answer.signature).map_err(|_| LoginError::Incorrect)?;
        // Before the challenge is spent: a refusal for want of room costs nobody their login.
        let place = self.place()?;
        let challenge = held(&self.challenges).take(&block, when.now).ok_or(LoginError::Incorrect)?;
        let offset = clock::read(answer.timestamp).map(|said| said.duration_since(when.clock).abs());
        if challenge.name != answer.name || offset.is_none_or(|offset| offset > CLOCK) {
            return Err(LoginError::Incorrect);
        }
        let message = [self.pool.as_bytes(), answer.name.as_bytes(), &block, answer.timestamp.as_bytes()].concat();
        let (challenge, right) = self
            .compute(place, move || {
                let key = challenge.verifier.session_key(&challenge.a, &challenge.b, &challenge.public);
                let right = key.is_some_and(|key| {
                    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_slice());
                    hmac::verify(&key, &message, &signature).is_ok()
                });
                (challenge, right)
            })
            .await?;
        let Challenge { user: Some(user), name, password, verifier, .. } = challenge else {
            return Err(LoginError::Incorrect);
        };
        if !right || !self.still(user, &password).await? {
            return Err(LoginError::Incorrect);
        }
        if password.reset {
            return Err(LoginError::Reset);
        }
        if !password.temporary {
            return Ok(Proved::User(user));
        }
        let session = Session { user, name: name.clone(), password, verifier };
        let session = held(&self.sessions).put(session, when.now)?;
        Ok(Proved::MustChange { session: STANDARD.encode(session), name })
    }

    /// `NEW_PASSWORD_REQUIRED`: the change that gives the session's user another password. The session is spent by a
    /// password that fits.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn change(
        &self,
        session: &str,
        name: &str,
        new: &str,
        when: When,
    ) -> Result<(UserId, Mutation), LoginError> {
        let handle = STANDARD.decode(session).map_err(|_| LoginError::Session)?;
        let of_name = |session: &&Session| session.name == name;
        let known = held(&self.sessions).find(&handle, when.now).filter(of_name).map(|known| known.verifier.clone());
        let given = known.ok_or(LoginError::Session)?;
        let faults = srp::password_faults(new);
        if !faults.is_empty() {
            return Err(LoginError::Password(faults.join(", ")));
        }
        let (pool, name, new) = (self.pool.clone(), name.to_owned(), zeroize::Zeroizing::new(new.to_owned()));
        let fresh = self
            .compute(self.place()?, move || {
                (!given.check(&pool, &name, &new)).then(|| Verifier::new(&pool, &name, &new))
            })
            .await?;
        // Whoever gave the old one out knows it.
        let fresh = fresh.ok_or_else(|| LoginError::Password("to differ from the one that was given".to_owned()))??;
        let session = held(&self.sessions).take(&handle, when.now).ok_or(LoginError::Session)?;
        if !self.still(session.user, &session.password).await? {
            return Err(LoginError::Session);
        }
        let password = fresh.seal(&self.vault, session.user, false)?;
        let (user, replaces) = (session.user, Some(session.password));
        Ok((user, Mutation::SetPassword { user, password, by_self: true, replaces, at: when.clock }))
    }

    /// The record of a new password for somebody else's account.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn seal(
        &self,
        user: UserId,
        name: &str,
        password: &str,
        temporary: bool,
    ) -> Result<Password, LoginError> {
        let faults = srp::password_faults(password);
        if !faults.is_empty() {
            return Err(LoginError::Password(faults.join(", ")));
        }
        let (pool, name) = (self.pool.clone(), name.to_owned());
        let password = zeroize::Zeroizing::new(password.to_owned());
        let verifier = self.compute(self.place()?, move || Verifier::new(&pool, &name, &password)).await??;
        Ok(verifier.seal(&self.vault, user, temporary)?)
    }

    /// Whether the user may log in now, by this very password: as the store has it, which may be ahead of what is shown.
    async fn still(&self, user: UserId, password: &Password) -> Result<bool, LoginError> {
        let admitted = matches!(self.store.item(Key::User(user)).await?, Item::User(user, _) if !user.disabled);
        Ok(admitted && self.store.password(user).await?.as_ref() == Some(password))
    }

    /// A place among the computations that wait or are at work.
    fn place(&self) -> Result<OwnedSemaphorePermit, LoginError> {
        self.waiting.clone().try_acquire_owned().map_err(|_| LoginError::Busy)
    }

    /// Computes on a thread for what takes long.
    async fn compute<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LoginError> {
        let turn = self.working.clone().acquire_owned().await.map_err(|_| LoginError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even when whoever asked has gone.
            let _held = (place, turn);
            work()
        });
        done.await.map_err(|error| LoginError::Internal(error.to_string()))
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl From<SrpError> for LoginError {
    fn from(error: SrpError) -> Self {
        Self::Internal(error.to_string())
    }
}

fn held<T>(handles: &Mutex<Handles<T>>) -> MutexGuard<'_, Handles<T>> {
    handles.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key that the store keeps; of two first runs one makes it.
async fn decoy_key(store: &dyn Store) -> Result<[u8; 32], LoginError> {
    if store.setting(DECOY_SETTING).await?.is_none() {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| SrpError::Random)?;
        let actor = Actor { user: None, via: "config", from: "start".into(), request_id: None };
        store.commit(actor, Mutation::InitSetting(DECOY_SETTING.to_owned(), STANDARD.encode(key))).await?;
    }
    let kept = store.setting(DECOY_SETTING).await?.unwrap_or_default();
    let key = STANDARD.decode(kept).ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.ok_or_else(|| LoginError::Internal(format!("the setting `{DECOY_SETTING}` is no key")))
}
