//! Decisions of this engine beside casbin's and cedar's: the same grants, the same questions, the same run, one core.
//!
//! `cargo run --release -- 1000 100000 10000000` names the sizes; these are the default. A peer stops where a decision
//! takes more than a second, or would at the next size by what it took at this one, or where the process holds 16 GiB.

mod casbin;
mod cedar;
mod ours;

use std::time::{Duration, Instant};

use carta_gateway::cli::bench::load::resident;
use carta_gateway::cli::bench::machine;
use carta_gateway::cli::bench::population::{Population, Random};

/// What a decision may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the process may hold, in bytes.
const ROOM: u64 = 16 << 30;

/// How long one measurement goes on, and how many decisions it has at most and at least.
const LONG: Duration = Duration::from_secs(5);
const MOST: usize = 20_000;
const LEAST: usize = 5;

/// Something that decides.
trait Peer {
    /// Takes the population in, as far as it fits.
    fn of(population: Population) -> Result<Self, String>
    where
        Self: Sized;

    /// Whether the user may execute the service.
    fn allows(&self, question: &Question) -> bool;
}

/// Who asks for which service.
struct Question {
    user: String,
    id: carta_gateway::policy::UserId,
    service: [String; 2],
}

/// What a peer came to at one size.
struct Measured {
    median: Duration,
    quartiles: [Duration; 2],
    load: Duration,
    bytes: u64,
    answers: Vec<bool>,
}

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).map(|size| size.parse().expect("a number of grants")).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 100_000, 10_000_000] } else { sizes };
    println!("{}\n", machine());
    println!("| grants | engine | a decision, median (quartiles) | times ours | load | bytes a grant | same answers |");
    println!("|---|---|---|---|---|---|---|");
    let (mut stopped, mut before) = ([None, None], [None, None]);
    for grants in sizes {
        let population = Population::of_grants(grants);
        let questions = questions(population);
        let ours = measure::<ours::Ours>(population, &questions).expect("ours comes as far as anybody");
        row(grants, "carta-gateway", &ours, &ours);
        let peers: [(&str, fn(Population, &[Question]) -> Result<Measured, String>); 2] =
            [("casbin", measure::<casbin::Casbin>), ("cedar", measure::<cedar::Cedar>)];
        for (place, (name, measure)) in peers.into_iter().enumerate() {
            stopped[place] = stopped[place].take().or_else(|| expected(before[place], grants));
            let measured = match &stopped[place] {
                Some(reason) => Err(reason.clone()),
                None => measure(population, &questions),
            };
            match measured {
                Ok(measured) => {
                    row(grants, name, &measured, &ours);
                    before[place] = Some((grants, measured.median));
                }
                Err(reason) => {
                    println!("| {grants} | {name} | stopped: {reason} | | | | |");
                    stopped[place] = Some(reason);
                }
            }
        }
    }
}

/// Why there is no point in trying this size, by what the one before took.
fn expected(before: Option<(u64, Duration)>, grants: u64) -> Option<String> {
    let (smaller, took) = before?;
    let then = took.mul_f64(grants as f64 / smaller as f64);
    (then > PATIENCE && took > PATIENCE / 1000)
        .then(|| format!("{took:.1?} a decision at {smaller} grants, growing with their number, would be {then:.0?}"))
}

fn measure<P: Peer>(population: Population, questions: &[Question]) -> Result<Measured, String> {
    let (before, started) = (resident().unwrap_or(0), Instant::now());
    let peer = P::of(population)?;
    let (load, held) = (started.elapsed(), resident().unwrap_or(0).saturating_sub(before));
    let (mut times, mut answers) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for question in questions.iter().take(MOST) {
        let asked = Instant::now();
        let allowed = peer.allows(question);
        times.push(asked.elapsed());
        answers.push(allowed);
        if times.len() >= LEAST && started.elapsed() > LONG {
            break;
        }
    }
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 4];
    let measured =
        Measured { median: at(2), quartiles: [at(1), at(3)], load, bytes: held / population.grants, answers };
    if measured.median > PATIENCE { Err(format!("{:.1?} a decision", measured.median)) } else { Ok(measured) }
}

fn row(grants: u64, name: &str, measured: &Measured, ours: &Measured) {
    let Measured { median, quartiles: [low, high], load, bytes, answers } = measured;
    let ratio = median.as_secs_f64() / ours.median.as_secs_f64();
    let same = answers.iter().zip(&ours.answers).filter(|(one, other)| one == other).count();
    println!(
        "| {grants} | {name} | {median:.1?} ({low:.1?}–{high:.1?}) | {ratio:.1} | {load:.1?} | {bytes} | {same} of {} |",
        answers.len()
    );
}

/// Users and services at random.
fn questions(population: Population) -> Vec<Question> {
    let mut random = Random(41);
    let question = |_| {
        let id = population.user(random.below(population.users));
        Question { user: id.to_string(), id, service: population.service(random.below(population.services)) }
    };
    (0..MOST).map(question).collect()
}

/// Stops what does not fit.
fn fits() -> Result<(), String> {
    match resident() {
        Some(held) if held > ROOM => Err(format!("it holds more than {} GiB", ROOM >> 30)),
        _ => Ok(()),
    }
}
