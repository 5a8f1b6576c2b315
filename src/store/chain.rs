//! The audit's chain: the keyed hash of each entry covers the entry and the hash of the one before it.
//!
//! The keys are random, numbered from 1, and kept in the store, sealed by who implements [`ChainKeys`]. Who can write the
//! store and does not have the vault key can make no hash that holds.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::StoreError;

/// The setting that keeps the sealed keys.
pub const AUDIT_KEYS: &str = "audit.keys";

/// What was done by the entry with which the chain begins after entries that have no hash.
pub const CHAIN_BEGINS: &str = "audit.chain";

/// What was done by the entry that says which entries before it were removed by who has the keys: where the chain begins.
pub const AUDIT_PRUNED: &str = "audit.prune";

/// What was done by the entry in which a running gateway notes that the audit is not what it was.
pub const CHAIN_BROKEN: &str = "audit.broken";

/// Makes and opens the chain's keys.
pub trait ChainKeys: Send + Sync {
    /// The keys of a store that has none yet, sealed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where there are no random bytes.
    fn make(&self) -> Result<String, StoreError>;

    /// The keys that are sealed in the text.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where they do not open.
    fn open(&self, sealed: &str) -> Result<Box<dyn ChainHash>, StoreError>;
}

/// The chain's keys, ready to hash with.
pub trait ChainHash: Send {
    /// The number of the key that new entries are hashed with.
    fn newest(&self) -> u32;

    /// The HMAC-SHA-256 of the bytes; none where there is no key of this number.
    fn hash(&self, key: u32, bytes: &[u8]) -> Option<Mac>;
}

/// The keyed hash of an entry, and through it of all before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mac(pub [u8; 32]);

/// The newest entry as somebody can keep it elsewhere: `SEQ:MAC`, the MAC in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The entry's number.
    pub seq: u64,
    /// Its hash.
    pub mac: Mac,
}

/// How far the chain was followed, from its first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The last entry looked at; 0: none.
    pub seq: u64,
    /// The hash that this entry must have.
    pub mac: Mac,
    /// The number of the key that it was hashed with.
    pub key: u32,
    /// How many entries were there before the chain began: what happened to them until then is not known.
    pub before: u64,
    /// The last of the entries that were removed by who has the keys; 0: none were.
    pub pruned: u64,
}

/// What following the chain some way leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It holds so far, and there is more.
    More(Followed, Vec<Noted>),
    /// It holds to its end.
    Whole(Followed, Vec<Noted>),
    /// It does not hold.
    Broken(Break),
}

/// An entry in which a running gateway noted a break that the store itself may not show any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The entry's number.
    pub seq: u64,
    /// What it says, as JSON.
    pub said: String,
}

/// The first thing that is wrong with the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// The entry is not what was written.
    #[error("entry {seq} is not what was written: it was altered")]
    Altered {
        /// Which.
        seq: u64,
    },
    /// What stands there was not written there by who has the key.
    #[error(
        "entry {seq} is not the one that was written there: it was put there or altered, or entries before it were removed"
    )]
    Foreign {
        /// Which.
        seq: u64,
    },
    /// What stands there was written at another place.
    #[error("entry {seq} was written as entry {was}: entries were reordered or removed")]
    Moved {
        /// Where it stands.
        seq: u64,
        /// Where it was written.
        was: u64,
    },
    /// Entries are not there.
    #[error("entries {from} to {to} are missing")]
    Missing {
        /// The first that is missing.
        from: u64,
        /// The last.
        to: u64,
    },
    /// An entry has no hash though the chain had begun.
    #[error("entry {seq} has no hash: it was put there, or its hash was removed")]
    Unchained {
        /// Which.
        seq: u64,
    },
    /// An entry from before the chain is not what it was when the chain began, or the chain's first is not.
    #[error("one of the entries 1 to {upto} is not what it was when the chain began: it was altered")]
    BeforeChain {
        /// The chain's first entry.
        upto: u64,
    },
    /// An entry names a key that the store does not have, or an older one than the entry before.
    #[error(
        "entry {seq} names key {key}, which was not in use then: it was altered, or the store's keys were put back"
    )]
    WrongKey {
        /// Which.
        seq: u64,
        /// The key's number.
        key: u32,
    },
    /// The newest entries are gone.
    #[error("entries after {seq} are missing: the newest were removed")]
    Cut {
        /// The newest that is there.
        seq: u64,
    },
    /// An entry that was there is gone.
    #[error("entry {seq} is not there: the newest entries were removed, or an older state of the store was put back")]
    Gone {
        /// Which.
        seq: u64,
    },
    /// There is another entry in its place.
    #[error(
        "entry {seq} is another one than it was: an older state of the store was put back, or the chain was made anew"
    )]
    Replaced {
        /// Which.
        seq: u64,
    },
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.mac)
    }
}

/// A text that is no head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no head of the audit\nwrite SEQ:MAC as `audit head` prints it")]
pub struct NoHead(String);

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let parse = || {
            let (seq, mac) = text.split_once(':')?;
            Some(Self { seq: seq.parse().ok().filter(|seq| *seq > 0)?, mac: mac_of(mac)? })
        };
        parse().ok_or_else(|| NoHead(text.chars().take(100).collect()))
    }
}

fn mac_of(text: &str) -> Option<Mac> {
    let mut mac = Mac::default();
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != mac.0.len() {
        return None;
    }
    for (byte, pair) in mac.0.iter_mut().zip(pairs) {
        // `from_str_radix` takes a sign.
        let digits =
            std::str::from_utf8(pair).ok().filter(|pair| pair.chars().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_anything_else_is_refused() {
        let mut mac = Mac::default();
        mac.0[0] = 0xa7;
        mac.0[31] = 1;
        let head = Head { seq: 12, mac };
        let text = head.to_string();
        assert_eq!(text.parse(), Ok(head));
        let (seq, digits) = text.split_once(':').unwrap();
        let signed = format!("{seq}:+{}", &digits[1..]);
        for wrong in
            ["", "12", "12:", ":", &text[1..text.len() - 1], &format!("{text}0"), &format!("0:{digits}"), &signed]
        {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }
}
