//! `bench`: how long decisions take, in process and through the proxy, and what the state that they read costs.

mod decide;
pub mod load;
pub mod population;
mod through;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Failure;
use super::open;
use crate::policy::{Snapshot, UserId};
use crate::refresh;
use crate::store::Item;
use population::Population;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Measure decisions on the users, services and grants of this configuration's store, instead of made-up ones
    #[arg(long, value_name = "FILE", conflicts_with_all = ["users", "services", "grants", "load"])]
    config: Option<PathBuf>,
    /// Users of the made-up population; some are in 20 groups, and ten groups have a tenth of them each
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    users: u64,
    /// Services of the made-up population
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    services: u64,
    /// Grants of the made-up population [default: ten to a user]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    grants: Option<u64>,
    /// Write the made-up population to a file of the embedded store first, and measure its full load
    #[arg(long)]
    load: bool,
    /// Decisions to measure
    #[arg(long, default_value_t = 200_000)]
    decisions: u32,
    /// Calls to measure through the proxy, one after the other; 0: none
    #[arg(long, default_value_t = 2_000)]
    calls: u32,
}

/// The questions that can be asked: any user about any service.
#[derive(Default)]
struct Questions {
    users: Vec<UserId>,
    /// Namespace and name.
    services: Vec<[String; 2]>,
}

/// Measures and prints a table.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{}", machine())?;
    let made_up = Population {
        users: args.users,
        services: args.services,
        grants: args.grants.unwrap_or(args.users.saturating_mul(10)),
    };
    let started = Instant::now();
    let (policy, questions) = match (&args.config, made_up) {
        (Some(path), _) => of_store(path)?,
        (None, population) if args.load => (loaded(population, out)?, Questions::of_population(population)),
        (None, population) => (population.compiled(), Questions::of_population(population)),
    };
    let (users, services, grants) = (questions.users.len(), questions.services.len(), policy.size().grants);
    writeln!(out, "{users} users, {services} services, {grants} grants; ready after {:.1?}\n", started.elapsed())?;
    writeln!(out, "{:<34} {:>9} {:>9} {:>9} {:>9} {:>9}", "latency", "p50", "p90", "p99", "p99.9", "max")?;
    row(out, "the clock itself", &clock_cost()?)?;
    decisions(&policy, &questions, args.config.is_none().then_some(made_up), args.decisions, out)?;
    if args.calls > 0 {
        through::run(args.calls, out)?;
    }
    Ok(())
}

fn decisions(
    policy: &Snapshot,
    questions: &Questions,
    made_up: Option<Population>,
    count: u32,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    row(out, "decision, seen before (mean of 64)", &decide::seen(policy, questions, count)?)?;
    let (users, services) = (questions.users.len() as u64, questions.services.len() as u64);
    let one = decide::anew(policy, questions, count, |random| (1, random.below(services.min(8))))?;
    row(out, "decision anew, one user", &one)?;
    let any = decide::anew(policy, questions, count, |random| (random.below(users), random.below(services)))?;
    row(out, "decision anew, users at random", &any)?;
    let Some(population) = made_up else { return Ok(()) };
    let busy =
        decide::anew(policy, questions, count, |random| (random.below(population.busy()), random.below(services)))?;
    row(out, "decision anew, users in 20 groups", &busy)?;
    row(out, "change of one grant", &decide::patch(policy, population, count.div_ceil(100))?)
}

/// Loads the population from a file, and tells what that took.
fn loaded(population: Population, out: &mut dyn Write) -> Result<Snapshot, Failure> {
    let folder = through::Folder::make()?;
    load::write(population, folder.path())?;
    let (state, cost) = load::load(folder.path())?;
    let grants = state.policy.size().grants as u64;
    write!(out, "full load from the embedded store in {:.1?}", cost.wall)?;
    if let Some(cpu) = cost.cpu {
        write!(out, ", {cpu:.1?} of processor time")?;
    }
    if let Some(memory) = cost.memory {
        write!(out, ", {} bytes a grant in all", memory / grants.max(1))?;
    }
    writeln!(out)?;
    Ok(state.policy.clone())
}

/// What the store of this configuration holds.
fn of_store(path: &Path) -> Result<(Snapshot, Questions), Failure> {
    let config = open::config(path)?;
    let contents = open::block_on(async { Ok(open::store(&config, &open::vault(&config)?)?.load().await?) })?;
    let mut questions = Questions::default();
    for item in &contents.items {
        match item {
            Item::User(user, _) => questions.users.push(user.id),
            Item::Service(service) => questions.services.push([service.namespace.clone(), service.name.clone()]),
            _ => {}
        }
    }
    Ok((refresh::policy(&contents.items), questions))
}

impl Questions {
    fn of_population(population: Population) -> Self {
        Self {
            users: (0..population.users).map(|number| population.user(number)).collect(),
            services: (0..population.services).map(|number| population.service(number)).collect(),
        }
    }

    /// The user of this number, and the keys of the service of that one.
    fn of(&self, user: u64, service: u64) -> Option<(UserId, [&str; 2])> {
        let at = |number: u64, length: usize| usize::try_from(number).ok()?.checked_rem(length);
        let [namespace, name] = self.services.get(at(service, self.services.len())?)?;
        Some((*self.users.get(at(user, self.users.len())?)?, [namespace, name]))
    }
}

/// The machine that this runs on, as far as the system tells.
#[must_use]
pub fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores, {}; decisions on one", model.unwrap_or("a processor"), std::env::consts::ARCH)
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
        let population = Population { users: 3, services: 2, grants: 20 };
        let mut out = Vec::new();
        decisions(&population.compiled(), &Questions::of_population(population), Some(population), 100, &mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        for what in ["seen before", "one user", "at random", "20 groups", "change of one grant"] {
            assert!(text.contains(what), "{text}");
        }
    }

    #[test]
    fn a_store_without_anybody_is_told_so() {
        let nobody = decisions(&Snapshot::empty(), &Questions::default(), None, 100, &mut Vec::new());
        assert!(matches!(nobody, Err(Failure::NotFine(_))));
    }

    #[test]
    fn times_are_shown_in_the_unit_that_people_read() {
        for (nanoseconds, text) in [(120, "120 ns"), (12_000, "12 µs"), (9_999_999, "9999 µs"), (10_000_000, "10 ms")]
        {
            assert_eq!(shown(nanoseconds), text);
        }
    }
}
