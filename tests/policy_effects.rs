//! How far a changed grant reaches, on random policies.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]
#![allow(dead_code, reason = "the random policies are shared with other tests")]

#[path = "policy/random.rs"]
mod random;

use carta_gateway::policy::effects::covers;
use carta_gateway::policy::{Change, PatternKey, Snapshot};
use jiff::Timestamp;
use proptest::prelude::*;

use random::{Question, changes, questions};

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(600);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// What a preview looks at is all that can change.
    #[test]
    fn a_changed_grant_changes_nothing_beyond_what_it_reaches(
        changes in changes(),
        change in random::patch(),
        questions in questions(),
    ) {
        let pattern = match &change {
            Change::Grant(grant) => grant.pattern.clone(),
            Change::Ungrant(_, pattern) => pattern.clone(),
            _ => return Ok(()),
        };
        let before = Snapshot::empty().patched(changes);
        let after = before.patched([change]);
        let reached = before.reached(&after, [pattern], &|| true);
        for Question { user, keys, now, .. } in &questions {
            let name: Vec<PatternKey> = keys.iter().map(|key| PatternKey::Key(key.as_str().into())).collect();
            if reached.iter().any(|pattern| covers(pattern, &name)) {
                continue;
            }
            let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
            let at = Timestamp::from_second(*now).unwrap();
            prop_assert_eq!(before.levels(*user, &keys, at), after.levels(*user, &keys, at), "{:?}", keys);
        }
    }
}
