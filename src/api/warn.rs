//! Warnings about grants that change the answer for names which other grants answer for (`PERMISSIONS.md` §1.4 of the
//! semantics): how grants combine on the way to a name is seldom what people expect.

use jiff::Timestamp;

use crate::policy::effects::Distant;
use crate::policy::{Change, Snapshot};
use crate::proxy::why::{Names, levels};

/// The most warnings about one change.
const MOST: usize = 10;

/// What the change does to names for which its row does not answer, one line each, until `goes_on` says no; `names` knows
/// the policy before it.
#[must_use]
pub(crate) fn of(
    names: Names<'_>,
    after: &Snapshot,
    change: &Change,
    now: Timestamp,
    goes_on: &dyn Fn() -> bool,
) -> Vec<String> {
    let (subject, pattern) = match change {
        Change::Grant(grant) => (&grant.subject, &grant.pattern),
        Change::Ungrant(subject, pattern) => (subject, pattern),
        _ => return Vec::new(),
    };
    let found = names.policy.distant(after, subject, pattern, now, MOST, goes_on);
    found.iter().map(|one| line(names, pattern.to_string().as_str(), one)).collect()
}

fn line(names: Names<'_>, changed: &str, one: &Distant) -> String {
    let told = |grant: &Option<crate::policy::Grant>| match grant {
        Some(grant) => format!("`{}` ({})", grant.pattern, levels(grant.levels)),
        None => "no grant".to_owned(),
    };
    let subject = one.before.as_ref().or(one.after.as_ref()).map(|grant| names.subject(&grant.subject));
    format!(
        "the grant on `{changed}` changes what answers for {} on `{}`: {} instead of {}",
        subject.unwrap_or_default(),
        one.name,
        told(&one.after),
        told(&one.before)
    )
}
