//! A sorted list in pages: a new version copies one page and shares the others.
//!
//! Most subjects have a handful of rows, which fit in one page without any table above it; a role with a hundred
//! thousand pays for a table of pages, and a change of one row still copies one page.

use std::sync::Arc;

/// What a list is sorted by.
pub(crate) trait Keyed: Copy {
    fn key(&self) -> u32;
}

impl Keyed for u32 {
    fn key(&self) -> u32 {
        *self
    }
}

/// The most items in a page: small enough to copy at every change, large enough to keep tables short.
const PAGE: usize = 256;

/// Items that are compared at once: in a full page of keys that are spread evenly few are further from where they should
/// be.
const WINDOW: usize = 32;

/// Items in the order of their keys, each key at most once.
#[derive(Clone)]
pub(crate) enum Sorted<T> {
    One(Arc<[T]>),
    Many(Arc<[Page<T>]>),
}

/// A page with the lowest key that may be in it; the first page of a table takes every lower key too.
#[derive(Clone)]
pub(crate) struct Page<T> {
    from: u32,
    items: Arc<[T]>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self::One(Arc::default())
    }
}

impl<T: Keyed> Sorted<T> {
    /// The list of these items, which are in the order of their keys, each key once.
    pub(crate) fn of(items: &[T]) -> Self {
        if items.len() <= PAGE {
            Self::One(items.into())
        } else {
            Self::Many(items.chunks(PAGE).map(|page| Page::of(page.into())).collect())
        }
    }

    pub(super) fn get(&self, key: u32) -> Option<&T> {
        let page = match self {
            Self::One(items) => items,
            Self::Many(pages) => &pages.get(index_of(pages, key))?.items,
        };
        page.get(page.binary_search_by_key(&key, Keyed::key).ok()?)
    }

    /// Whether the item is there, where keys are spread evenly over all numbers.
    ///
    /// A window around where it should be is compared as a whole: no load waits for what another one brought, so that the
    /// processor has those of several searches under way at once.
    pub(super) fn has_spread(&self, item: T) -> bool
    where
        T: PartialEq,
    {
        let (items, guess) = self.guess(item.key());
        at_once(items, guess, item).unwrap_or_else(|| items.binary_search_by_key(&item.key(), Keyed::key).is_ok())
    }

    /// The page of this key, and where in it the key should be.
    fn guess(&self, key: u32) -> (&[T], usize) {
        let (items, guess) = match self {
            Self::One(items) => (items, (u64::from(key) * items.len() as u64) >> u32::BITS),
            Self::Many(pages) => {
                let place = index_of(pages, key);
                let Some(Page { from, items }) = pages.get(place) else { return (&[], 0) };
                let to = pages.get(place + 1).map_or(1 << u32::BITS, |next| u64::from(next.from));
                let share = u64::from(key.saturating_sub(*from)) * items.len() as u64;
                (items, share / (to - u64::from(*from)).max(1))
            }
        };
        (items, usize::try_from(guess).unwrap_or(0))
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::One(items) => items.is_empty(),
            Self::Many(_) => false,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many): (&[T], &[Page<T>]) = match self {
            Self::One(items) => (items, &[]),
            Self::Many(pages) => (&[], pages),
        };
        one.iter().chain(many.iter().flat_map(|page| page.items.iter()))
    }

    /// Adds the item, or replaces the one of its key, which it then returns.
    pub(crate) fn put(&mut self, item: T) -> Option<T> {
        match self {
            Self::One(items) => {
                let replaced = put(items, item);
                if let Some([left, right]) = halves(items, item.key()) {
                    *self = Self::Many(Arc::new([Page::of(left), Page::of(right)]));
                }
                replaced
            }
            Self::Many(pages) => {
                let position = index_of(pages, item.key());
                let page = Arc::make_mut(pages).get_mut(position)?;
                let replaced = put(&mut page.items, item);
                if let Some([left, right]) = halves(&page.items, item.key()) {
                    let left = Page { from: page.from, items: left };
                    *pages = splice(pages, position, 1, [left, Page::of(right)]);
                }
                replaced
            }
        }
    }

    /// Takes the item of this key out.
    pub(crate) fn take(&mut self, key: u32) -> Option<T> {
        match self {
            Self::One(items) => take(items, key),
            Self::Many(pages) => {
                let position = index_of(pages, key);
                let page = Arc::make_mut(pages).get_mut(position)?;
                let taken = take(&mut page.items, key)?;
                if page.items.is_empty() {
                    *pages = splice(pages, position, 1, []);
                }
                self.flatten();
                Some(taken)
            }
        }
    }

    /// Gives up the table when what is left fits in half a page.
    fn flatten(&mut self) {
        if let Self::Many(pages) = self
            && pages.len() <= 2
            && pages.iter().map(|page| page.items.len()).sum::<usize>() <= PAGE / 2
        {
            *self = Self::One(pages.iter().flat_map(|page| page.items.iter().copied()).collect());
        }
    }
}

