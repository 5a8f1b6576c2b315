//! What tokens begin with alike: kept once, so that what is kept of each is short.
//!
//! The tokens of one issuer begin with the same header and the same first claims. A thousand users' tokens are a thousand
//! times the same bytes, which push each other out of the processor's cache.

use std::rc::Rc;

/// How many beginnings are known at a time; as many issuers, roughly, have their tokens shortened.
const KNOWN: usize = 4;

/// What is shorter is not worth looking elsewhere for, in bytes.
const LEAST: usize = 64;

/// The beginnings of the tokens of one cache. Bounded; those that are gone from here live as long as what begins so.
#[derive(Default)]
pub(super) struct Beginnings {
    known: [Rc<[u8]>; KNOWN],
    /// Texts that began with nothing known: another that comes later may begin like one of them.
    strangers: [Box<[u8]>; KNOWN],
    /// How many strangers came.
    came: usize,
}

impl Beginnings {
    /// Divides the text into a beginning that others have too, which may be empty, and the rest.
    pub(super) fn divide<'t>(&mut self, text: &'t [u8]) -> (Rc<[u8]>, &'t [u8]) {
        let longest = self.known.iter().filter(|known| text.starts_with(known)).max_by_key(|known| known.len());
        if let Some(known) = longest.filter(|known| !known.is_empty()) {
            return (known.clone(), text.get(known.len()..).unwrap_or_default());
        }
        let alike = |stranger: &[u8]| stranger.iter().zip(text).take_while(|(one, other)| one == other).count();
        let length = self.strangers.iter().map(|stranger| alike(stranger)).max().unwrap_or(0);
        let place = self.came % KNOWN;
        self.came += 1;
        let (beginning, rest) = text.split_at_checked(length).filter(|_| length >= LEAST).unwrap_or((&[], text));
        let beginning = Rc::from(beginning);
        if let (Some(known), Some(stranger)) = (self.known.get_mut(place), self.strangers.get_mut(place)) {
            if length >= LEAST {
                *known = Rc::clone(&beginning);
            } else {
                *stranger = text.into();
            }
        }
        (beginning, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_begin_alike_share_their_beginning_whoever_comes_between() {
        let mut beginnings = Beginnings::default();
        let issuers = ["a".repeat(100), "b".repeat(LEAST), "c".repeat(LEAST - 1)];
        let mut shared = Vec::new();
        for number in 100..120 {
            for (issuer, beginning) in issuers.iter().enumerate() {
                let text = format!("{beginning}{number}");
                let (first, rest) = beginnings.divide(text.as_bytes());
                assert_eq!([&*first, rest].concat(), text.as_bytes());
                shared.push((issuer, first));
            }
        }
        let lengths = |of| shared.iter().filter(move |(issuer, _)| *issuer == of).map(|(_, first)| first.len());
        // All but the first of each, and more than the issuer's part where the numbers begin alike too.
        assert!(lengths(0).skip(1).all(|length| length >= 100), "{:?}", lengths(0).collect::<Vec<_>>());
        assert!(lengths(1).skip(1).all(|length| length >= LEAST), "{:?}", lengths(1).collect::<Vec<_>>());
        assert!(lengths(2).filter(|length| *length == 0).count() >= 1);
    }

    #[test]
    fn a_text_of_any_length_is_divided_without_loss() {
        let mut beginnings = Beginnings::default();
        for round in 0..3 {
            for length in (0..300).rev() {
                let text = vec![b'x'; length];
                let (first, rest) = beginnings.divide(&text);
                assert_eq!(first.len() + rest.len(), length, "{round}");
                assert!(first.iter().chain(rest).all(|byte| *byte == b'x'));
            }
        }
    }
}
