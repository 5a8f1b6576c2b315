//! What one thread decided lately, so that the same question again costs one look.
//!
//! A memo, not a second engine: an entry is the verdict of the walk on this very snapshot, compared by the whole
//! question, and is gone with the snapshot or with the first grant on which it rests.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use jiff::Timestamp;

use super::decide::judge;
use super::evaluate::{Reading, Verdict};
use super::rows::NEVER;
use super::snapshot::Snapshot;
use super::{Denied, Levels, Permit, UserId};

/// The longest name that is remembered, in bytes: callers choose the last keys of some names, and must not choose how
/// much memory that takes.
const MAX_NAME: usize = 192;

/// How much of a name has room in its slot, in bytes: of most all of it, and the first half beside the rest.
const IN_PLACE: usize = 46;

/// How many slots a question may be in: with one alone, two that are asked again and again could keep each other out.
const WAYS: usize = 4;

/// Stands after each key of a remembered name; no text has this byte.
const END: u8 = 0xFF;

/// The decisions of one thread that are likely to be asked for again. Bounded; a newer one takes an older one's place.
pub struct Recent {
    /// What the entries are true of.
    snapshot: Option<Arc<()>>,
    /// Raised with every new snapshot: entries of another age are void.
    age: u64,
    /// Some bits of the hashes of the questions in the slots: so few that all of them stay in the processor's cache, and
    /// that a slot is seldom looked at for another question's sake. They tell where to look, and nothing else.
    tags: Box<[[u16; WAYS]]>,
    /// As many as there are tags.
    slots: Box<[Slot]>,
    seed: RandomState,
    hits: u64,
    misses: u64,
}

/// One decision. What a question is compared with and what permits it is one line of the processor's cache, where the name
/// is short; what only a refusal tells is the next.
#[derive(Clone)]
#[repr(C, align(64))]
struct Slot {
    user: UserId,
    age: u64,
    /// The second of the walk; the verdict holds from here to its end.
    from: i64,
    ends: i64,
    levels: Levels,
    /// Of the name, in bytes.
    length: u8,
    name: [u8; IN_PLACE],
    /// The name where it has no room in its place.
    long: Option<Box<[u8]>>,
    owner: Option<UserId>,
}

const _: () = assert!(size_of::<Slot>() == 128, "a decision takes more than two lines of the processor's cache");

impl Recent {
    /// Room for about this many decisions, of some 130 bytes each.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let sets = capacity.div_ceil(WAYS).max(1).next_power_of_two();
        Self {
            snapshot: None,
            age: 0,
            tags: vec![[0; WAYS]; sets].into(),
            slots: vec![Slot::VOID; sets * WAYS].into(),
            seed: RandomState::new(),
            hits: 0,
            misses: 0,
        }
    }

    /// As [`Snapshot::permit`], and the same answer.
    ///
    /// # Errors
    /// [`Denied`] as there.
    pub fn permit(
        &mut self,
        snapshot: &Snapshot,
        user: UserId,
        keys: &[&str],
        need: Levels,
        now: Timestamp,
    ) -> Result<Permit, Denied> {
        if !self.snapshot.as_ref().is_some_and(|known| Arc::ptr_eq(known, &snapshot.identity)) {
            // Kept, so that no later snapshot can have the same address.
            self.snapshot = Some(Arc::clone(&snapshot.identity));
            self.age += 1;
        }
        let second = now.as_second();
        let hash = self.hash(user, keys);
        let set = usize::try_from(hash & (self.tags.len() as u64 - 1)).unwrap_or(0);
        let (tag, tags) = (tag(hash), self.tags.get(set).copied().unwrap_or_default());
        let slots = self.slots.get(set * WAYS..).unwrap_or_default();
        let known = tags.iter().zip(slots).find(|(known, slot)| {
            **known == tag && slot.age == self.age && slot.holds_at(second) && slot.is_of(user, keys)
        });
        if let Some((_, slot)) = known {
            self.hits += 1;
            return judge(slot.levels, slot.ends, user, need, || slot.owner);
        }
        self.misses += 1;
        let verdict = snapshot.verdict(user, keys, Reading::Covering, now);
        if keys.iter().map(|key| key.len() + 1).sum::<usize>() <= MAX_NAME {
            self.remember((tag, set), user, keys, second, verdict);
        }
        judge(verdict.levels, verdict.ends, user, need, || verdict.owner)
    }

    /// In the slot of the same question, else in one that is void, else in any of the set.
    fn remember(&mut self, (tag, set): (u16, usize), user: UserId, keys: &[&str], second: i64, verdict: Verdict) {
        let slots = self.slots.get(set * WAYS..).unwrap_or_default();
        let slots = slots.get(..WAYS).unwrap_or_default();
        let same = slots.iter().position(|slot| slot.is_of(user, keys));
        let void = || slots.iter().position(|slot| slot.age != self.age);
        let any = || usize::try_from(self.misses % WAYS as u64).unwrap_or(0);
        let way = same.or_else(void).unwrap_or_else(any);
        let known = self.tags.get_mut(set).and_then(|tags| tags.get_mut(way));
        let (Some(known), Some(slot)) = (known, self.slots.get_mut(set * WAYS + way)) else { return };
        *known = tag;
        slot.put_name(keys);
        (slot.age, slot.user, slot.from) = (self.age, user, second);
        (slot.levels, slot.ends, slot.owner) = (verdict.levels, verdict.ends, verdict.owner);
    }

    /// How many questions were answered from memory, and how many by the walk.
    #[must_use]
    pub const fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    fn hash(&self, user: UserId, keys: &[&str]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u128(user.0.as_u128());
        for key in keys {
            hasher.write(key.as_bytes());
        }
        hasher.finish()
    }
}

