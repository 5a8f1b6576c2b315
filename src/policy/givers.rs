//! Who could change a decision: the grants that give admin.

use jiff::Timestamp;

use super::snapshot::{Grant, Snapshot};
use super::tree::Path;
use super::{Levels, Subject};

/// How many rows are looked at on the way, so that a name with a hundred thousand of them costs no more than others.
const LOOKED_AT: usize = 1000;

impl Snapshot {
    /// Grants of admin that cover the resource of these keys and are there at `now`, those nearest to it first. A hint
    /// for people: bounded, and without those by which a user is not an administrator because something else denies it.
    pub fn administering(&self, keys: &[&str], now: Timestamp) -> impl Iterator<Item = Grant> {
        let path = Path::new(&self.names, keys);
        let mut steps = path.steps().to_vec();
        steps.sort_by_key(|step| std::cmp::Reverse(step.depth));
        let rows = steps.into_iter().flat_map(|step| {
            let name = self.names.pattern(step.node);
            self.grants_on(&name).take(LOOKED_AT).collect::<Vec<_>>()
        });
        rows.take(LOOKED_AT).filter(move |grant| {
            let gives = grant.levels.has_all(Levels::ADMIN) && grant.expires.is_none_or(|end| end > now);
            gives
                && match grant.subject {
                    Subject::User(user) => self.levels(user, keys, now).has_all(Levels::ADMIN),
                    _ => true,
                }
        })
    }
}
