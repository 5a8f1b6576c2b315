//! API tokens: a key that acts as its user, within patterns, until it is revoked, ends or is used up.
//!
//! What decides is in memory: a key is found by its digest, and a key of 32 random bytes needs no slow hash. What changes
//! with use is in the store; here is only noted that a token is used up, and when it was last used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::config::{PatternFault, RequestPattern, Segment};
use crate::policy::UserId;
use crate::store::{self, ApiTokenId, Item, Key, KeyDigest};

/// What tells a key from other secrets, for programs that look for keys where none should be. The four characters before
/// it tell keys apart for people.
pub(super) const MARK: &str = "_carta_";

/// Characters of a key's beginning that lists show.
pub const HINT: usize = 4;

/// Those that are not taken for another.
const HINT_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A key that was just made: shown once, and kept nowhere.
pub struct NewKey {
    /// The key.
    pub text: Zeroizing<String>,
    /// What it begins with.
    pub hint: String,
    /// What it is found by.
    pub digest: KeyDigest,
}

impl NewKey {
    /// A key of 32 random bytes; none where the system has no chance to give.
    #[must_use]
    pub fn random() -> Option<Self> {
        let (mut bytes, mut hint) = (Zeroizing::new([0; 32]), [0; HINT]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).ok()?;
        aws_lc_rs::rand::fill(&mut hint).ok()?;
        let letter = |byte: &u8| HINT_LETTERS.get(usize::from(byte % 32)).copied().map_or('a', char::from);
        let hint: String = hint.iter().map(letter).collect();
        // As much room as it needs, so that no part of it is left where it was moved from.
        let mut text = Zeroizing::new(String::with_capacity(HINT + MARK.len() + 43));
        text.push_str(&hint);
        text.push_str(MARK);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        let digest = key_digest(text.as_bytes());
        Some(Self { text, hint, digest })
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey")
    }
}

/// What the key is found by.
pub(super) fn key_digest(key: &[u8]) -> KeyDigest {
    let mut bytes = [0; 32];
    // SHA-256 has as many.
    for (byte, of) in bytes.iter_mut().zip(digest(&SHA256, key).as_ref()) {
        *byte = *of;
    }
    KeyDigest(bytes)
}

/// Reads an endpoint pattern: `METHOD /path`, as of an operation, without names in braces.
///
/// # Errors
/// [`PatternFault`].
pub fn endpoint(text: &str) -> Result<RequestPattern, PatternFault> {
    let pattern = RequestPattern::parse(text)?;
    if pattern.segments.iter().any(|segment| matches!(segment, Segment::Capture(_))) {
        return Err(PatternFault {
            what: format!("`{}` has a name in braces", text.escape_debug()),
            instead: "write `*` for any characters within one segment".to_owned(),
        });
    }
    Ok(pattern)
}

/// An API token as requests need it.
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// As whom it acts.
    pub user: UserId,
    /// Its name.
    pub name: Arc<str>,
    /// What it may be used for.
    pub patterns: Box<[RequestPattern]>,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
    /// Whether its uses are counted.
    pub counts: bool,
    revoked: bool,
    /// Set once the store has no use left; never taken back.
    spent: AtomicBool,
    /// The second of the last use that is on its way to the store.
    used: AtomicI64,
    /// Whether it waits to be taken there.
    waits: AtomicBool,
}

impl ApiToken {
    fn of(record: &store::ApiToken) -> Self {
        let read = |text: &String| match endpoint(text) {
            Ok(pattern) => Some(pattern),
            Err(fault) => {
                // It was right when it was stored: another version of the gateway reads it now.
                tracing::error!(%fault, "a pattern of an API token is left out");
                None
            }
        };
        Self {
            id: record.id,
            user: record.user,
            name: record.name.as_str().into(),
            patterns: record.patterns.iter().filter_map(read).collect(),
            expires: record.expires,
            counts: record.uses.is_some(),
            revoked: record.revoked,
            spent: AtomicBool::new(record.uses == Some(0)),
            used: AtomicI64::new(i64::MIN),
            waits: AtomicBool::new(false),
        }
    }

    /// Whether it was neither revoked nor has ended. One that is used up is good for what it was used for.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires.is_none_or(|end| now < end)
    }

    /// Notes that its last use was taken: it proves nobody any more.
    pub fn use_up(&self) {
        self.spent.store(true, Ordering::Relaxed);
    }

    /// Notes a use; whether it is to be put in the line of those whose last use is brought to the store, because it does
    /// not stand there yet.
    #[must_use]
    pub fn touch(&self, now: Timestamp) -> bool {
        let second = now.as_second();
        // A token in steady use writes to memory that all threads share once a second, and not with each request.
        if self.used.load(Ordering::Relaxed) >= second {
            return false;
        }
        self.used.fetch_max(second, Ordering::Relaxed);
        !self.waits.swap(true, Ordering::AcqRel)
    }

    /// Takes it from that line; when it was last used.
    #[must_use]
    pub fn take_use(&self) -> Option<Timestamp> {
        self.waits.store(false, Ordering::Release);
        Timestamp::from_second(self.used.load(Ordering::Acquire)).ok()
    }
}

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiToken").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What becomes of a use of an API token.
#[async_trait]
pub trait Uses: Send + Sync {
    /// Takes one use off a token that counts them; false where there was none.
    ///
    /// # Errors
    /// Where nobody can tell, with the reason for the log: the request is then refused.
    async fn spend(&self, token: &ApiToken, now: Timestamp) -> Result<bool, String>;

