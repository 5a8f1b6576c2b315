//! What the walk does between a request's head and the upstream, step by step, in this process and on one core: who
//! calls, whether they may, and their secret into the headers. The functions are those that the walk calls.

use std::hint::black_box;
use std::time::Instant;

use futures_util::FutureExt;
use hdrhistogram::Histogram;
use http::{Method, Uri};
use jiff::Timestamp;

use super::house::{House, internal, known};
use super::report::{Layer, Report};
use super::{Failure, histogram, record};
use crate::identity::TokenCache;
use crate::proxy::authorize::{self, Call, Decisions, Judge};
use crate::proxy::inject::{Buffers, Named};
use crate::proxy::template::Values;
use crate::proxy::{Door, Target};
use crate::upstream::Heads;

/// Steps timed together where one takes about as long as to read the clock.
const TOGETHER: u32 = 64;

/// Rounds of tokens that nobody has seen.
const ROUNDS: usize = 4;

/// Measures each step `count` times.
pub(super) fn run(house: &House, count: u32, report: &mut Report<'_>) -> Result<(), Failure> {
    report.row(Layer::Token, "token, seen before (mean of 64)", &token(house, count)?)?;
    report.row(Layer::Token, "token, first seen", &first_seen(house)?)?;
    report.row(Layer::Decision, "decision of a call, seen before (64)", &decision(house, count)?)?;
    report.row(Layer::Secret, "secret opened into the request", &secret(house, count)?)
}

fn token(house: &House, count: u32) -> Result<Histogram<u64>, Failure> {
    let (shared, cache, now) = (house.gateway.shared(), TokenCache::default(), Timestamp::now());
    let directory = shared.state.load().directory.clone();
    let ask = |headers| known(&shared.authenticator, &cache, &directory, headers, now);
    for caller in &house.callers {
        ask(&caller.headers)?;
    }
    let mut callers = house.callers.iter().cycle();
    together(count, || callers.next().is_some_and(|caller| black_box(ask(&caller.headers)).is_ok()))
}

/// Each caller's token anew; a round begins with an empty memory.
fn first_seen(house: &House) -> Result<Histogram<u64>, Failure> {
    let (shared, now, mut times) = (house.gateway.shared(), Timestamp::now(), histogram()?);
    let directory = shared.state.load().directory.clone();
    for _ in 0..ROUNDS {
        let cache = TokenCache::default();
        for caller in &house.callers {
            let started = Instant::now();
            let who = known(&shared.authenticator, &cache, &directory, &caller.headers, now);
            record(&mut times, started.elapsed());
            black_box(who?);
        }
    }
    Ok(times)
}

fn decision(house: &House, count: u32) -> Result<Histogram<u64>, Failure> {
    let (state, decisions, now) = (house.gateway.shared().state.load_full(), Decisions::default(), Timestamp::now());
    let judge = Judge { policy: &state.policy, directory: &state.directory, decisions: Some(&decisions) };
    let target = |path: String| -> Result<Target, Failure> {
        let uri: Uri = path.parse().map_err(|error| internal(&error))?;
        Target::parse(&uri, Door::Proxy).map_err(|_problem| internal(&"a path is refused"))
    };
    let targets = house.callers.iter().map(|caller| target(caller.path())).collect::<Result<Vec<_>, _>>()?;
    let ask = |(caller, target): (&super::house::Caller, &Target)| {
        let call = Call { route: &caller.route, target, method: &Method::GET };
        black_box(authorize::check(&judge, &caller.identity, &call, now)).is_ok()
    };
    let all = || house.callers.iter().zip(&targets);
    if !all().all(ask) {
        return Err(internal(&"a call is refused that was allowed"));
    }
    let mut calls = all().cycle();
    together(count, || calls.next().is_some_and(ask))
}

fn secret(house: &House, count: u32) -> Result<Histogram<u64>, Failure> {
    let (state, mut buffers, mut times) = (house.gateway.shared().state.load_full(), Buffers::default(), histogram()?);
    let (heads, now) = (Heads::default(), Timestamp::now());
    let first_use = &*house.gateway.shared().first_use;
    for (turn, caller) in (0..count).zip(house.callers.iter().cycle()) {
        let (program, trusted) = (caller.route.injection(), (caller.route.id(), true));
        let values = Values::of(&caller.identity, &state.secrets, now);
        let named = Named { service: caller.route.label(), api: house.gateway.settings().api() };
        let mut head = heads.take();
        let started = Instant::now();
        let consented = program.consent(&values, trusted, &named, first_use).now_or_never();
        let applied = program.apply((&[], None), &values, &named, &mut buffers, &mut head.lines);
        let took = started.elapsed();
        if !matches!(consented, Some(Ok(true))) || applied.is_err() || head.lines.to_map().len() != 1 {
            return Err(internal(&"a secret was not put in"));
        }
        heads.give_back(head);
        if turn >= count / 10 {
            record(&mut times, took);
        }
    }
    Ok(times)
}

/// The mean of each run of [`TOGETHER`].
fn together(count: u32, mut step: impl FnMut() -> bool) -> Result<Histogram<u64>, Failure> {
    let mut times = histogram()?;
    for _ in 0..count.div_ceil(TOGETHER) {
        let (started, mut done) = (Instant::now(), 0);
        for _ in 0..TOGETHER {
            done += u32::from(step());
        }
        record(&mut times, started.elapsed() / TOGETHER);
        if done < TOGETHER {
            return Err(internal(&"a call is refused that was allowed"));
        }
    }
    Ok(times)
}
