//! How far long work is, for whoever watches it at a terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Between two words about it.
const PACE: Duration = Duration::from_millis(100);

/// A line on standard error that is written over and gone at the end. Nothing is written where that is no terminal.
pub(super) struct Progress {
    what: &'static str,
    watched: bool,
    said: Option<Instant>,
}

impl Progress {
    /// The progress of this work, such as `sealing`.
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, watched: stderr().is_terminal(), said: None }
    }

    /// So much is done, of so much as is known of.
    pub(super) fn at(&mut self, done: impl Display, of: impl Display) {
        if !self.watched || self.said.is_some_and(|said| said.elapsed() < PACE) {
            return;
        }
        self.said = Some(Instant::now());
        // Nobody is helped by a failure to say how far it is.
        let _ = write!(stderr(), "\r{}: {done} of {of}\u{1b}[K", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.said.is_some() {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }
}
