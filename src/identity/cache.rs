//! Tokens that were verified: one cache a worker, without a lock, found again by the whole token.
//!
//! What is kept is that the signature and the claims were good, and whom the token proved by which directory. Everything
//! that may change since is looked at on each hit: the time, the issuer's keys, the directory.

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::beginnings::Beginnings;
use super::key::Key;
use super::source::Source;
use super::{Account, AuthError, Claims, Directory, Identity, Proof, account};
use crate::policy::UserId;
use crate::store::ApiTokenId;
use crate::telemetry::metrics::CacheMetrics;

/// Verified tokens of one worker thread. Not `Sync` on purpose.
pub struct TokenCache {
    tokens: RefCell<Tokens>,
    beginnings: RefCell<Beginnings>,
    metrics: CacheMetrics,
}

type Tokens = Cache<Kept, Rc<Verified>, Weight, ahash::RandomState, DefaultLifecycle<Kept, Rc<Verified>>>;

/// A token that is kept, with what is kept of it: the cache's own lists stay small.
#[derive(Clone)]
struct Kept(Rc<Verified>);

/// A token that is looked for.
struct Sought<'t>(&'t [u8]);

/// How much of a token's end tells where it is kept, in bytes: that of its signature, which nobody but the issuer has a
/// say in. What is found there is compared as a whole.
const TAIL: usize = 32;

/// What proved a token: to ask later whether it still does.
#[derive(Clone)]
pub struct Signed(Arc<Signature>);

struct Signature {
    /// Compared by address: another configuration has other sources.
    source: Arc<Source>,
    key: Arc<Key>,
    subject: Arc<str>,
}

/// A token that was verified, and what that depended on. In the order in which a call asks: what it is compared with and
/// what a hit depends on lies in one piece, the token itself in the middle.
#[repr(C, align(64))]
pub(super) struct Verified {
    pub(super) source: Arc<Source>,
    /// The key set in which the key was last seen.
    pub(super) generation: Cell<u64>,
    pub(super) expires: Timestamp,
    /// Whom it proved last.
    pub(super) known: RefCell<Option<Known>>,
    pub(super) text: Text,
    pub(super) signed: Signed,
    pub(super) user: UserId,
    /// The directory's links when the subject last proved the user.
    pub(super) epoch: Cell<u64>,
    pub(super) issued: Option<Timestamp>,
    pub(super) service: Option<Arc<str>>,
    /// The API token that it was minted for.
    pub(super) within: Option<ApiTokenId>,
    pub(super) claims: Arc<Claims>,
}

/// The whole token, and nothing less is compared: what begins like others' is kept with them.
#[derive(Default)]
#[repr(C)]
pub(super) struct Text {
    beginning: Rc<[u8]>,
    rest: SmallVec<[u8; 512]>,
}

/// Whom a token proves, as long as this is the directory. With an API token, which has a time and uses of its own, it is
/// found out each time.
#[derive(Clone)]
pub(super) struct Known {
    directory: u64,
    identity: Arc<Identity>,
}

impl TokenCache {
    /// A cache of at most this many tokens, of at most this many bytes together.
    #[must_use]
    pub fn new(tokens: usize, bytes: usize) -> Self {
        let tokens = tokens.max(1);
        let weight = Weight { least: (bytes / tokens).max(1) as u64 };
        let mut options = OptionsBuilder::new();
        // Ghosts would remember tokens that are gone; the hot share is the library's default.
        options.estimated_items_capacity(tokens).weight_capacity(bytes as u64).ghost_allocation(0.0);
        let hasher = ahash::RandomState::new();
        let cache = match options.build() {
            Ok(options) => Cache::with_options(options, weight, hasher, DefaultLifecycle::default()),
            Err(_) => Cache::with(tokens, bytes as u64, weight, hasher, DefaultLifecycle::default()),
        };
        Self { tokens: RefCell::new(cache), beginnings: RefCell::default(), metrics: CacheMetrics::new("token") }
    }

    /// The number of tokens kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.borrow().len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The identity of a token that was verified before and is still good; nothing where it must be verified anew.
    /// An error is final: the token is good, its user is not. Counts what it finds; who verifies it anew says so by
    /// [`Self::missed`].
    pub(super) fn find(
        &self,
        token: &[u8],
        sources: &[Arc<Source>],
        directory: &Directory,
        now: Timestamp,
    ) -> Option<Result<Arc<Identity>, AuthError>> {
        let found = {
            let tokens = self.tokens.borrow();
            tokens.get(&Sought(token)).map(|verified| verified.identity(sources, directory, now))
        };
        match found {
            Some(Some(outcome)) => {
                self.metrics.count(true);
                Some(outcome)
            }
            Some(None) => {
                self.tokens.borrow_mut().remove(&Sought(token));
                None
            }
            None => None,
        }
    }

    /// Counts a token that has to be verified anew.
    pub(super) fn missed(&self) {
        self.metrics.count(false);
    }

    /// Keeps what was verified of this token.
    pub(super) fn keep(&self, token: &[u8], mut verified: Verified) {
        // The hash is of the end, which is never among what is shared.
        let (front, end) = token.split_at(token.len().saturating_sub(TAIL));
        let (beginning, rest) = self.beginnings.borrow_mut().divide(front);
        verified.text.beginning = beginning;
        verified.text.rest = rest.iter().chain(end).copied().collect();
        let verified = Rc::new(verified);
        self.tokens.borrow_mut().insert(Kept(verified.clone()), verified);
    }
}

impl Default for TokenCache {
    /// 8,192 tokens, 16 MiB.
    fn default() -> Self {
        Self::new(8 * 1024, 16 * 1024 * 1024)
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("tokens", &self.len()).finish_non_exhaustive()
    }
}

