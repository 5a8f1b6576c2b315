//! `bench`: how long authorization takes, layer by layer in process and as a whole over the network, and what the state
//! that it reads costs.

mod chart;
mod decide;
mod house;
mod layers;
pub mod load;
pub mod population;
mod report;
mod through;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Failure;
use super::open;
use crate::identity::{Directory, Loading};
use crate::policy::{Snapshot, UserId};
use crate::refresh;
use crate::store::Item;
use house::{Ground, House};
use population::Population;
use report::{About, Layer, Loaded, Report};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Measure on the users, services and grants of this configuration's store, instead of made-up ones
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
    /// Calls to measure through the proxy, one after the other, and the layers of one; 0: none
    #[arg(long, default_value_t = 2_000)]
    calls: u32,
    /// Write what was measured to this file, as JSON, times in nanoseconds
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the percentiles of each layer into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The questions that can be asked: any user about any service.
#[derive(Default)]
struct Questions {
    users: Vec<UserId>,
    /// Namespace and name.
    services: Vec<[String; 2]>,
}

/// Measures, and prints a table.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let machine = machine();
    writeln!(out, "{machine}")?;
    let made_up = Population {
        users: args.users,
        services: args.services,
        grants: args.grants.unwrap_or(args.users.saturating_mul(10)),
    };
    let (started, mut load) = (Instant::now(), None);
    let (ground, questions) = match (&args.config, made_up) {
        (Some(path), _) => of_store(path)?,
        (None, population) if args.load => (loaded(population, &mut load, out)?, Questions::of_population(population)),
        (None, population) => (of_population(population, args.calls > 0), Questions::of_population(population)),
    };
    let about = About {
        version: env!("CARGO_PKG_VERSION"),
        machine,
        population: if args.config.is_some() { "store" } else { "made up" },
        users: questions.users.len(),
        services: questions.services.len(),
        grants: ground.policy.size().grants,
        ready_seconds: started.elapsed().as_secs_f64(),
        load,
    };
    let About { users, services, grants, .. } = about;
    writeln!(out, "{users} users, {services} services, {grants} grants; ready after {:.1?}\n", started.elapsed())?;
    let mut report = Report::new(out, about);
    report.head()?;
    report.row(Layer::Clock, "the clock itself", &clock_cost()?)?;
    let made_up = args.config.is_none().then_some(made_up);
    decisions(&ground.policy, &questions, made_up, args.decisions, &mut report)?;
    if args.calls > 0 {
        let service = through::service()?;
        let house = House::build(ground, &questions, service)?;
        layers::run(&house, args.decisions, &mut report)?;
        through::run(&house, service, args.calls, &mut report)?;
    }
    report.keep(args.json.as_deref(), args.svg.as_deref())
}

fn decisions(
    policy: &Snapshot,
    questions: &Questions,
    made_up: Option<Population>,
    count: u32,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let layer = Layer::Decision;
    report.row(layer, "decision, seen before (mean of 64)", &decide::seen(policy, questions, count)?)?;
    let (users, services) = (questions.users.len() as u64, questions.services.len() as u64);
    let one = decide::anew(policy, questions, count, |random| (1, random.below(services.min(8))))?;
    report.row(layer, "decision anew, one user", &one)?;
    let any = decide::anew(policy, questions, count, |random| (random.below(users), random.below(services)))?;
    report.row(layer, "decision anew, users at random", &any)?;
    let Some(population) = made_up else { return Ok(()) };
    let busy =
        decide::anew(policy, questions, count, |random| (random.below(population.busy()), random.below(services)))?;
    report.row(layer, "decision anew, users in 20 groups", &busy)?;
    report.row(Layer::Change, "change of one grant", &decide::patch(policy, population, count.div_ceil(100))?)
}

/// The population in memory; accounts only where somebody is going to call.
fn of_population(population: Population, accounts: bool) -> Ground {
    let mut directory = Loading::default();
    if accounts {
        population.accounts().for_each(|account| directory.take(&[account]));
    }
    Ground { policy: population.compiled(), directory: Arc::new(directory.finish()) }
}

/// Loads the population from a file, and tells what that took.
fn loaded(population: Population, load: &mut Option<Loaded>, out: &mut dyn Write) -> Result<Ground, Failure> {
    let folder = through::Folder::make()?;
    load::write(population, folder.path())?;
    let (state, cost) = load::load(folder.path())?;
    let grants = state.policy.size().grants as u64;
    let each = cost.memory.map(|memory| memory / grants.max(1));
    write!(out, "full load from the embedded store in {:.1?}", cost.wall)?;
    if let Some(cpu) = cost.cpu {
        write!(out, ", {cpu:.1?} of processor time")?;
    }
    if let Some(each) = each {
        write!(out, ", {each} bytes a grant in all")?;
    }
    writeln!(out)?;
    let cpu_seconds = cost.cpu.map(|cpu| cpu.as_secs_f64());
    *load = Some(Loaded { seconds: cost.wall.as_secs_f64(), cpu_seconds, bytes_a_grant: each });
    Ok(Ground { policy: state.policy.clone(), directory: state.directory.clone() })
}

/// What the store of this configuration holds: users, services, grants. None of its secrets is opened.
fn of_store(path: &Path) -> Result<(Ground, Questions), Failure> {
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
    let directory = Arc::new(Directory::empty().patched(&contents.items));
    Ok((Ground { policy: refresh::policy(&contents.items), directory }, questions))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_population_is_measured_whole() {
        let population = Population { users: 3, services: 2, grants: 20 };
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, About::default());
        decisions(&population.compiled(), &Questions::of_population(population), Some(population), 100, &mut report)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        for what in ["seen before", "one user", "at random", "20 groups", "change of one grant"] {
            assert!(text.contains(what), "{text}");
        }
    }

    #[test]
    fn a_store_without_anybody_is_told_so() {
        let nobody = decisions(
            &Snapshot::empty(),
            &Questions::default(),
            None,
            100,
            &mut Report::new(&mut Vec::new(), About::default()),
        );
        assert!(matches!(nobody, Err(Failure::NotFine(_))));
    }
}
