//! A decision allocates nothing: not about somebody who was seen lately, and not a first one, where names are short.

use carta_gateway::cli::bench::population::Population;
use carta_gateway::policy::{Levels, Recent, Snapshot, UserId};
use jiff::Timestamp;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

type Question = (UserId, [String; 2], Levels);

fn questions(population: Population) -> Vec<Question> {
    let need = |number: u64| if number.is_multiple_of(3) { Levels::ADMIN } else { Levels::EXECUTE };
    let service = |number: u64| population.service(number * 7 % population.services);
    (0..64).map(|number| (population.busy_user(number), service(number), need(number))).collect()
}

/// How often all questions together allocate.
fn allocations(questions: &[Question], mut ask: impl FnMut(UserId, &[&str], Levels) -> bool) -> (u64, usize) {
    let mut allowed = 0;
    let info = allocation_counter::measure(|| {
        for (user, [namespace, service], need) in questions {
            allowed += usize::from(ask(*user, &[namespace, service], *need));
        }
    });
    (info.count_total, allowed)
}

fn policy() -> (Snapshot, Vec<Question>) {
    let population = Population { users: 400, services: 40, grants: 4_000 };
    (population.compiled(), questions(population))
}

#[test]
fn the_counter_counts() {
    let info = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(0_u64))));
    assert_eq!(info.count_total, 1);
}

#[test]
fn a_decision_about_somebody_seen_lately_allocates_nothing() {
    let (policy, questions) = policy();
    let mut recent = Recent::new(4096);
    let mut ask = |user, keys: &[&str], need| recent.permit(&policy, user, keys, need, NOW).is_ok();
    let (first, _) = allocations(&questions, &mut ask);
    assert_eq!(first, 0, "short names have room where they are remembered");
    let (again, allowed) = allocations(&questions, &mut ask);
    assert!(allowed > 0 && allowed < questions.len(), "both kinds of answers are asked for: {allowed}");
    assert_eq!(again, 0);
}

#[test]
fn a_decision_that_nothing_remembers_allocates_nothing_either() {
    let (policy, questions) = policy();
    let (count, _) = allocations(&questions, |user, keys, need| policy.permit(user, keys, need, NOW).is_ok());
    assert_eq!(count, 0, "a walk of a few names and 20 groups stays on the stack");
}
