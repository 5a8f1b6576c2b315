//! Who could change a decision: the grants that give admin.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::evaluate::{Question, Reading, Silent, Walk};
use super::snapshot::Snapshot;
use super::tree::{Clock, Path};
use super::{Levels, Subject};

/// How many rows are looked at on the way, so that a name with a hundred thousand of them costs no more than others.
const LOOKED_AT: usize = 1000;

/// How many users are judged for each that may be named: whoever administers the name chooses how many of them something
/// else denies what their grants say.
const JUDGED: usize = 4;

/// Who could change a decision, beside the owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Givers {
    /// Those who have admin by a grant of their own, the nearest to the resource first.
    pub subjects: Vec<Subject>,
    /// Whether there are more of them, or may be: not all grants were looked at.
    pub more: bool,
}

impl Snapshot {
    /// Whose grants give admin on the resource of these keys at `now`, at most `most`, without its owner. A hint for
    /// people: bounded, and without those users whose grant does not give it because something else denies it.
    #[must_use]
    pub fn administering(&self, keys: &[&str], most: usize, now: Timestamp) -> Givers {
        let path = Path::new(&self.names, keys);
        let mut steps = path.steps().to_vec();
        steps.sort_by_key(|step| std::cmp::Reverse(step.depth));
        let rows = steps.into_iter().flat_map(|step| {
            let name = self.names.pattern(step.node);
            self.grants_on(&name).take(LOOKED_AT + 1).collect::<Vec<_>>()
        });
        let mut seen: BTreeSet<Subject> = path.owner.map(Subject::User).into_iter().collect();
        let (mut givers, mut left) = (Givers::default(), most.saturating_mul(JUDGED));
        for (looked_at, grant) in rows.enumerate() {
            givers.more = looked_at == LOOKED_AT;
            if givers.more {
                break;
            }
            let gives = grant.levels.has_all(Levels::ADMIN) && grant.expires.is_none_or(|end| end > now);
            if !gives || !seen.insert(grant.subject.clone()) {
                continue;
            }
            if let Subject::User(user) = grant.subject {
                givers.more = left == 0;
                if givers.more {
                    break;
                }
                left -= 1;
                // What a user has as the holder of something else is another grant's, which is told as that.
                let (question, clock) =
                    (Question { user, keys, reading: Reading::Covering }, Clock::at(now.as_second()));
                let mut walk = Walk { snapshot: self, question, path: &path, clock, trace: &mut Silent };
                if !walk.direct().levels().has_all(Levels::ADMIN) {
                    continue;
                }
            }
            givers.more = givers.subjects.len() == most;
            if givers.more {
                break;
            }
            givers.subjects.push(grant.subject);
        }
        givers
    }
}
