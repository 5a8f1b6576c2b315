//! The whole policy at once, from records that come in order: what a full load takes.
//!
//! A patch copies what it changes, which is right for one grant and wasteful for ten million. Here the rows of a subject
//! are gathered while they come one after the other and written once, sorted; each name's list of its rows is written at
//! the end. The snapshot is the same as the one that patches lead to.

use std::collections::{HashMap, HashSet};

use ahash::RandomState;
use jiff::Timestamp;

use super::names::{GrantedTo, NodeId};
use super::rows::{Counting, NEVER, Row, Rows};
use super::snapshot::{Change, Grant, Member, Resource, Snapshot};
use super::subjects::SubjectId;
use super::{Levels, Pattern, Subject};

/// How many names are remembered, so that the next grant on one of them does not look for it key by key. A population
/// has a few thousand that most grants are on.
const REMEMBERED: usize = 1 << 16;

/// A snapshot in the making. Records may come in any order, a later one replacing an earlier one of the same key; it is
/// fast when the grants of one subject come together.
pub struct Builder {
    snapshot: Snapshot,
    /// Where the names are that grants were on lately, by where their keys are in memory: records of one name share them.
    /// The pattern is kept, so that nothing else can come to be there.
    known: HashMap<usize, (Pattern, NodeId), RandomState>,
    /// Who has a row on each name, by its number. A name counts these as uses only at the end.
    granted: Vec<GrantedTo>,
    /// Whose grants are coming now.
    subject: Option<Subject>,
    /// They, as they came.
    rows: Vec<Row>,
    counting: Counting,
    /// Names count their uses from the end on, so nothing that releases one may come before.
    resources: Vec<Resource>,
}

