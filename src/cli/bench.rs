//! `bench`: how long decisions take, in process and through the proxy.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use hdrhistogram::Histogram;
use jiff::Timestamp;
use uuid::Uuid;

use super::Failure;
use crate::policy::{
    Change, Grant, GroupId, Levels, Member, Pattern, PatternKey, Resource, ResourceId, Snapshot, Subject, UserId,
};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Users of the synthetic population
    #[arg(long, default_value_t = 10_000)]
    users: u32,
    /// Services of the synthetic population
    #[arg(long, default_value_t = 1_000)]
    services: u32,
    /// Decisions measured
    #[arg(long, default_value_t = 200_000)]
    decisions: u32,
    /// Calls measured through the proxy
    #[arg(long, default_value_t = 20_000)]
    calls: u32,
}

/// Nanoseconds up to a second, to three digits.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, 1_000_000_000, 3).map_err(|error| Failure::Internal(error.to_string()))
}

/// Measures and prints a table.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let started = Instant::now();
    let (policy, population) = populate(args)?;
    writeln!(
        out,
        "{} users, {} services, {} grants; compiled in {:.0?}\n",
        args.users,
        args.services,
        policy.size().grants,
        started.elapsed()
    )?;
    writeln!(out, "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9}", "latency", "p50", "p90", "p99", "p99.9", "max")?;
    let clock = clock_cost()?;
    row(out, "the clock itself", &clock)?;
    row(out, "decision, in process", &decide(&policy, &population, args.decisions)?)?;
    Ok(())
}

/// The questions that are asked: users and services by number.
struct Population {
    users: Vec<UserId>,
    services: Vec<[String; 2]>,
}

/// Users with two groups each; services that are granted to users, groups, roles; one in fifty grants a deny.
fn populate(args: &Args) -> Result<(Snapshot, Population), Failure> {
    let id = |kind: u128, number: u32| Uuid::from_u128((kind << 64) | u128::from(number));
    let users: Vec<UserId> = (0..args.users.max(1)).map(|number| UserId(id(1, number))).collect();
    let groups: Vec<GroupId> = (0..args.users.max(1).div_ceil(20)).map(|number| GroupId(id(2, number))).collect();
    let group = |number: usize| groups.get(number % groups.len()).copied();
    let services: Vec<[String; 2]> =
        (0..args.services.max(1)).map(|number| [format!("ns{}", number / 10), format!("svc{number}")]).collect();
    let members = users.iter().enumerate().map(|(number, user)| {
        let groups = [group(number / 20), group(number.wrapping_mul(7) + 1)].into_iter().flatten().collect();
        Change::Member(Member { id: *user, role: format!("role{}", number % 5).into(), groups })
    });
    let mut changes: Vec<Change> = members.collect();
    for (number, service) in services.iter().enumerate() {
        let name = Pattern::literal(service.iter().map(String::as_str)).map_err(wrong)?;
        let owner = users.get(number % users.len()).copied();
        let service_id = ResourceId(id(3, u32::try_from(number).unwrap_or(u32::MAX)));
        changes.push(Change::Resource(Resource { id: service_id, name: name.clone(), owner }));
        let give = |subject, pattern, levels| Change::Grant(Grant { subject, pattern, levels, expires: None });
        for step in 0..8 {
            if let Some(user) = users.get((number * 13 + step * 101) % users.len()) {
                let levels = if (number + step) % 50 == 0 { Levels::NONE } else { Levels::READ | Levels::EXECUTE };
                changes.push(give(Subject::User(*user), name.clone(), levels));
            }
        }
        if let Some(group) = group(number) {
            changes.push(give(Subject::Group(group), name.clone(), Levels::EXECUTE));
        }
        let below = [PatternKey::Key(service.first().map_or("", String::as_str).into()), PatternKey::Any];
        let role = Subject::Role(format!("role{}", number % 5).into());
        changes.push(give(role, Pattern::new(below).map_err(wrong)?, Levels::READ));
    }
    Ok((Snapshot::empty().patched(changes), Population { users, services }))
}

fn decide(policy: &Snapshot, population: &Population, decisions: u32) -> Result<Histogram<u64>, Failure> {
    let now = Timestamp::now();
    let mut times = histogram()?;
    // A walk over the population that visits it evenly and that no predictor learns.
    let mut at: usize = 1;
    for turn in 0..decisions.saturating_add(decisions / 10) {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let user = population.users.get((at >> 33) % population.users.len());
        let service = population.services.get((at >> 20) % population.services.len());
        let (Some(user), Some([namespace, service])) = (user, service) else { continue };
        let keys = [namespace.as_str(), service.as_str()];
        let started = Instant::now();
        let permit = policy.permit(*user, &keys, Levels::EXECUTE, now);
        let took = started.elapsed();
        drop(black_box(permit));
        // The first tenth warms up.
        if turn > decisions / 10 {
            record(&mut times, took);
        }
    }
    Ok(times)
}

fn clock_cost() -> Result<Histogram<u64>, Failure> {
    let mut times = histogram()?;
    for _ in 0..100_000 {
        let started = Instant::now();
        record(&mut times, started.elapsed());
    }
    Ok(times)
}

/// Notes a time; what is beyond the histogram counts as its end.
pub(super) fn record(times: &mut Histogram<u64>, took: std::time::Duration) {
    times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// A row of the table.
pub(super) fn row(out: &mut dyn Write, what: &str, times: &Histogram<u64>) -> Result<(), Failure> {
    let at = |quantile: f64| shown(times.value_at_quantile(quantile));
    let (p50, p90, p99, p999, max) = (at(0.5), at(0.9), at(0.99), at(0.999), shown(times.max()));
    writeln!(out, "{what:<28} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}")?;
    Ok(())
}

fn shown(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{} µs", nanoseconds / 1_000),
        _ => format!("{} ms", nanoseconds / 1_000_000),
    }
}

fn wrong(error: crate::policy::NameError) -> Failure {
    Failure::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_population_is_measured_whole() {
        let args = Args { users: 3, services: 2, decisions: 100, calls: 0 };
        let (policy, population) = populate(&args).unwrap();
        assert!(decide(&policy, &population, args.decisions).unwrap().len() >= 90);
    }
}