impl<T: Keyed> Page<T> {
    fn of(items: Arc<[T]>) -> Self {
        Self { from: items.first().map_or(0, Keyed::key), items }
    }
}

/// Whether the item is among these, by a window around the guess; nothing where that does not tell.
fn at_once<T: Keyed + PartialEq>(items: &[T], guess: usize, item: T) -> Option<bool> {
    let last = items.len().saturating_sub(WINDOW);
    let from = guess.saturating_sub(WINDOW / 2).min(last);
    let window = items.get(from..items.len().min(from + WINDOW)).unwrap_or_default();
    let met = window.iter().filter(|other| **other == item).count() != 0;
    let reaches = (from == 0 || window.first().is_some_and(|first| first.key() <= item.key()))
        && (from == last || window.last().is_some_and(|last| last.key() >= item.key()));
    reaches.then_some(met)
}

/// The page that holds, or would hold, this key.
fn index_of<T>(pages: &[Page<T>], key: u32) -> usize {
    pages.partition_point(|page| page.from <= key).saturating_sub(1)
}

/// The first item that is not less, where the lesser ones come first: looked for from where it should be. Halving the
/// list again and again would read a line of the processor's cache at nearly every step.
pub(super) fn near<T>(items: &[T], guess: usize, less: impl Fn(&T) -> bool) -> usize {
    let (before, after) = items.split_at(guess.min(items.len()));
    match before.last() {
        Some(last) if !less(last) => before.len() - before.iter().rev().take_while(|item| !less(item)).count(),
        _ => before.len() + after.iter().take_while(|item| less(item)).count(),
    }
}

fn put<T: Keyed>(items: &mut Arc<[T]>, item: T) -> Option<T> {
    match items.binary_search_by_key(&item.key(), Keyed::key) {
        Ok(position) => Arc::make_mut(items).get_mut(position).map(|old| std::mem::replace(old, item)),
        Err(position) => {
            *items = splice(items, position, 0, [item]);
            None
        }
    }
}

fn take<T: Keyed>(items: &mut Arc<[T]>, key: u32) -> Option<T> {
    let position = items.binary_search_by_key(&key, Keyed::key).ok()?;
    let taken = items.get(position).copied();
    *items = splice(items, position, 1, []);
    taken
}

/// The list with `remove` items at `position` replaced by `insert`.
pub(super) fn splice<T: Clone, const N: usize>(
    items: &[T],
    position: usize,
    remove: usize,
    insert: [T; N],
) -> Arc<[T]> {
    let (before, after) = items.split_at(position.min(items.len()));
    let after = after.get(remove..).unwrap_or_default();
    before.iter().cloned().chain(insert).chain(after.iter().cloned()).collect()
}