impl Signed {
    /// By this key of the issuer's, about this `sub`.
    pub(super) fn new(source: Arc<Source>, key: Arc<Key>, subject: Arc<str>) -> Self {
        Self(Arc::new(Signature { source, key, subject }))
    }

    /// The claim that has the groups of the issuer's tokens; none for our own, whose groups are local ones.
    pub(super) fn groups_claim(&self) -> Option<&str> {
        self.0.source.remote.as_ref().map(|remote| remote.config.groups_claim.as_str())
    }

    /// Whether the issuer's keys are to be trusted now and the key is still one of them.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        let keys = self.0.source.keys.load();
        keys.usable(now) && keys.holds(&self.0.key)
    }

    /// Whether the token's subject proves this user: another issuer's does by a link, which may go or move.
    pub(super) fn proves(&self, user: UserId, directory: &Directory) -> bool {
        let Signature { source, subject, .. } = &*self.0;
        source.remote.is_none()
            || directory.by_link(&source.rules.issuer, subject).is_some_and(|account| account.id == user)
    }
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({})", self.0.source.rules.issuer)
    }
}

impl Verified {
    /// None: no longer good, or not by what is known here.
    fn identity(
        &self,
        sources: &[Arc<Source>],
        directory: &Directory,
        now: Timestamp,
    ) -> Option<Result<Arc<Identity>, AuthError>> {
        let accepted = sources.iter().any(|source| Arc::ptr_eq(source, &self.source));
        if !accepted || self.expires <= now || !self.key_holds(now) {
            return None;
        }
        if let Some(known) = self.known.borrow().as_ref().filter(|known| known.directory == directory.version()) {
            return Some(Ok(known.identity.clone()));
        }
        let account = self.account(directory)?;
        Some(self.identify(account, directory, now))
    }

    /// The identity, if the account may be used by this token now.
    pub(super) fn identify(
        &self,
        account: &Arc<Account>,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Arc<Identity>, AuthError> {
        self.known.take();
        account::admit(account, Some(self.issued))?;
        let within = match self.within {
            None => None,
            Some(id) => {
                let token = directory.api_tokens().by_id(id).filter(|token| token.holds(now));
                Some(
                    token
                        .ok_or(AuthError::Invalid("the API token that it was made for does not hold any more"))?
                        .clone(),
                )
            }
        };
        let identity = Arc::new(Identity {
            account: account.clone(),
            proof: Proof::Token { issuer: self.source.rules.issuer.clone() },
            signed: Some(self.signed.clone()),
            claims: Some(self.claims.clone()),
            issued: self.issued,
            expires: Some(self.expires),
            audience: self.service.clone(),
            within,
        });
        if self.within.is_none() {
            let known = Known { directory: directory.version(), identity: identity.clone() };
            self.known.replace(Some(known));
        }
        Ok(identity)
    }

    fn key_holds(&self, now: Timestamp) -> bool {
        let keys = self.source.keys.load();
        if !keys.usable(now) {
            return false;
        }
        if keys.generation != self.generation.get() {
            if !keys.holds(&self.signed.0.key) {
                return false;
            }
            self.generation.set(keys.generation);
        }
        true
    }

    fn account<'d>(&self, directory: &'d Directory) -> Option<&'d Arc<Account>> {
        let account = directory.by_id(self.user)?;
        if directory.epoch() != self.epoch.get() {
            if !self.signed.proves(self.user, directory) {
                return None;
            }
            self.epoch.set(directory.epoch());
        }
        Some(account)
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.last_chunk::<TAIL>().map_or(self.0, <[u8; TAIL]>::as_slice));
    }
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Sought(&self.0.text.rest).hash(state);
    }
}

impl Equivalent<Kept> for Sought<'_> {
    fn equivalent(&self, key: &Kept) -> bool {
        let Text { beginning, rest } = &key.0.text;
        self.0.strip_prefix(&**beginning).is_some_and(|of_it| *of_it == **rest)
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0.text, &other.0.text);
        one.beginning.iter().chain(&one.rest).eq(other.beginning.iter().chain(&other.rest))
    }
}

impl Eq for Kept {}

/// What a token takes whatever is in it: its place, in a table that may be half empty, what proved it, and whom it proves, as
/// he was when it was last seen, with the two counts of each that is shared.
const OWN: usize = 2 * size_of::<(Kept, Rc<Verified>)>()
    + size_of::<(Verified, Signature, Claims, Identity, Account)>()
    + 7 * 2 * size_of::<usize>();

/// Bytes, about; at least what makes the count's bound hold by bytes too.
#[derive(Clone)]
struct Weight {
    least: u64,
}

impl Weighter<Kept, Rc<Verified>> for Weight {
    fn weight(&self, _: &Kept, verified: &Rc<Verified>) -> u64 {
        let Text { beginning, rest } = &verified.text;
        let rest = if rest.spilled() { rest.capacity() } else { 0 };
        let text = beginning.len() + rest + verified.signed.0.subject.len();
        ((OWN + text + held(&verified.claims.0)) as u64).max(self.least)
    }
}

/// What these claims take beside the map itself: what is short as text may be long in memory. Tables and lists may have
/// room for as many again.
fn held(claims: &Map<String, Value>) -> usize {
    let places = 2 * claims.len() * size_of::<(String, Value, [usize; 2])>();
    claims.iter().map(|(name, claim)| name.len() + held_by(claim)).sum::<usize>() + places
}

fn held_by(claim: &Value) -> usize {
    match claim {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(held_by).sum::<usize>() + 2 * size_of_val(list.as_slice()),
        Value::Object(map) => held(map),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
