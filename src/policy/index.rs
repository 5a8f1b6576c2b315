//! A persistent table from hashes to dense numbers: what a key has in a list is found without keeping the key twice.
//!
//! Whoever asks compares what the numbers stand for with what was looked for. A number takes nine bytes here; a
//! persistent map from keys to numbers takes ten times that for a key of sixteen. A change copies one page.

use std::sync::Arc;

use super::paged::Paged;
use super::sorted::{near, splice};

/// How many numbers a page has on average when the table doubles: few enough to copy at every change.
const FULL: usize = 64;

/// Numbers by the hash of what they stand for; one hash may have several.
#[derive(Clone)]
pub(crate) struct Index {
    /// As many as a power of two: each takes the hashes that begin with its place, in order.
    pages: Paged<Arc<[Slot]>>,
    length: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    /// The upper half of the hash.
    tag: u32,
    number: u32,
}

/// Numbers and hashes of an index in the making, in no order.
#[derive(Default)]
pub(crate) struct Pairs(Vec<Slot>);

impl Pairs {
    /// Adds the number under this hash.
    pub(crate) fn push(&mut self, hash: u64, number: u32) {
        self.0.push(Slot { tag: tag(hash), number });
    }
}

impl std::fmt::Debug for Pairs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pairs").field(&self.0.len()).finish()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { pages: Paged::unit(Arc::default()), length: 0 }
    }
}