    /// Notes that the token was used. Never waits.
    fn note(&self, token: &Arc<ApiToken>, now: Timestamp);
}

/// The digests of keys do not come from callers as they are, and the hash is keyed all the same.
type Map<K, V> = GenericHashMap<K, V, ahash::RandomState, DefaultSharedPtr>;

/// The API tokens at one revision; a clone shares everything.
#[derive(Clone, Default)]
pub struct ApiTokens {
    by_key: Map<KeyDigest, Arc<ApiToken>>,
    keys: Map<ApiTokenId, KeyDigest>,
}

impl ApiTokens {
    /// Takes what changed; items of other kinds are ignored.
    pub(super) fn apply(&mut self, item: &Item) {
        match item {
            Item::ApiToken(record) => {
                self.remove(record.id);
                self.keys.insert(record.id, record.digest);
                self.by_key.insert(record.digest, Arc::new(ApiToken::of(record)));
            }
            Item::Gone(Key::ApiToken(id)) => self.remove(*id),
            _ => {}
        }
    }

    /// The token with this id, whatever became of it.
    #[must_use]
    pub fn by_id(&self, id: ApiTokenId) -> Option<&Arc<ApiToken>> {
        self.by_key.get(self.keys.get(&id)?)
    }

    /// Whether the token is still there and holds.
    #[must_use]
    pub fn hold(&self, id: ApiTokenId, now: Timestamp) -> bool {
        self.by_id(id).is_some_and(|token| token.holds(now))
    }

    /// The token with this key, if it is good for something new.
    pub(super) fn by_key(&self, digest: &KeyDigest, now: Timestamp) -> Option<&Arc<ApiToken>> {
        self.by_key.get(digest).filter(|token| token.holds(now) && !token.spent.load(Ordering::Relaxed))
    }

    fn remove(&mut self, id: ApiTokenId) {
        if let Some(digest) = self.keys.remove(&id) {
            self.by_key.remove(&digest);
        }
    }
}

impl std::fmt::Debug for ApiTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiTokens({})", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn record(digest: KeyDigest) -> store::ApiToken {
        store::ApiToken {
            id: ApiTokenId(Uuid::from_u128(1)),
            user: UserId(Uuid::from_u128(2)),
            name: "ci".to_owned(),
            digest,
            hint: "abcd".to_owned(),
            patterns: vec!["GET /user".to_owned()],
            expires: Some(Timestamp::from_second(100).unwrap()),
            uses: Some(1),
            revoked: false,
            auto_remove: false,
            created: Timestamp::UNIX_EPOCH,
            last_used: None,
        }
    }

    fn tokens(items: &[Item]) -> ApiTokens {
        let mut tokens = ApiTokens::default();
        items.iter().for_each(|item| tokens.apply(item));
        tokens
    }

    #[test]
    fn a_new_key_is_found_by_its_text_and_shows_it_to_nobody() {
        let (one, two) = (NewKey::random().unwrap(), NewKey::random().unwrap());
        assert_ne!(*one.text, *two.text);
        assert!(one.text.starts_with(&one.hint) && one.text[HINT..].starts_with(MARK), "{}", *one.text);
        assert_eq!(one.text.len(), HINT + MARK.len() + 43);
        let found = tokens(&[Item::ApiToken(Box::new(record(one.digest)))]);
        let now = Timestamp::UNIX_EPOCH;
        assert!(found.by_key(&key_digest(one.text.as_bytes()), now).is_some());
        assert!(found.by_key(&key_digest(two.text.as_bytes()), now).is_none());
        assert_eq!(format!("{one:?} {found:?}"), "NewKey ApiTokens(1)");
    }

    #[test]
    fn a_token_holds_until_it_ends_is_revoked_or_is_gone() {
        let digest = key_digest(b"k");
        let (record, at) = (record(digest), |second| Timestamp::from_second(second).unwrap());
        let found = tokens(&[Item::ApiToken(Box::new(record.clone()))]);
        assert!(found.by_key(&digest, at(99)).is_some() && found.hold(record.id, at(99)));
        assert!(found.by_key(&digest, at(100)).is_none() && !found.hold(record.id, at(100)));
        let revoked = Item::ApiToken(Box::new(store::ApiToken { revoked: true, ..record.clone() }));
        let gone = Item::Gone(Key::ApiToken(record.id));
        for item in [revoked, gone] {
            let mut after = found.clone();
            after.apply(&item);
            assert!(after.by_key(&digest, at(0)).is_none() && !after.hold(record.id, at(0)));
        }
        found.by_id(record.id).unwrap().use_up();
        assert!(found.by_key(&digest, at(0)).is_none(), "nothing new begins with it");
        assert!(found.hold(record.id, at(0)), "what it began may end");
    }

    #[test]
    fn a_token_in_use_stands_in_line_once() {
        let token = ApiToken::of(&record(key_digest(b"k")));
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(token.touch(at(5)));
        assert!(!token.touch(at(5)) && !token.touch(at(6)), "it stands there already");
        assert_eq!(token.take_use(), Some(at(6)));
        assert!(!token.touch(at(6)), "nothing new");
        assert!(token.touch(at(7)));
    }

    #[test]
    fn a_pattern_with_a_name_in_braces_is_refused() {
        assert!(endpoint("GET /tags/*").is_ok());
        assert!(endpoint("GET /tags/{id}").is_err());
    }
}
