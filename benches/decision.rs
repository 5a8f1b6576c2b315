//! What a decision costs, and a change of one grant, however many grants there are.
//!
//! `DECISION_GRANTS=10000000` adds a population of that size, and prints how long its compile took and the memory that
//! it holds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "a bench that cannot be set up should stop, and says what it measured"
)]

use std::hint::black_box;
use std::time::Instant;

use carta_gateway::policy::{
    Change, Grant, GroupId, Levels, Member, Pattern, Recent, Resource, ResourceId, Snapshot, Subject, UserId,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use uuid::Uuid;

const NAMESPACES: u64 = 50;
const SERVICES: u64 = 1000;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// The user in 20 groups.
const BUSY: UserId = UserId(Uuid::from_u128(u128::MAX));

fn decision(c: &mut Criterion) {
    let more = std::env::var("DECISION_GRANTS").ok().map(|grants| grants.parse().unwrap());
    for grants in [1_000, 100_000].into_iter().chain(more) {
        let population = Population { grants };
        let (before, start) = (resident(), Instant::now());
        let snapshot = Snapshot::empty().patched(population.changes());
        let size = snapshot.size();
        let bytes = resident().saturating_sub(before) / size.grants as u64;
        eprintln!("{size:?}: compiled in {:.1?}, {bytes} bytes a grant", start.elapsed());
        decide(c, &population, &snapshot);
        patch(c, &population, &snapshot);
    }
}

fn decide(c: &mut Criterion, population: &Population, snapshot: &Snapshot) {
    let mut group = c.benchmark_group("decision");
    let mut recent = Recent::new(4096);
    let (user, services) = (user(1), (0..8).map(service).collect::<Vec<_>>());
    let mut next = 0;
    group.bench_function(BenchmarkId::new("recent", population.grants), |b| {
        b.iter(|| {
            next = (next + 1) % services.len();
            let keys = [&*services[next].0, &*services[next].1];
            black_box(recent.permit(snapshot, user, &keys, Levels::EXECUTE, NOW).is_ok())
        });
    });
    let mut walk = |name: &str, mut who: Box<dyn FnMut() -> UserId>| {
        group.bench_function(BenchmarkId::new(name, population.grants), |b| {
            b.iter(|| {
                next = (next + 1) % services.len();
                let keys = [&*services[next].0, &*services[next].1];
                black_box(snapshot.permit(who(), &keys, Levels::EXECUTE, NOW).is_ok())
            });
        });
    };
    walk("walk, one user", Box::new(move || user));
    let (mut random, users) = (Random(7), population.users());
    walk("walk, users at random", Box::new(move || self::user(random.below(users))));
    walk("walk, user in 20 groups", Box::new(|| BUSY));
    group.finish();
}

fn patch(c: &mut Criterion, population: &Population, snapshot: &Snapshot) {
    let mut random = Random(11);
    let mut snapshot = snapshot.clone();
    c.benchmark_group("patch").bench_function(BenchmarkId::new("one grant", population.grants), |b| {
        b.iter(|| {
            let mut grant = population.grant(Subject::User(user(random.below(population.users()))), &mut random);
            grant.levels = Levels::READ;
            snapshot = snapshot.patched([Change::Grant(grant)]);
        });
    });
}

struct Population {
    grants: u64,
}

impl Population {
    fn users(&self) -> u64 {
        (self.grants / 10).max(1)
    }

    fn groups(&self) -> u64 {
        (self.users() / 100).max(20)
    }

    /// Most grants are to users, some to groups, a few to roles and everyone.
    fn changes(&self) -> impl Iterator<Item = Change> {
        let mut random = Random(1);
        let resources = (0..SERVICES).map(|number| {
            let (namespace, service) = service(number);
            let name = Pattern::literal([namespace, service]).unwrap();
            let id = ResourceId(Uuid::from_u128(number.into()));
            Change::Resource(Resource { id, name, owner: Some(UserId(Uuid::from_u128(5))) })
        });
        let mut random_member = Random(2);
        let members = (0..self.users()).map(move |number| {
            let groups = (0..3).map(|_| group(random_member.below(self.groups()))).collect();
            Change::Member(Member { id: user(number), role: format!("role-{}", number % 5).into(), groups })
        });
        let busy = Member { id: BUSY, role: "role-1".into(), groups: (0..20).map(group).collect() };
        let grants = (0..self.grants).map(move |number| {
            let subject = match number % 100 {
                0 => Subject::Role(format!("role-{}", random.below(5)).into()),
                1 if number % 1000 == 1 => Subject::Everyone,
                2..10 => Subject::Group(group(random.below(self.groups()))),
                _ => Subject::User(user(random.below(self.users()))),
            };
            Change::Grant(self.grant(subject, &mut random))
        });
        resources.chain(members).chain([Change::Member(busy)]).chain(grants)
    }

    fn grant(&self, subject: Subject, random: &mut Random) -> Grant {
        let (namespace, service) = service(random.below(SERVICES));
        let pattern = match random.below(20) {
            0 => Pattern::literal([namespace]),
            1 => Pattern::parse(&format!("{namespace}.{service}.tag")),
            2 => Pattern::parse(&format!("{namespace}.*.tag")),
            _ => Pattern::literal([namespace, service]),
        };
        let levels = if random.below(50) == 0 { Levels::NONE } else { Levels::READ | Levels::EXECUTE };
        Grant { subject, pattern: pattern.unwrap(), levels, expires: None }
    }
}

fn service(number: u64) -> (String, String) {
    (format!("namespace-{}", number % NAMESPACES), format!("service-{number}"))
}

fn user(number: u64) -> UserId {
    // As random ids are: nothing to be gained from their order.
    let mut random = Random(number + 1);
    UserId(Uuid::from_u64_pair(random.next(), random.next()))
}

fn group(number: u64) -> GroupId {
    GroupId(Uuid::from_u128(u128::from(number)))
}

/// Random enough, and the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The memory of this process in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

criterion_group!(benches, decision);
criterion_main!(benches);