/// The bits that tell slots apart: others than those that choose the set.
const fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16
}

impl Slot {
    const VOID: Self = Self {
        user: UserId(uuid::Uuid::nil()),
        age: 0,
        from: 0,
        ends: NEVER,
        levels: Levels::NONE,
        length: 0,
        name: [0; IN_PLACE],
        long: None,
        owner: None,
    };

    /// Rows only ever end, so the verdict is the same from the walk's second to the first end on which it rests.
    const fn holds_at(&self, second: i64) -> bool {
        self.from <= second && second < self.ends
    }

    fn is_of(&self, user: UserId, keys: &[&str]) -> bool {
        self.user == user && self.is_named(keys)
    }

    fn is_named(&self, keys: &[&str]) -> bool {
        let rest = keys.iter().try_fold(self.name(), |rest, key| {
            let (end, rest) = rest.strip_prefix(key.as_bytes())?.split_first()?;
            (*end == END).then_some(rest)
        });
        rest.is_some_and(<[u8]>::is_empty)
    }

    fn name(&self) -> &[u8] {
        // The length is asked first: the long one stands in the other line.
        match self.name.get(..usize::from(self.length)) {
            Some(short) => short,
            None => self.long.as_deref().unwrap_or_default(),
        }
    }

    /// Of at most [`MAX_NAME`] bytes.
    fn put_name(&mut self, keys: &[&str]) {
        let bytes = keys.iter().flat_map(|key| key.bytes().chain([END]));
        let length = keys.iter().map(|key| key.len() + 1).sum::<usize>();
        self.length = u8::try_from(length).unwrap_or(u8::MAX);
        self.long = (length > IN_PLACE).then(|| bytes.clone().collect());
        self.name.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    }
}

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recent").field("hits", &self.hits).field("misses", &self.misses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_of_one_name_however_its_keys_are_cut() {
        let mut recent = Recent::new(1);
        let (snapshot, user) = (Snapshot::empty(), UserId(uuid::Uuid::nil()));
        let mut ask = |keys: &[&str]| recent.permit(&snapshot, user, keys, Levels::READ, Timestamp::UNIX_EPOCH).is_ok();
        assert!(!ask(&["ab", "c"]) && !ask(&["ab", "c"]));
        assert_eq!(recent.hits_and_misses(), (1, 1));
        let slot = recent.slots.iter().find(|slot| slot.age > 0).unwrap();
        assert!(slot.is_named(&["ab", "c"]));
        for keys in [&["a", "bc"][..], &["abc"], &["ab"], &["ab", "c", ""], &["ab", "c", "d"], &["ab", "cd"], &[]] {
            assert!(!slot.is_named(keys), "{keys:?}");
        }
    }

    #[test]
    fn a_set_remembers_as_many_questions_as_it_has_slots_and_the_newest_among_them() {
        let mut recent = Recent::new(WAYS);
        let (snapshot, user) = (Snapshot::empty(), UserId(uuid::Uuid::nil()));
        let mut ask = |number: usize| {
            let name = number.to_string();
            assert!(recent.permit(&snapshot, user, &[&name], Levels::READ, Timestamp::UNIX_EPOCH).is_err());
            recent.hits_and_misses()
        };
        (0..WAYS).for_each(|number| assert_eq!(ask(number).0, 0));
        (0..WAYS).for_each(|number| assert_eq!(ask(number).0, number as u64 + 1));
        for number in WAYS..10 * WAYS {
            let (hits, misses) = ask(number);
            assert_eq!(ask(number), (hits + 1, misses), "{number}");
        }
    }

    #[test]
    fn nothing_is_forgotten_while_its_set_has_a_void_slot() {
        let mut recent = Recent::new(16 * WAYS);
        let (snapshot, user) = (Snapshot::empty(), UserId(uuid::Uuid::nil()));
        // As many names of each set as it has slots.
        let mut sets = [const { Vec::new() }; 16];
        for name in (0..10_000).map(|number| number.to_string()) {
            let set = &mut sets[recent.hash(user, &[&name]) as usize % 16];
            if set.len() < WAYS {
                set.push(name);
            }
        }
        for _ in 0..2 {
            // One of each set after the other: what is put anywhere comes to the same slot again.
            for name in (0..WAYS).flat_map(|way| sets.iter().map(move |set| &set[way])) {
                assert!(recent.permit(&snapshot, user, &[name], Levels::READ, Timestamp::UNIX_EPOCH).is_err());
            }
        }
        assert_eq!(recent.hits_and_misses(), (16 * WAYS as u64, 16 * WAYS as u64));
    }

    #[test]
    fn questions_spread_over_the_slots_and_a_long_name_takes_none() {
        let mut recent = Recent::new(1024);
        let (snapshot, user) = (Snapshot::empty(), UserId(uuid::Uuid::nil()));
        let names: Vec<String> = (0..128).map(|number| number.to_string()).collect();
        for _ in 0..2 {
            for name in &names {
                assert!(recent.permit(&snapshot, user, &[name], Levels::READ, Timestamp::UNIX_EPOCH).is_err());
            }
        }
        assert!(recent.hits_and_misses().0 > 64, "{:?}", recent.hits_and_misses());
        let (hits, misses) = recent.hits_and_misses();
        let mut ask = |length: usize| {
            let name = "x".repeat(length);
            assert!(recent.permit(&snapshot, user, &[&name], Levels::READ, Timestamp::UNIX_EPOCH).is_err());
        };
        [MAX_NAME - 1, MAX_NAME - 1, MAX_NAME, MAX_NAME].into_iter().for_each(&mut ask);
        assert_eq!(recent.hits_and_misses(), (hits + 1, misses + 3));
    }

    #[test]
    fn a_name_is_remembered_as_a_whole_whatever_its_length() {
        let mut slot = Slot::VOID;
        // Longer and shorter ones in turn, in the slot of the one before.
        for length in [3, MAX_NAME - 1, IN_PLACE - 1, IN_PLACE, 0, IN_PLACE + 1, IN_PLACE - 2, MAX_NAME - 1, 1] {
            let name = "x".repeat(length);
            slot.put_name(&[&name]);
            assert!(slot.is_named(&[&name]), "{length}");
            assert!(!slot.is_named(&[&format!("{name}x")]) && !slot.is_named(&[&name, ""]), "{length}");
            assert!(!slot.is_named(&[name.get(1..).unwrap_or("y")]), "{length}");
            for at in 0..length {
                let mut other = name.clone();
                other.replace_range(at..=at, "y");
                assert!(!slot.is_named(&[&other]), "{length} {at}");
            }
        }
    }

    #[test]
    fn questions_of_one_tag_are_told_apart() {
        let mut recent = Recent::new(WAYS);
        let (snapshot, user) = (Snapshot::empty(), UserId(uuid::Uuid::nil()));
        let mut names: Vec<String> = Vec::new();
        for name in (0..).map(|number: u64| number.to_string()) {
            let of = |name: &str| tag(recent.hash(user, &[name]));
            if names.first().is_none_or(|first| of(first) == of(&name)) {
                names.push(name);
            }
            if names.len() == WAYS {
                break;
            }
        }
        for round in 0..3 {
            for name in &names {
                assert!(recent.permit(&snapshot, user, &[name], Levels::READ, Timestamp::UNIX_EPOCH).is_err());
            }
            assert_eq!(recent.hits_and_misses(), (round * WAYS as u64, WAYS as u64));
        }
    }
}
