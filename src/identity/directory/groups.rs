//! The groups of a directory, under dense numbers, with the numbers of their members.

use std::sync::Arc;

use imbl::Vector;

use super::Map;
use crate::policy::{GroupId, Sorted};
use crate::store::Group;

/// Groups at one revision; a clone shares everything.
#[derive(Clone, Default)]
pub(super) struct Groups {
    numbers: Map<GroupId, u32>,
    names: Map<Arc<str>, u32>,
    slots: Vector<Slot>,
    free: Vector<u32>,
}

/// A group that is known, or that somebody is said to be in.
#[derive(Clone)]
struct Slot {
    id: GroupId,
    /// With its name, which every member's account shares.
    known: Option<(Arc<Group>, Arc<str>)>,
    members: Sorted<u32>,
}

impl Groups {
    /// The number of the group, if there is one.
    pub(super) fn number(&self, id: GroupId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    /// The group with this id.
    pub(super) fn by_id(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.known(self.number(id)?).map(|(group, _)| group)
    }

    /// The group with this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Group>> {
        self.known(*self.names.get(name)?).map(|(group, _)| group)
    }

    /// The known ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.slots.iter().filter_map(|slot| slot.known.as_ref()).map(|(group, _)| group)
    }

    /// The numbers of the group's members.
    pub(super) fn members(&self, number: u32) -> impl Iterator<Item = u32> {
        self.slots.get(number as usize).into_iter().flat_map(|slot| slot.members.iter().copied())
    }

    /// The names of those that are known, in order.
    pub(super) fn names_of(&self, numbers: &[u32]) -> Arc<[Arc<str>]> {
        let known = numbers.iter().filter_map(|number| self.known(*number));
        let mut names: Vec<Arc<str>> = known.map(|(_, name)| name.clone()).collect();
        names.sort_unstable();
        names.into()
    }

    /// The number of the group, made where there is none: it goes with the last member and the group itself.
    pub(super) fn make(&mut self, id: GroupId) -> u32 {
        if let Some(number) = self.number(id) {
            return number;
        }
        let slot = Slot { id, known: None, members: Sorted::default() };
        let number = match self.free.pop_back() {
            Some(number) => {
                self.slots.set(number as usize, slot);
                number
            }
            None => {
                self.slots.push_back(slot);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(id, number);
        number
    }

    /// Gives the group of this number its members, which are in order.
    pub(super) fn fill(&mut self, group: u32, members: &[u32]) {
        if let Some(slot) = self.slots.get_mut(group as usize) {
            slot.members = Sorted::of(members);
        }
    }

    /// Adds the user of this number to the group of that one.
    pub(super) fn join(&mut self, group: u32, user: u32) {
        if let Some(slot) = self.slots.get_mut(group as usize) {
            slot.members.put(user);
        }
    }

    /// Takes the user of this number out of the group of that one.
    pub(super) fn leave(&mut self, group: u32, user: u32) {
        if let Some(slot) = self.slots.get_mut(group as usize) {
            slot.members.take(user);
        }
        self.settle(group);
    }

    /// Adds the group or replaces it; its number, where the members' accounts have to follow.
    pub(super) fn put(&mut self, group: &Group) -> Option<u32> {
        let number = self.make(group.id);
        let slot = self.slots.get_mut(number as usize)?;
        let before = slot.known.take();
        let same = before.as_ref().filter(|(known, _)| known.name == group.name).map(|(_, name)| name.clone());
        let name = same.clone().unwrap_or_else(|| group.name.as_str().into());
        slot.known = Some((Arc::new(group.clone()), name.clone()));
        if same.is_some() {
            return None;
        }
        if let Some((_, old)) = before {
            self.forget_name(&old, number);
        }
        self.names.insert(name, number);
        Some(number)
    }

    /// Forgets the group; the numbers of those who are said to be in it still, whose accounts have to follow.
    pub(super) fn drop(&mut self, id: GroupId) -> Vec<u32> {
        let Some(number) = self.number(id) else { return Vec::new() };
        let known = self.slots.get_mut(number as usize).and_then(|slot| slot.known.take());
        if let Some((_, name)) = known {
            self.forget_name(&name, number);
        }
        let members = self.members(number).collect();
        self.settle(number);
        members
    }

    fn known(&self, number: u32) -> Option<&(Arc<Group>, Arc<str>)> {
        self.slots.get(number as usize)?.known.as_ref()
    }

    /// A name may have passed to another group in the same patch: only the group's own mapping goes.
    fn forget_name(&mut self, name: &str, number: u32) {
        if self.names.get(name) == Some(&number) {
            self.names.remove(name);
        }
    }

    /// Gives the number of a group away that is not known and that nobody is in.
    fn settle(&mut self, number: u32) {
        let unused = |slot: &&Slot| slot.known.is_none() && slot.members.is_empty();
        let id = self.slots.get(number as usize).filter(unused).map(|slot| slot.id);
        if let Some(id) = id
            && self.numbers.get(&id) == Some(&number)
        {
            self.numbers.remove(&id);
            self.free.push_back(number);
        }
    }
}