impl Index {
    /// The index of these.
    pub(crate) fn of(Pairs(mut slots): Pairs) -> Self {
        slots.sort_unstable();
        slots.dedup();
        let count = (slots.len() / FULL + 1).next_power_of_two();
        let mut rest = slots.as_slice();
        let pages = (0..count).map(|place| {
            let (page, after) = rest.split_at(rest.partition_point(|slot| page_of(slot.tag, count) <= place));
            rest = after;
            page.into()
        });
        Self { pages: pages.collect(), length: slots.len() }
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The numbers of this hash, and seldom that of another.
    pub(crate) fn at(&self, hash: u64) -> impl Iterator<Item = u32> {
        let tag = tag(hash);
        let page = self.pages.get(self.page(tag)).map_or(&[][..], |page| page);
        let from = first_of(page, tag, self.pages.len());
        let here = page.get(from..).unwrap_or_default().iter();
        here.take_while(move |slot| slot.tag == tag).map(|slot| slot.number)
    }

    /// Adds the number under this hash, where it is not there already.
    pub(crate) fn put(&mut self, hash: u64, number: u32) {
        let slot = Slot { tag: tag(hash), number };
        let place = self.page(slot.tag);
        let Some(page) = self.pages.get_mut(place) else { return };
        let Err(position) = page.binary_search(&slot) else { return };
        *page = splice(page, position, 0, [slot]);
        self.length += 1;
        if self.length > self.pages.len() * FULL {
            self.double();
        }
    }

    /// Takes the number of this hash out.
    pub(crate) fn take(&mut self, hash: u64, number: u32) {
        let slot = Slot { tag: tag(hash), number };
        let place = self.page(slot.tag);
        let Some(page) = self.pages.get_mut(place) else { return };
        let Ok(position) = page.binary_search(&slot) else { return };
        *page = splice(page, position, 1, []);
        self.length -= 1;
    }

    fn page(&self, tag: u32) -> usize {
        page_of(tag, self.pages.len())
    }

    /// Cuts each page in two by the next bit.
    fn double(&mut self) {
        let bit = self.pages.len().trailing_zeros() + 1;
        let upper = |slot: &Slot| slot.tag.rotate_left(bit) & 1 == 1;
        let halves = |page: &Arc<[Slot]>| {
            let (left, right) = page.split_at(page.partition_point(|slot| !upper(slot)));
            [Arc::from(left), Arc::from(right)]
        };
        self.pages = self.pages.iter().flat_map(halves).collect();
    }
}

/// The place of the tag's page. There is a power of two of them, so the first bits of the tag name one.
fn page_of(tag: u32, pages: usize) -> usize {
    // Of one page no bit does: a shift by the whole width is none.
    tag.checked_shr(u32::BITS - pages.trailing_zeros()).unwrap_or(0) as usize
}

/// Where the tag's slots begin in its page, which is one of so many.
fn first_of(page: &[Slot], tag: u32, pages: usize) -> usize {
    near(page, guess(page.len(), tag, pages), |slot| slot.tag < tag)
}

/// Where they should, as tags are spread evenly.
fn guess(length: usize, tag: u32, pages: usize) -> usize {
    let within = tag.checked_shl(pages.trailing_zeros()).unwrap_or(0);
    usize::try_from((u64::from(within) * length as u64) >> u32::BITS).unwrap_or(0)
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

        #[test]
        fn an_index_behaves_like_a_set_of_pairs(
            steps in proptest::collection::vec((0_u64..700, 0_u32..3, any::<bool>()), 0..3000)
        ) {
            // Spread over the tags, with some that several keys share.
            let hash = |key: u64| (key % 600).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut index = Index::default();
            let mut pairs = BTreeSet::new();
            let mut versions = Vec::new();
            for (step, (key, number, add)) in steps.into_iter().enumerate() {
                if add || step % 3 == 0 {
                    index.put(hash(key), number);
                    pairs.insert((hash(key), number));
                } else {
                    index.take(hash(key), number);
                    pairs.remove(&(hash(key), number));
                }
                if step % 500 == 0 {
                    versions.push((index.clone(), pairs.clone()));
                }
            }
            versions.push((index, pairs));
            for (index, pairs) in versions {
                prop_assert_eq!(index.len(), pairs.len());
                for key in 0..700 {
                    let found: BTreeSet<(u64, u32)> = index.at(hash(key)).map(|number| (hash(key), number)).collect();
                    let expected = pairs.range((hash(key), 0)..=(hash(key), u32::MAX)).copied().collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn an_index_made_at_once_finds_and_takes_what_one_made_step_by_step_does() {
        for length in [0_u32, 1, 63, 64, 65, 5_000] {
            let hash = |number: u32| u64::from(number / 2).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut pairs = Pairs::default();
            (0..length).rev().for_each(|number| pairs.push(hash(number), number));
            let mut index = Index::of(pairs);
            assert_eq!(index.len(), length as usize);
            assert!((0..length).all(|number| index.at(hash(number)).any(|found| found == number)));
            (length..2 * length).for_each(|number| index.put(hash(number), number));
            (0..length).for_each(|number| index.take(hash(number), number));
            assert_eq!(index.len(), length as usize);
            assert!((0..length).all(|number| index.at(hash(number)).all(|found| found != number)));
            assert!((length..2 * length).all(|number| index.at(hash(number)).any(|found| found == number)));
        }
    }

    #[test]
    fn there_are_pages_for_the_numbers_that_there_are() {
        let hash = |number: usize| (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut index = Index::default();
        for (length, pages) in [(FULL, 1), (FULL + 1, 2), (2 * FULL, 2), (2 * FULL + 1, 4), (5_000, 128)] {
            (index.len()..length).for_each(|number| index.put(hash(number), number as u32));
            assert_eq!((index.len(), index.pages.len()), (length, pages));
        }
        for (length, pages) in [(0, 1), (FULL - 1, 1), (FULL, 2), (2 * FULL, 4), (5_000, 128)] {
            let mut pairs = Pairs::default();
            (0..length).for_each(|number| pairs.push(hash(number), number as u32));
            assert_eq!(Index::of(pairs).pages.len(), pages, "{length} at once");
        }
    }

    #[test]
    fn what_is_spread_evenly_is_near_where_it_should_be() {
        for length in [FULL, 5_000] {
            let mut pairs = Pairs::default();
            (0..length).for_each(|number| {
                pairs.push((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15), number as u32);
            });
            let Index { pages, .. } = Index::of(pairs);
            for page in pages.iter() {
                for (position, slot) in page.iter().enumerate() {
                    let guess = guess(page.len(), slot.tag, pages.len());
                    assert!(guess.abs_diff(position) <= 4, "{guess} {position}");
                }
            }
        }
    }

    #[test]
    fn numbers_of_one_tag_are_told_apart_by_who_asks() {
        let mut index = Index::default();
        for number in 0..1000 {
            index.put(7 << 32, number);
        }
        assert_eq!(index.at(7 << 32).count(), 1000);
        assert_eq!(index.at(8 << 32).count(), 0);
        assert_eq!(index.at(u64::MAX).count(), 0);
        index.take(7 << 32, 500);
        assert!(!index.at(7 << 32).any(|number| number == 500));
    }
}
