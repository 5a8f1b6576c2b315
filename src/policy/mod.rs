//! Who may do what: levels, resource names, grants, the compiled snapshot, evaluation, explanation.
//!
//! Pure: no async, no I/O, no clock, and nothing of ours below it. Time is an argument.

mod level;
mod name;
mod snapshot;
mod subject;

pub use level::{Levels, UnknownLevel};
pub use name::{MAX_KEYS, NameError, Pattern, PatternKey};
pub use snapshot::{Change, Grant, Member, Resource};
pub use subject::{GroupId, ResourceId, Subject, UnknownSubject, UserId};
