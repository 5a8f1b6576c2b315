//! A persistent list in pages of equal size: a new version copies one page and the tables above it.
//!
//! Places are computed, not looked for: an item is three loads away, and only the last of them is seldom in the
//! processor's cache. A general persistent vector, which can also be cut and joined, reads twice as many lines on the way.

use std::sync::Arc;

/// Items in a page: few enough to copy at every change.
const PAGE: usize = 64;

/// Pages in a table: of a million items all tables together are small enough to stay in the processor's cache.
const TABLE: usize = 128;

type Page<T> = Arc<[T; PAGE]>;
type Table<T> = Arc<[Page<T>; TABLE]>;

/// A list that grows at its end. Beyond its end the last page holds items that are nothing yet.
#[derive(Clone)]
pub(crate) struct Paged<T> {
    tables: Arc<[Table<T>]>,
    length: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { tables: Arc::default(), length: 0 }
    }
}

impl<T: Clone + Default> Paged<T> {
    /// The list of one item.
    pub(crate) fn unit(item: T) -> Self {
        [item].into_iter().collect()
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        let page = self.tables.get(place / (PAGE * TABLE))?.get(place / PAGE % TABLE)?;
        page.get(place % PAGE).filter(|_| place < self.length)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        if place < self.length { self.slot(place) } else { None }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let pages = self.tables.iter().flat_map(|table| table.iter());
        pages.flat_map(|page| page.iter()).take(self.length)
    }

    /// Adds the item at the end.
    pub(crate) fn push(&mut self, item: T) {
        let place = self.length;
        if place == self.tables.len() * PAGE * TABLE {
            // One page of nothing stands for all that are not needed yet.
            let nothing = Arc::new(std::array::from_fn(|_| T::default()));
            let table: Table<T> = Arc::new(std::array::from_fn(|_| Page::clone(&nothing)));
            self.tables = self.tables.iter().cloned().chain([table]).collect();
        }
        if let Some(slot) = self.slot(place) {
            *slot = item;
            self.length += 1;
        }
    }

    /// Copies what other versions share on the way.
    fn slot(&mut self, place: usize) -> Option<&mut T> {
        let table = Arc::make_mut(&mut self.tables).get_mut(place / (PAGE * TABLE))?;
        let page = Arc::make_mut(table).get_mut(place / PAGE % TABLE)?;
        Arc::make_mut(page).get_mut(place % PAGE)
    }
}

impl<T: Clone + Default> FromIterator<T> for Paged<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_a_list_is_not_touched_by_what_becomes_of_another() {
        let length = 2 * PAGE * TABLE + PAGE + 1;
        let list: Paged<usize> = (1..=length).collect();
        let mut other = list.clone();
        for place in [0, PAGE - 1, PAGE, PAGE * TABLE - 1, PAGE * TABLE, length - 1] {
            *other.get_mut(place).unwrap() = 0;
            assert_eq!((list.get(place), other.get(place)), (Some(&(place + 1)), Some(&0)));
        }
        other.push(7);
        assert_eq!((list.len(), other.len()), (length, length + 1));
        assert_eq!((list.get(length), other.get(length)), (None, Some(&7)));
        assert_eq!(other.get_mut(length + 1), None);
        assert!(list.iter().copied().eq(1..=length));
        assert_eq!(other.iter().filter(|item| **item == 0).count(), 6);
    }

    #[test]
    fn a_list_is_as_long_as_what_was_put_in_it() {
        assert_eq!((Paged::<u8>::default().len(), Paged::<u8>::default().get(0)), (0, None));
        for length in [1, PAGE - 1, PAGE, PAGE + 1, PAGE * TABLE, PAGE * TABLE + 1] {
            let list: Paged<usize> = (0..length).collect();
            assert_eq!((list.len(), list.iter().count()), (length, length));
            assert_eq!((list.get(length - 1), list.get(length)), (Some(&(length - 1)), None));
        }
        assert_eq!(Paged::unit('a').iter().collect::<Vec<_>>(), [&'a']);
    }
}
