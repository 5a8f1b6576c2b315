//! Every subject that has a row, and every user that decisions know: dense ids, rows, memberships.

use std::sync::Arc;

use ahash::RandomState;
use imbl::OrdMap;
use smallvec::SmallVec;

use super::index::Index;
use super::paged::Paged;
use super::rows::Rows;
use super::{Levels, ResourceId, Subject, UserId};

/// The place of a subject in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SubjectId(u32);

impl SubjectId {
    /// Every authenticated identity; always there.
    pub(super) const EVERYONE: Self = Self(0);
    const NONE: Self = Self(u32::MAX);

    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// What is known of one subject.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) subject: Subject,
    pub(super) rows: Rows,
    /// For a known user: role and groups.
    pub(super) in_subjects: Option<Arc<[SubjectId]>>,
    /// Rows, memberships in and of it; the entry goes with the last of them.
    uses: u32,
    /// For a free entry: the next free one.
    free: SubjectId,
}

#[derive(Clone)]
pub(super) struct Subjects {
    entries: Paged<Entry>,
    /// The places of the subjects, by their hashes.
    ids: Index,
    seed: RandomState,
    /// The holders among them, in an order that does not depend on history; without levels where each counts by itself.
    pub(super) holders: OrdMap<(ResourceId, Option<Levels>), SubjectId>,
    free: SubjectId,
}

/// A free entry.
impl Default for Entry {
    fn default() -> Self {
        Self::new(Subject::Everyone)
    }
}

impl Entry {
    fn new(subject: Subject) -> Self {
        Self { subject, rows: Rows::default(), in_subjects: None, uses: 0, free: SubjectId::NONE }
    }
}

impl Subjects {
    pub(super) fn new() -> Self {
        let everyone = Entry { uses: 1, ..Entry::new(Subject::Everyone) };
        let (mut ids, seed) = (Index::default(), RandomState::new());
        ids.put(seed.hash_one(&everyone.subject), SubjectId::EVERYONE.0);
        Self { entries: Paged::unit(everyone), ids, seed, holders: OrdMap::new(), free: SubjectId::NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, subject: &Subject) -> Option<SubjectId> {
        let mut found = self.ids.at(self.seed.hash_one(subject)).map(SubjectId);
        found.find(|id| self.entry(*id).is_some_and(|entry| entry.subject == *subject))
    }

    pub(super) fn entry(&self, id: SubjectId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)
    }

    pub(super) fn entry_mut(&mut self, id: SubjectId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)
    }

    /// Every subject, and entries that are free, which have no rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The subject's id, made where there is none, with one use more.
    pub(super) fn retain(&mut self, subject: &Subject) -> SubjectId {
        let id = self.id(subject).unwrap_or_else(|| self.add(subject));
        if let Some(entry) = self.entry_mut(id) {
            entry.uses = entry.uses.saturating_add(1);
        }
        id
    }

    /// So many uses more of a subject that has one.
    pub(super) fn retain_more(&mut self, id: SubjectId, uses: usize) {
        if let Some(entry) = self.entry_mut(id) {
            entry.uses = entry.uses.saturating_add(u32::try_from(uses).unwrap_or(u32::MAX));
        }
    }

    /// Whether the subject is the holders of levels on a resource.
    pub(super) fn is_holders(&self, id: SubjectId) -> bool {
        self.entry(id).is_some_and(|entry| entry.subject.through().is_some())
    }

    /// One use less; a subject that nothing uses any more goes.
    pub(super) fn release(&mut self, id: SubjectId) {
        let free = self.free;
        let Some(entry) = self.entry_mut(id) else { return };
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses > 0 || id == SubjectId::EVERYONE {
            return;
        }
        let gone = std::mem::replace(entry, Entry { free, ..Entry::default() });
        self.free = id;
        self.ids.take(self.seed.hash_one(&gone.subject), id.0);
        if let Some((resource, levels)) = gone.subject.through() {
            self.holders.remove(&(resource, levels));
        }
    }

    /// Makes the user a member of exactly these; `None` forgets the user.
    pub(super) fn enlist(&mut self, user: UserId, subjects: Option<impl Iterator<Item = Subject>>) {
        let id = self.retain(&Subject::User(user));
        let new: Option<Arc<[SubjectId]>> = subjects.map(|all| {
            let mut all: SmallVec<[Subject; 8]> = all.collect();
            all.sort_unstable();
            all.dedup();
            all.iter().map(|subject| self.retain(subject)).collect()
        });
        let known = new.is_some();
        let Some(entry) = self.entry_mut(id) else { return };
        let old = std::mem::replace(&mut entry.in_subjects, new);
        for left in old.as_deref().unwrap_or_default() {
            self.release(*left);
        }
        // One use stays for as long as the user is known; the one taken above goes otherwise.
        if old.is_some() {
            self.release(id);
        }
        if !known {
            self.release(id);
        }
    }

    fn add(&mut self, subject: &Subject) -> SubjectId {
        let id = match self.entries.get_mut(self.free.0 as usize) {
            Some(slot) => {
                let id = self.free;
                self.free = std::mem::replace(slot, Entry::new(subject.clone())).free;
                id
            }
            None => {
                self.entries.push(Entry::new(subject.clone()));
                SubjectId(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.ids.put(self.seed.hash_one(subject), id.0);
        if let Some((resource, levels)) = subject.through() {
            self.holders.insert((resource, levels), id);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_subjects_take_the_places_of_those_that_went() {
        let mut subjects = Subjects::new();
        let user = |number| Subject::User(UserId(uuid::Uuid::from_u128(number)));
        let ids: Vec<SubjectId> = (0..3).map(|number| subjects.retain(&user(number))).collect();
        let places = subjects.entries.len();
        ids.into_iter().for_each(|id| subjects.release(id));
        assert_eq!(subjects.len(), 1, "everyone");
        (3..6).for_each(|number| assert!(subjects.retain(&user(number)) != SubjectId::EVERYONE));
        assert_eq!((subjects.len(), subjects.entries.len()), (4, places));
    }
}
