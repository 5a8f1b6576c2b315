//! Who may do what: levels, resource names, grants, the compiled snapshot, evaluation, explanation.
//!
//! Pure: no async, no I/O, no clock, and nothing of ours below it. Time is an argument.

//!
//! A question goes from `decide` (what can be asked) to `evaluate` (how subjects combine) and from there to `tree` (which
//! row of one subject answers). What they read is compiled by `snapshot` from `names`, `subjects` and `rows`.

mod builder;
mod decide;
pub mod dialect;
pub mod effects;
mod evaluate;
mod explain;
mod givers;
mod index;
mod level;
mod name;
mod names;
mod others;
mod paged;
mod permit;
mod recent;
mod rows;
mod snapshot;
mod sorted;
mod subject;
mod subjects;
mod tree;
pub mod written;

pub use builder::{Builder, Name};
pub use explain::{Beaten, Because, Explanation, Winner};
pub use givers::Givers;
pub use level::{Levels, UnknownLevel};
pub use name::{MAX_KEYS, NameError, Pattern, PatternKey};
pub use permit::{Denied, Permit};
pub use recent::Recent;
pub use snapshot::{Change, Grant, Member, Resource, Size, Snapshot};
pub use subject::{GroupId, ResourceId, Subject, UnknownSubject, UserId};

pub(crate) use index::{Index, Pairs};
pub(crate) use sorted::Sorted;
