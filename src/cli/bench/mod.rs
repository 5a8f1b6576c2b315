//! `bench`: how long decisions take, in process and through the proxy.

mod population;
mod through;

use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use jiff::Timestamp;

use super::Failure;
use super::progress::Progress;
use crate::policy::{Levels, Snapshot};
use population::Population;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Measure decisions on the users, services and grants of this configuration's store, instead of made-up ones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Users of the made-up population
    #[arg(long, default_value_t = 10_000)]
    users: u32,
    /// Services of the made-up population
    #[arg(long, default_value_t = 1_000)]
    services: u32,
    /// Decisions to measure
    #[arg(long, default_value_t = 200_000)]
    decisions: u32,
    /// Calls to measure through the proxy, one after the other; 0: none
    #[arg(long, default_value_t = 2_000)]
    calls: u32,
}

/// Measures and prints a table.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let started = Instant::now();
    let (policy, population) = match &args.config {
        Some(path) => population::of_store(path)?,
        None => population::made_up(args.users, args.services)?,
    };
    writeln!(
        out,
        "{} users, {} services, {} grants; compiled in {:.0?}\n",
        population.users.len(),
        population.services.len(),
        policy.grants().count(),
        started.elapsed()
    )?;
    writeln!(out, "{:<34} {:>9} {:>9} {:>9} {:>9} {:>9}", "latency", "p50", "p90", "p99", "p99.9", "max")?;
    row(out, "the clock itself", &clock_cost()?)?;
    row(out, "decision, in process", &decide(&policy, &population, args.decisions)?)?;
    if args.calls > 0 {
        through::run(args.calls, out)?;
    }
    Ok(())
}

fn decide(policy: &Snapshot, population: &Population, decisions: u32) -> Result<Histogram<u64>, Failure> {
    if population.users.is_empty() || population.services.is_empty() {
        return Err(Failure::NotFine("there is no user or no service to decide about".to_owned()));
    }
    let now = Timestamp::now();
    let mut times = histogram()?;
    let warm_up = decisions / 10;
    // A walk over the population that visits it evenly and that no predictor learns (Knuth's MMIX).
    let mut at: u64 = 1;
    let mut pick = |length: usize| {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(at >> 33).unwrap_or_default() % length
    };
    let (turns, mut progress) = (decisions.saturating_add(warm_up), Progress::of("deciding"));
    for turn in 0..turns {
        if turn.is_multiple_of(4096) {
            progress.at(turn, turns);
        }
        let user = population.users.get(pick(population.users.len()));
        let service = population.services.get(pick(population.services.len()));
        let (Some(user), Some([namespace, service])) = (user, service) else { continue };
        let keys = [namespace.as_str(), service.as_str()];
        let started = Instant::now();
        let permit = policy.permit(*user, &keys, Levels::EXECUTE, now);
        let took = started.elapsed();
        drop(black_box(permit));
        if turn >= warm_up {
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

/// Nanoseconds up to ten seconds, to three digits.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).map_err(|error| Failure::Internal(error.to_string()))
}

/// Notes a time; what is beyond the histogram counts as its end.
fn record(times: &mut Histogram<u64>, took: Duration) {
    times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// A row of the table.
fn row(out: &mut dyn Write, what: &str, times: &Histogram<u64>) -> Result<(), Failure> {
    let at = |quantile: f64| shown(times.value_at_quantile(quantile));
    let (p50, p90, p99, p999, max) = (at(0.5), at(0.9), at(0.99), at(0.999), shown(times.max()));
    writeln!(out, "{what:<34} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}")?;
    out.flush()?;
    Ok(())
}

fn shown(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{} µs", nanoseconds / 1_000),
        _ => format!("{} ms", nanoseconds / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_population_is_measured_whole() {
        let (policy, population) = population::made_up(3, 2).unwrap();
        assert_eq!(decide(&policy, &population, 100).unwrap().len(), 100);
    }

    #[test]
    fn times_are_shown_in_the_unit_that_people_read() {
        for (nanoseconds, text) in [(120, "120 ns"), (12_000, "12 µs"), (9_999_999, "9999 µs"), (10_000_000, "10 ms")]
        {
            assert_eq!(shown(nanoseconds), text);
        }
    }
}
