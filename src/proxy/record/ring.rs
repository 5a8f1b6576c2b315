//! The last requests, each in the place of the oldest, and what their refusals said, within a budget of bytes.

use std::sync::Arc;

use serde_json::Value;

use super::called::Called;
use super::kept::{Kept, mark};
use super::{Entry, Happened};
use crate::problem::Kind;
use crate::telemetry::RequestId;

/// The most bytes that the refusals of one ring keep; of more, the oldest are forgotten before their entries are.
pub(super) const REFUSED_BYTES: usize = 8 * 1024 * 1024;

/// The longest detail that is kept, in bytes.
pub(super) const LONGEST_DETAIL: usize = 1024;

/// The longest explanation that is kept, in bytes of JSON.
pub(super) const LONGEST_WHY: usize = 4096;

/// What a refusal said. Much of it repeats what the caller sent, so that none of it is kept at any length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    detail: Box<str>,
    /// Kept as text, which says how much memory it takes.
    why: Option<Box<str>>,
}

/// The newest `most` entries.
#[derive(Debug)]
pub(super) struct Ring {
    most: usize,
    entries: Vec<Kept>,
    /// The upper half of each entry's id, close together, because a search goes over them while a worker may wait.
    marks: Vec<u64>,
    /// How many were put.
    written: usize,
    /// Of those, how many of the first keep no refusal any more.
    light: usize,
    bytes: usize,
}

impl Refused {
    /// What the caller was told, and the explanation for who may see everything, made at that time: without its longest
    /// lists, or not at all, where it is too long.
    #[must_use]
    pub fn of(detail: &str, why: Option<Value>) -> Self {
        Self { detail: cut(detail, LONGEST_DETAIL).into(), why: why.and_then(shortened).map(Into::into) }
    }

    /// What the caller was told, cut at 1 KiB.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The explanation of a denied permission.
    #[must_use]
    pub fn why(&self) -> Option<Value> {
        serde_json::from_str(self.why.as_deref()?).ok()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.detail.len() + self.why.as_ref().map_or(0, |why| why.len())
    }
}

fn shortened(mut why: Value) -> Option<String> {
    for list in ["beaten", "deciding", "who_can_give", ""] {
        let text = why.to_string();
        if text.len() <= LONGEST_WHY {
            return Some(text);
        }
        if let Some(members) = why.as_object_mut() {
            members.remove(list);
            members.insert("shortened".to_owned(), true.into());
        }
    }
    None
}

/// The beginning of the text, up to so many bytes, that ends between two characters.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let end = text.len().min(most);
    let end = (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

impl Ring {
    pub(super) fn of(most: usize) -> Self {
        Self { most, entries: Vec::new(), marks: Vec::new(), written: 0, light: 0, bytes: 0 }
    }

    /// Writes the entry into the place of the oldest.
    pub(super) fn put(&mut self, happened: &Happened<'_>, called: Arc<Called>) {
        let at = self.written % self.most;
        if let (Some(kept), Some(place)) = (self.entries.get_mut(at), self.marks.get_mut(at)) {
            self.bytes -= kept.refused_bytes();
            kept.become_of(happened, called);
            *place = mark(happened.id);
        } else {
            self.entries.push(Kept::of(happened, called));
            self.marks.push(mark(happened.id));
        }
        self.written += 1;
        self.bytes += happened.refused.as_ref().map_or(0, |refused| refused.bytes());
        self.lighten();
    }

    /// Forgets what the oldest refusals said until the rest is within the budget.
    fn lighten(&mut self) {
        self.light = self.light.max(self.written.saturating_sub(self.most));
        while self.bytes > REFUSED_BYTES && self.light + 1 < self.written {
            if let Some(oldest) = self.entries.get_mut(self.light % self.most) {
                self.bytes -= oldest.refused_bytes();
                oldest.lighten();
            }
            self.light += 1;
        }
    }

    /// The newest entry.
    pub(super) fn newest(&self) -> Option<Entry> {
        self.entry(self.written.checked_sub(1)? % self.most)
    }

    /// The entry of this id.
    pub(super) fn find(&self, id: &RequestId) -> Option<Entry> {
        self.entry(self.place(id)?)
    }

    /// The answer of the request of this id broke off; false where it is not remembered.
    pub(super) fn break_off(&mut self, id: &RequestId, why: &'static Kind) -> bool {
        let kept = self.place(id).and_then(|at| self.entries.get_mut(at));
        kept.map(|kept| kept.break_off(why)).is_some()
    }

    fn place(&self, id: &RequestId) -> Option<usize> {
        let wanted = mark(id);
        let mut places = self.marks.iter().enumerate().filter(|(_, mark)| **mark == wanted).map(|(at, _)| at);
        places.find(|at| self.entries.get(*at).is_some_and(|kept| kept.is_of(id)))
    }

    fn entry(&self, at: usize) -> Option<Entry> {
        Some(self.entries.get(at)?.entry(*self.marks.get(at)?))
    }
}