/// A name that a builder knows.
#[derive(Clone, Copy, Debug)]
pub struct Name(NodeId);

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            snapshot: Snapshot::empty(),
            known: HashMap::with_hasher(RandomState::new()),
            granted: Vec::new(),
            subject: None,
            rows: Vec::new(),
            counting: Counting::default(),
            resources: Vec::new(),
        }
    }

    /// Adds the grant, as [`Change::Grant`] does.
    pub fn grant(&mut self, grant: &Grant) {
        self.subject(&grant.subject);
        let name = Name(self.node(&grant.pattern));
        self.row(name, grant.levels, grant.expires);
    }

    /// Says whose the rows are that follow.
    pub fn subject(&mut self, subject: &Subject) {
        if self.subject.as_ref() != Some(subject) {
            self.finish_subject();
            self.subject = Some(subject.clone());
        }
    }

    /// The name, for the rows on it.
    pub fn name(&mut self, pattern: &Pattern) -> Name {
        Name(self.snapshot.names.reserve(pattern))
    }

    /// Adds a grant to the subject that was named last, as [`Change::Grant`] does; without one nobody has it. The name is
    /// of this builder.
    pub fn row(&mut self, Name(node): Name, levels: Levels, expires: Option<Timestamp>) {
        self.rows.push(Row { node, levels, ends: expires.map_or(NEVER, Timestamp::as_second) });
    }

    /// Adds the user, as [`Change::Member`] does.
    pub fn member(&mut self, member: Member) {
        self.snapshot.enlist(member);
    }

    /// Adds the resource, as [`Change::Resource`] does.
    pub fn resource(&mut self, resource: Resource) {
        self.resources.push(resource);
    }

    /// How many grants there are so far, those that replaced another one included.
    #[must_use]
    pub fn grants(&self) -> usize {
        self.snapshot.size().grants + self.rows.len()
    }

    /// The policy.
    #[must_use]
    pub fn finish(mut self) -> Snapshot {
        self.finish_subject();
        let holders: HashSet<SubjectId, RandomState> = self.snapshot.subjects.holders.values().copied().collect();
        let names = &mut self.snapshot.names;
        for (number, to) in self.granted.into_iter().enumerate() {
            names.keep_granted(NodeId::of(number), to, |subject| holders.contains(&subject));
        }
        for node in (0..names.reach()).map(NodeId::of) {
            // A name that no row is left on goes, and with it those above that nothing else is on or below.
            names.settle(node);
        }
        for resource in self.resources {
            self.snapshot.apply(Change::Resource(resource));
        }
        self.snapshot
    }

    fn node(&mut self, pattern: &Pattern) -> NodeId {
        let place = pattern.keys().as_ptr().addr();
        if let Some((_, node)) = self.known.get(&place) {
            return *node;
        }
        let node = self.snapshot.names.reserve(pattern);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(place, (pattern.clone(), node));
        node
    }

    /// Writes the rows that were gathered.
    fn finish_subject(&mut self) {
        let Some(subject) = self.subject.take() else { return self.rows.clear() };
        let mut rows = std::mem::take(&mut self.rows);
        last_of_each_name(&mut rows);
        let id = self.snapshot.subjects.retain(&subject);
        let known = self.snapshot.subjects.entry(id).is_some_and(|entry| !entry.rows.is_empty());
        if known || subject.through().is_some() {
            self.merge(&subject, id, &rows);
        } else {
            self.write(&subject, id, &rows);
        }
        // Each row holds a use of its own.
        self.snapshot.subjects.release(id);
        rows.clear();
        self.rows = rows;
    }

    fn write(&mut self, subject: &Subject, id: SubjectId, rows: &[Row]) {
        let compiled = Rows::of(&self.snapshot.names, rows, &mut self.counting);
        if let Some(entry) = self.snapshot.subjects.entry_mut(id) {
            entry.rows = compiled;
        }
        for row in rows {
            self.count(subject, id, row.node);
        }
        self.snapshot.subjects.retain_more(id, rows.len());
    }

    /// One by one, for a subject whose grants came in several runs, and for holders, whose empty grants take away.
    fn merge(&mut self, subject: &Subject, id: SubjectId, rows: &[Row]) {
        for row in rows {
            let takes = row.levels.is_empty() && subject.through().is_some();
            let (names, subjects) = (&self.snapshot.names, &mut self.snapshot.subjects);
            let Some(entry) = subjects.entry_mut(id) else { return };
            let before = if takes { entry.rows.take(names, row.node) } else { entry.rows.put(names, *row) };
            match (takes, before.is_some()) {
                (true, true) => {
                    self.snapshot.subjects.release(id);
                    self.snapshot.grants -= 1;
                    if let Some(to) = self.granted.get_mut(row.node.number() as usize) {
                        to.others.retain(|other| *other != id);
                    }
                }
                (false, false) => {
                    self.count(subject, id, row.node);
                    self.snapshot.subjects.retain_more(id, 1);
                }
                _ => {}
            }
        }
    }

    fn count(&mut self, subject: &Subject, id: SubjectId, node: NodeId) {
        let position = node.number() as usize;
        if self.granted.len() <= position {
            self.granted.resize_with(position + 1, GrantedTo::default);
        }
        if let Some(to) = self.granted.get_mut(position) {
            let subjects = if matches!(subject, Subject::User(_)) { &mut to.users } else { &mut to.others };
            subjects.push(id);
        }
        self.snapshot.grants += 1;
    }
}

/// Sorts the rows by name, and of several on one name keeps the last that came.
fn last_of_each_name(rows: &mut Vec<Row>) {
    rows.reverse();
    // Stable: what came last stays in front of what it replaces.
    rows.sort_by_key(|row| row.node);
    rows.dedup_by_key(|row| row.node);
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("grants", &self.grants()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_remembers_the_names_it_met_and_no_more_than_so_many() {
        let mut builder = Builder::new();
        let name = |number: usize| Pattern::literal([number.to_string()]).unwrap();
        let grant = |pattern| Grant { subject: Subject::Everyone, pattern, levels: Levels::READ, expires: None };
        let few: Vec<Grant> = (0..3).map(name).map(grant).collect();
        few.iter().chain(&few).for_each(|grant| builder.grant(grant));
        assert_eq!(builder.known.len(), 3);
        (3..=REMEMBERED).map(name).map(grant).for_each(|grant| builder.grant(&grant));
        assert_eq!(builder.known.len(), 1);
        assert_eq!(builder.finish().size().grants, REMEMBERED + 1);
    }
}
