//! What a decision costs, and a change of one grant, however many grants there are.
//!
//! `DECISION_GRANTS=10000000` adds a population of that size. It is loaded from a file of the embedded store, as at a
//! start; how long that took and the memory that the state holds are printed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a bench that cannot be set up should stop, and says what it measured"
)]

use std::hint::black_box;
use std::time::Instant;

use carta_gateway::cli::bench::population::{Population, Random};
use carta_gateway::cli::bench::{load, machine};
use carta_gateway::policy::{Change, Grant, Levels, Pattern, Recent, Snapshot, Subject, UserId};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn decision(c: &mut Criterion) {
    eprintln!("{}", machine());
    for grants in [1_000, 100_000] {
        let population = Population::of_grants(grants);
        let (before, start) = (load::resident(), Instant::now());
        let snapshot = population.compiled();
        let (took, size) = (start.elapsed(), snapshot.size());
        let grown = load::resident().zip(before).map(|(after, before)| after.saturating_sub(before));
        eprintln!("{size:?}: compiled in {took:.1?}, {} bytes a grant", grown.unwrap_or(0) / size.grants as u64);
        measure(c, population, &snapshot);
    }
    if let Ok(grants) = std::env::var("DECISION_GRANTS") {
        let population = Population::of_grants(grants.parse().unwrap());
        let folder = tempfile::tempdir().unwrap();
        load::write(population, folder.path()).unwrap();
        let (state, cost) = load::load(folder.path()).unwrap();
        let size = state.policy.size();
        eprintln!("{size:?}: {cost:?}, {} bytes a grant in all", cost.memory.unwrap_or(0) / size.grants as u64);
        measure(c, population, &state.policy);
    }
}

fn measure(c: &mut Criterion, population: Population, snapshot: &Snapshot) {
    decide(c, population, snapshot);
    patch(c, population, snapshot);
}

fn decide(c: &mut Criterion, population: Population, snapshot: &Snapshot) {
    let mut group = c.benchmark_group("decision");
    let services: Vec<[String; 2]> = (0..8).map(|number| population.service(number)).collect();
    let mut services = services.iter().map(|[namespace, name]| [namespace.as_str(), name.as_str()]).cycle();
    let (mut recent, user) = (Recent::new(4096), population.user(1));
    group.bench_function(BenchmarkId::new("seen before", population.grants), |b| {
        b.iter(|| {
            let keys = services.next().unwrap();
            black_box(recent.permit(snapshot, user, &keys, Levels::EXECUTE, NOW).is_ok())
        });
    });
    let mut anew = |name: &str, who: &mut dyn FnMut() -> UserId| {
        group.bench_function(BenchmarkId::new(name, population.grants), |b| {
            b.iter(|| {
                let keys = services.next().unwrap();
                black_box(snapshot.permit(who(), &keys, Levels::EXECUTE, NOW).is_ok())
            });
        });
    };
    anew("anew, one user", &mut || user);
    let mut random = Random(7);
    anew("anew, users at random", &mut || population.user(random.below(population.users)));
    anew("anew, users in 20 groups", &mut || population.busy_user(random.below(population.busy())));
    group.finish();
}

fn patch(c: &mut Criterion, population: Population, snapshot: &Snapshot) {
    let (mut random, mut snapshot) = (Random(11), snapshot.clone());
    c.benchmark_group("patch").bench_function(BenchmarkId::new("one grant", population.grants), |b| {
        b.iter(|| {
            let subject = Subject::User(population.user(random.below(population.users)));
            let pattern = Pattern::literal(population.service(random.below(population.services))).unwrap();
            snapshot =
                snapshot.patched([Change::Grant(Grant { subject, pattern, levels: Levels::READ, expires: None })]);
        });
    });
}

criterion_group!(benches, decision);
criterion_main!(benches);
