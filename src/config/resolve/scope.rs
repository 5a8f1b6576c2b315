//! Where in the configuration a reader is, so that a fault knows its place.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use super::super::fault::{Complaint, Fault, Place};
use super::super::reference::References;
use super::super::tree::{Node, Step, shown_path};

/// Nobody reads more at once.
const MOST_FAULTS: usize = 1000;

/// What all readers of one table share.
pub(super) struct Ground<'a> {
    pub(super) tree: &'a Node,
    /// The file's name and text; none for a table that came as JSON.
    pub(super) source: Option<(&'a Path, &'a str)>,
    pub(super) references: References<'a>,
    /// Keys that need not be missed: a misspelling of them was reported already.
    pub(super) excused: HashSet<String>,
    /// The text did not read as a whole, so that what seems missing may only be lost.
    pub(super) broken: bool,
    pub(super) faults: RefCell<Vec<Fault>>,
}

/// A path in the table.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    ground: &'a Ground<'a>,
    path: Vec<Step>,
}

impl<'a> Ground<'a> {
    pub(super) fn root(&'a self) -> Scope<'a> {
        Scope { ground: self, path: Vec::new() }
    }

    /// The place of what is at the path, or of the nearest above it.
    pub(super) fn place(&self, path: &[Step], on_key: bool) -> Option<Place> {
        let (file, text) = self.source?;
        let found = (1..=path.len()).rev().find_map(|length| {
            let (node, key) = self.tree.find(path.get(..length)?)?;
            let exact = length == path.len();
            Some(if exact && !on_key { node.span.start } else { key.start })
        });
        Some(found.map_or_else(|| Place::whole(file), |offset| Place::at(file, text, offset)))
    }
}

impl<'a> Scope<'a> {
    /// What is under this key.
    pub(super) fn key(&self, key: &str) -> Self {
        self.below(Step::Key(key.to_owned()))
    }

    /// The item that was read as the `index`th of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        let positions = self.ground.tree.positions(&self.path);
        self.below(Step::Index(positions.get(index).copied().unwrap_or(index)))
    }

    fn below(&self, step: Step) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self { ground: self.ground, path }
    }

    /// Where this is in the file.
    pub(super) fn place(&self) -> Option<Place> {
        self.ground.place(&self.path, false)
    }

    pub(super) fn references(&self) -> References<'a> {
        self.ground.references
    }

    /// Whether the table came through the API.
    pub(super) fn is_registered(&self) -> bool {
        matches!(self.ground.references, References::Refused)
    }

    /// Reports a fault of what is here.
    pub(super) fn complain(&self, complaint: Complaint) {
        if self.ground.faults.borrow().len() >= MOST_FAULTS || self.ground.tree.is_removed(&self.path) {
            return;
        }
        self.ground.faults.borrow_mut().push(Fault {
            place: self.ground.place(&self.path, false),
            key: shown_path(&self.path),
            what: complaint.what,
            instead: complaint.instead,
        });
    }

    /// Reports a fault of what is here.
    pub(super) fn fault(&self, what: impl Into<String>, instead: impl Into<String>) {
        self.complain(Complaint::new(what, instead));
    }

    /// Reports that this key is not there, though it must be.
    pub(super) fn missing(&self, instead: impl Into<String>) {
        if !self.ground.broken && !self.ground.excused.contains(&shown_path(&self.path)) {
            self.fault("is missing", instead);
        }
    }

    /// Reports that there is more here than may be; nothing then, so that the rest is not even read.
    pub(super) fn at_most(&self, most: usize, count: usize) -> Option<()> {
        if count > most {
            self.fault(format!("{count} of these are too many"), format!("write at most {most}"));
            return None;
        }
        Some(())
    }

    /// The value, or the fault reported.
    pub(super) fn accept<T>(&self, read: Result<T, Complaint>) -> Option<T> {
        read.map_err(|complaint| self.complain(complaint)).ok()
    }

    /// The text of a key, read; `default` where it is not written.
    pub(super) fn read<T>(
        &self,
        key: &str,
        written: Option<&String>,
        default: &str,
        read: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.key(key).accept(read(written.map_or(default, String::as_str)))
    }

    /// The text of a key that must be there, read.
    pub(super) fn need<T>(
        &self,
        key: &str,
        written: Option<&String>,
        instead: &str,
        read: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let here = self.key(key);
        match written {
            Some(text) => here.accept(read(text)),
            None => {
                here.missing(instead);
                None
            }
        }
    }

    /// The text of a key that may be absent, read. The outer `None` is a fault.
    pub(super) fn may<T>(
        &self,
        key: &str,
        written: Option<&String>,
        read: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<Option<T>> {
        match written {
            Some(text) => self.key(key).accept(read(text)).map(Some),
            None => Some(None),
        }
    }

    /// The items of a list that must not be long, each read.
    pub(super) fn few<I, T>(
        &self,
        key: &str,
        most: usize,
        items: &[I],
        read: impl FnMut(&Self, &I) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.key(key).at_most(most, items.len())?;
        self.each(key, items, read)
    }

    /// The items of a list, each read.
    pub(super) fn each<I, T>(
        &self,
        key: &str,
        items: &[I],
        mut read: impl FnMut(&Self, &I) -> Option<T>,
    ) -> Option<Vec<T>> {
        let list = self.key(key);
        // Without a list in the file, the items are defaults.
        let positions = self.ground.tree.positions(&list.path).into_iter().chain(0..);
        // Every item is read before any is missed, so that each fault is reported.
        let read: Vec<_> =
            items.iter().zip(positions).map(|(item, at)| read(&list.below(Step::Index(at)), item)).collect();
        read.into_iter().collect()
    }
}
