//! Values that a caller comes back for by a handle: bounded in number and age, given once.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::srp::SrpError;

/// What the caller has: random, so that nobody guesses it.
pub(super) type Handle = [u8; 32];

/// Values by handle.
pub(super) struct Handles<T> {
    kept: HashMap<Handle, T, ahash::RandomState>,
    /// By age; what was taken stays here until its time is over.
    order: VecDeque<(Instant, Handle)>,
    most: usize,
    life: Duration,
}

impl<T> Handles<T> {
    pub(super) fn new(most: usize, life: Duration) -> Self {
        Self { kept: HashMap::default(), order: VecDeque::new(), most, life }
    }

    /// Keeps the value; the oldest goes where there are too many.
    pub(super) fn put(&mut self, value: T, now: Instant) -> Result<Handle, SrpError> {
        let mut handle = [0; 32];
        aws_lc_rs::rand::fill(&mut handle).map_err(|_| SrpError::Random)?;
        self.forget(now);
        if self.order.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
        self.order.push_back((now, handle));
        self.kept.insert(handle, value);
        Ok(handle)
    }

    /// The value, if it is there and not too old.
    pub(super) fn find(&mut self, handle: &[u8], now: Instant) -> Option<&T> {
        self.forget(now);
        self.kept.get(handle)
    }

    /// The same, once.
    pub(super) fn take(&mut self, handle: &[u8], now: Instant) -> Option<T> {
        self.forget(now);
        self.kept.remove(handle)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((put, handle)) = self.order.front()
            && now.saturating_duration_since(*put) >= self.life
        {
            self.kept.remove(handle);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_given_once_and_only_while_it_is_young() {
        let start = Instant::now();
        let mut handles = Handles::new(8, Duration::from_secs(180));
        let one = handles.put("one", start).unwrap();
        let two = handles.put("two", start).unwrap();
        assert_eq!(handles.find(&one, start), Some(&"one"));
        assert_eq!(handles.take(&one, start + Duration::from_secs(179)), Some("one"));
        assert_eq!(handles.take(&one, start), None);
        assert_eq!(handles.take(&two, start + Duration::from_secs(180)), None);
        assert!(handles.kept.is_empty() && handles.order.is_empty());
        assert_eq!(handles.take(&[7; 5], start), None);
    }

    #[test]
    fn the_oldest_goes_where_there_are_too_many() {
        let start = Instant::now();
        let mut handles = Handles::new(2, Duration::from_secs(180));
        let [first, second, third] = [1, 2, 3].map(|number| handles.put(number, start).unwrap());
        assert_eq!(handles.take(&first, start), None);
        assert_eq!((handles.take(&second, start), handles.take(&third, start)), (Some(2), Some(3)));
        assert!(handles.order.len() <= 2);
    }
}
