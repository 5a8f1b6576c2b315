//! How long decisions take, and changes, in this process and on one core.

use std::hint::black_box;
use std::time::Instant;

use hdrhistogram::Histogram;
use jiff::Timestamp;

use super::population::{Population, Random};
use super::{Questions, histogram, record};
use crate::cli::Failure;
use crate::cli::progress::Progress;
use crate::policy::{Change, Grant, Levels, Pattern, Recent, Snapshot, Subject, UserId};

/// Decisions timed together where one takes about as long as to read the clock.
const TOGETHER: u32 = 64;

/// Users who were seen lately, each with a few services.
const LATELY: u64 = 256;

/// Decisions that the memory of a worker holds for those: each is answered from it.
const REMEMBERED: usize = 16 * 1024;

/// Decisions about users who were seen lately, from memory: the mean of each run of [`TOGETHER`].
pub(super) fn seen(policy: &Snapshot, questions: &Questions, decisions: u32) -> Result<Histogram<u64>, Failure> {
    let mut recent = Recent::new(REMEMBERED);
    let (now, mut random, mut times) = (Timestamp::now(), Random(3), histogram()?);
    let asked: Vec<(UserId, [&str; 2])> =
        (0..LATELY * 8).filter_map(|number| questions.of(number % LATELY, number)).collect();
    if asked.is_empty() {
        return Err(nothing());
    }
    let mut ask = |recent: &mut Recent| {
        let at = usize::try_from(random.below(asked.len() as u64)).unwrap_or(0);
        asked.get(at).is_some_and(|(user, keys)| recent.permit(policy, *user, keys, Levels::EXECUTE, now).is_ok())
    };
    for _ in 0..asked.len() * 8 {
        black_box(ask(&mut recent));
    }
    for _ in 0..decisions.div_ceil(TOGETHER) {
        let started = Instant::now();
        for _ in 0..TOGETHER {
            black_box(ask(&mut recent));
        }
        record(&mut times, started.elapsed() / TOGETHER);
    }
    Ok(times)
}

/// Decisions made anew, users and services as `pick` has them.
pub(super) fn anew(
    policy: &Snapshot,
    questions: &Questions,
    decisions: u32,
    mut pick: impl FnMut(&mut Random) -> (u64, u64),
) -> Result<Histogram<u64>, Failure> {
    let (now, mut random, mut times) = (Timestamp::now(), Random(5), histogram()?);
    let warm_up = decisions / 10;
    let (turns, mut progress) = (decisions.saturating_add(warm_up), Progress::of("deciding"));
    for turn in 0..turns {
        if turn.is_multiple_of(4096) {
            progress.at(turn, turns);
        }
        let (user, service) = pick(&mut random);
        let (user, keys) = questions.of(user, service).ok_or_else(nothing)?;
        let started = Instant::now();
        let permit = policy.permit(user, &keys, Levels::EXECUTE, now);
        let took = started.elapsed();
        drop(black_box(permit));
        if turn >= warm_up {
            record(&mut times, took);
        }
    }
    Ok(times)
}

/// Changes of one grant each, one after the other: to users, groups and roles as the population gives them.
pub(super) fn patch(policy: &Snapshot, population: Population, changes: u32) -> Result<Histogram<u64>, Failure> {
    let (mut policy, mut random, mut times) = (policy.clone(), Random(7), histogram()?);
    for turn in 0..changes {
        let [namespace, service] = population.service(random.below(population.services));
        let subject = match turn % 10 {
            0 => Subject::Group(population.group(random.below(population.groups()))),
            1 => Subject::Everyone,
            _ => Subject::User(population.user(random.below(population.users))),
        };
        let pattern = Pattern::literal([namespace, service]).unwrap_or_default();
        let levels = if turn.is_multiple_of(2) { Levels::READ } else { Levels::READ | Levels::EXECUTE };
        let started = Instant::now();
        let next = policy.patched([Change::Grant(Grant { subject, pattern, levels, expires: None })]);
        record(&mut times, started.elapsed());
        policy = next;
    }
    Ok(times)
}

fn nothing() -> Failure {
    Failure::NotFine("there is no user or no service to decide about".to_owned())
}