/// Two pages for one that is too full. After an append the left one stays full, so that keys which come in order make
/// full pages.
fn halves<T: Keyed>(items: &Arc<[T]>, added: u32) -> Option<[Arc<[T]>; 2]> {
    if items.len() <= PAGE {
        return None;
    }
    let appended = items.last().is_some_and(|last| last.key() == added);
    let (left, right) = items.split_at(if appended { PAGE } else { PAGE / 2 });
    Some([left.into(), right.into()])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for (u32, u32) {
        fn key(&self) -> u32 {
            self.0
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

        #[test]
        fn a_sorted_list_behaves_like_an_ordered_map(
            steps in proptest::collection::vec((0_u32..1500, any::<bool>(), any::<u32>()), 0..3000)
        ) {
            let mut list = Sorted::default();
            let mut map = BTreeMap::new();
            let mut versions = Vec::new();
            for (position, (key, add, value)) in steps.into_iter().enumerate() {
                let (new, old) = if add || position % 3 == 0 {
                    (list.put((key, value)), map.insert(key, value))
                } else {
                    (list.take(key), map.remove(&key))
                };
                prop_assert_eq!(new.map(|item| item.1), old);
                prop_assert_eq!(list.get(key).map(|item| item.1), map.get(&key).copied());
                if position % 500 == 0 {
                    versions.push((list.clone(), map.clone()));
                }
            }
            versions.push((list, map));
            for (list, map) in versions {
                prop_assert_eq!(list.is_empty(), map.is_empty());
                prop_assert!(list.iter().copied().eq(map.into_iter()));
            }
        }
    }

    #[test]
    fn a_list_made_at_once_is_the_one_made_step_by_step() {
        for length in [0, 1, PAGE, PAGE + 1, 3 * PAGE + 7] {
            let items: Vec<(u32, u32)> = (0..length as u32).map(|key| (key * 3, key)).collect();
            let mut list = Sorted::of(&items);
            assert_eq!(list.is_empty(), length == 0);
            assert!(list.iter().copied().eq(items.iter().copied()));
            assert!(items.iter().all(|item| list.get(item.0) == Some(item) && list.get(item.0 + 1).is_none()));
            assert_eq!(list.put((1, 0)), None);
            assert_eq!(list.take(1), Some((1, 0)));
            assert!(list.iter().copied().eq(items));
        }
    }

    #[test]
    fn a_key_is_found_whether_keys_are_spread_evenly_or_not() {
        let evenly = |number: u32| number.wrapping_mul(0x9E37_79B1);
        let crowded = |number: u32| if number.is_multiple_of(2) { number } else { u32::MAX - number };
        for spread in [&evenly as &dyn Fn(u32) -> u32, &crowded, &|number| number] {
            for length in [0, 1, 31, 32, 33, 256, 257, 5000] {
                let mut all: Vec<u32> = (0..length).map(spread).collect();
                let mut list = Sorted::default();
                for key in &all {
                    list.put(*key);
                }
                all.sort_unstable();
                for list in [list, Sorted::of(&all)] {
                    assert!(all.iter().all(|key| list.has_spread(*key)), "{length}");
                    assert!(!(length..2 * length + 9).map(spread).any(|key| list.has_spread(key)), "{length}");
                }
            }
        }
    }

    #[test]
    fn where_keys_are_spread_evenly_one_look_tells_of_nearly_all() {
        for length in [1, WINDOW - 1, WINDOW, WINDOW + 1, PAGE, PAGE + 1, 20 * PAGE] {
            let keys = |to: usize| (0..to as u32).map(|number| number.wrapping_mul(0x9E37_79B1));
            let mut all: Vec<u32> = keys(length).collect();
            all.sort_unstable();
            let list = Sorted::of(&all);
            let told = |key: &u32| {
                let (items, guess) = list.guess(*key);
                at_once(items, guess, *key).is_some()
            };
            let told = keys(2 * length).filter(told).count();
            assert!(told * 20 > 2 * length * 19, "{told} of {}", 2 * length);
            assert!(length > WINDOW || told == 2 * length, "{told} of {}", 2 * length);
        }
    }

    #[test]
    fn keys_in_order_fill_their_pages() {
        let mut list = Sorted::default();
        for key in 0..10_000 {
            list.put((key, 0));
        }
        let Sorted::Many(pages) = list else { panic!("one page") };
        assert_eq!(pages.len(), 10_000_usize.div_ceil(PAGE));
        let mut list = Sorted::default();
        for key in (0..10_000).rev() {
            list.put((key, 0));
        }
        let Sorted::Many(pages) = list else { panic!("one page") };
        assert!(
            pages.iter().all(|page| (PAGE / 2..=PAGE).contains(&page.items.len())),
            "in any other order half of them"
        );
    }

    #[test]
    fn what_fits_in_half_a_page_needs_no_table() {
        let items: Vec<(u32, u32)> = (0..=PAGE as u32).map(|key| (key, key)).collect();
        let mut list = Sorted::of(&items);
        for key in (PAGE / 2 + 1..=PAGE).rev() {
            list.take(key as u32);
        }
        assert!(matches!(&list, Sorted::Many(_)));
        list.take(0);
        assert!(matches!(&list, Sorted::One(_)));
        assert!(list.iter().copied().eq((1..=PAGE as u32 / 2).map(|key| (key, key))));
    }
}
