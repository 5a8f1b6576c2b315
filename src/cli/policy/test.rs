//! `policy test`: files that say who may do what, and what is expected of it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use http::{Method, Uri};
use uuid::Uuid;

use super::world::World;
use crate::cli::Failure;
use crate::config::{self, Asked, Assertion, Decider, Register, Scenario, Service};
use crate::identity::Directory;
use crate::policy::{Because, Explanation, Levels, ResourceId, Snapshot, UserId};
use crate::proxy::authorize::{self, Call, Judge};
use crate::proxy::why::{self, Names, Why};
use crate::proxy::{Door, Route, Target};
use crate::upstream::{Roots, TargetGuard, Upstream};

/// Arguments of `policy test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files of policy tests, in TOML
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs every assertion of every file and reports in the form of TAP, version 14.
///
/// # Errors
/// [`Failure::Usage`] with every fault of every file, and then nothing was run; [`Failure::NotFine`] where an assertion does
/// not hold.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut scenarios, mut faults) = (Vec::new(), Vec::new());
    for path in &args.files {
        match config::load_scenario(path) {
            Ok(scenario) => scenarios.push((path, scenario)),
            Err(found) => faults.extend(found.iter().map(ToString::to_string)),
        }
    }
    if !faults.is_empty() {
        let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
        return Err(Failure::Usage(format!("{}\n{count}; nothing was run", faults.join("\n"))));
    }
    let count: usize = scenarios.iter().map(|(_, scenario)| scenario.assertions.len()).sum();
    writeln!(out, "TAP version 14\n1..{count}")?;
    let (mut number, mut failed) = (0, 0);
    for (path, scenario) in &scenarios {
        writeln!(out, "# {}", path.display())?;
        let stage = Stage::of(scenario);
        for assertion in &scenario.assertions {
            number += 1;
            let asked = stage.described(assertion);
            let name = if assertion.name.is_empty() { &asked } else { &assertion.name };
            match stage.judge(assertion) {
                Ok(()) => writeln!(out, "ok {number} - {}", in_one_line(name))?,
                Err(report) => {
                    failed += 1;
                    writeln!(out, "not ok {number} - {}\n  ---", in_one_line(name))?;
                    let place = assertion.place.as_ref().map(|place| ("at", place.to_string()));
                    let mut list = "";
                    for (key, value) in place.into_iter().chain([("asked", asked)]).chain(report) {
                        if !LISTS.contains(&key) {
                            writeln!(out, "  {key}: {}", quoted(&value))?;
                            continue;
                        }
                        if list != key {
                            writeln!(out, "  {key}:")?;
                        }
                        list = key;
                        writeln!(out, "    - {}", quoted(&value))?;
                    }
                    writeln!(out, "  ...")?;
                }
            }
        }
    }
    writeln!(out, "# {} of {count} hold", count - failed)?;
    // What failed has been said already.
    if failed > 0 { Err(Failure::NotFine(String::new())) } else { Ok(()) }
}

/// What TAP reads as a directive, or as the end of the line, is escaped.
fn in_one_line(text: &str) -> String {
    text.chars().map(|found| if found.is_control() { ' ' } else { found }).collect::<String>().replace('#', "\\#")
}

/// A scalar of YAML, in quotes so that no text is read as anything else.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What a report may say more than once.
const LISTS: [&str; 2] = ["decides", "does-not-count"];

/// Lines of what failed.
type Report = Vec<(&'static str, String)>;

/// A scenario, compiled.
struct Stage {
    policy: Snapshot,
    directory: Directory,
    routes: Vec<Arc<Route>>,
}

impl Stage {
    fn of(scenario: &Scenario) -> Self {
        let mut world = World::default();
        world.fill(scenario);
        for assertion in &scenario.assertions {
            if let Some(Decider::Grant(subject, _)) = &assertion.by {
                world.subject(subject);
            }
        }
        let (policy, directory) = world.compile();
        Self { policy, directory, routes: scenario.services.iter().map(route).collect() }
    }

    fn names(&self) -> Names<'_> {
        Names { policy: &self.policy, directory: &self.directory }
    }

    fn user(&self, name: &str) -> UserId {
        self.directory.by_name(name).map_or(UserId(Uuid::nil()), |account| account.id)
    }

    fn described(&self, assertion: &Assertion) -> String {
        match &assertion.question {
            Asked::Levels(name, levels) => format!("{}: {} on {name}", assertion.user, why::levels(*levels)),
            Asked::Call(method, path, _) => format!("{}: {method} {path}", assertion.user),
        }
    }

    /// Nothing where the assertion holds, else what to say.
    fn judge(&self, assertion: &Assertion) -> Result<(), Report> {
        let user = self.user(&assertion.user);
        match &assertion.question {
            Asked::Levels(name, need) => {
                let keys: Vec<&str> = name.keys().iter().map(|key| key.literal().unwrap_or("*")).collect();
                let explained = self.policy.explain(user, &keys, *need, assertion.now);
                self.compare(assertion, &explained, &keys)
            }
            Asked::Call(method, path, level) => self.judge_call(assertion, user, (method, path), *level),
        }
    }

    /// What the call needs is found by the functions that the gateway itself decides with.
    fn judge_call(
        &self,
        assertion: &Assertion,
        user: UserId,
        (method, path): (&Method, &Uri),
        level: Option<Levels>,
    ) -> Result<(), Report> {
        let target = match Target::parse(path, Door::Proxy) {
            Ok(target) => target,
            Err(problem) => return refused(assertion, problem.detail()),
        };
        let is_it = |route: &&Arc<Route>| route.namespace() == target.namespace() && route.name() == target.service();
        let Some(route) = self.routes.iter().find(is_it) else {
            return refused(assertion, "there is no such service");
        };
        let call = Call { route, target: &target, method };
        if authorize::public(&call).is_some() {
            return open_to_all(assertion);
        }
        let asked = authorize::ask(&call, |needed| match level {
            Some(level) if level != needed.need => {
                let name = why::resource(needed.keys);
                Err(vec![
                    ("expected", format!("the call needs {}", why::levels(level))),
                    ("got", format!("the call needs {} on {name}", why::levels(needed.need))),
                ])
            }
            _ => {
                let explained = self.policy.explain(user, needed.keys, needed.need, assertion.now);
                self.compare(assertion, &explained, needed.keys)
            }
        });
        let judge = Judge { policy: &self.policy, directory: &self.directory, decisions: None };
        asked.unwrap_or_else(|no_question| refused(assertion, no_question.problem(&judge, &call).detail()))
    }

    fn compare(&self, assertion: &Assertion, explained: &Explanation, keys: &[&str]) -> Result<(), Report> {
        let decided = assertion.by.as_ref().is_none_or(|by| self.decides(by, explained));
        if explained.allowed == assertion.allow && decided {
            return Ok(());
        }
        let names = self.names();
        let got = if explained.allowed { "allow" } else { "deny" };
        let mut report = vec![
            ("expected", expectation(assertion)),
            ("got", format!("{got}: {}", names.reason(explained))),
            ("needs", format!("{} on {}", why::levels(explained.need), why::resource(keys))),
            ("holds", why::levels(explained.held)),
        ];
        report.extend(explained.deciding.iter().map(|grant| ("decides", names.sentence(grant))));
        report.extend(explained.beaten.iter().map(|beaten| ("does-not-count", names.beaten(beaten))));
        if explained.allowed != assertion.allow {
            let would = match &explained.smallest_change {
                Some(change) => Why::of(names, explained, keys, assertion.now).command(change),
                None => "nothing: the owner may do everything".to_owned(),
            };
            report.push(("would-change-it", would));
        }
        Err(report)
    }

    fn decides(&self, by: &Decider, explained: &Explanation) -> bool {
        match by {
            Decider::Owner => explained.because == Because::Owner,
            Decider::Nothing => explained.because == Because::Nothing,
            Decider::Grant(subject, pattern) => {
                let said = subject.to_string();
                let names = self.names();
                explained
                    .deciding
                    .iter()
                    .any(|grant| grant.pattern == *pattern && names.subject(&grant.subject) == said)
            }
        }
    }
}

/// A refusal before anybody's grants are asked for.
fn refused(assertion: &Assertion, why: &str) -> Result<(), Report> {
    if !assertion.allow && assertion.by.is_none() {
        return Ok(());
    }
    Err(vec![("expected", expectation(assertion)), ("got", format!("deny: {why}"))])
}

fn open_to_all(assertion: &Assertion) -> Result<(), Report> {
    if assertion.allow && assertion.by.is_none() {
        return Ok(());
    }
    let got = "allow: the path is open to all, identified or not".to_owned();
    Err(vec![("expected", expectation(assertion)), ("got", got)])
}

fn expectation(assertion: &Assertion) -> String {
    let word = if assertion.allow { "allow" } else { "deny" };
    match &assertion.by {
        None => word.to_owned(),
        Some(Decider::Owner) => format!("{word}, by ownership"),
        Some(Decider::Nothing) => format!("{word}, as there is no grant"),
        Some(Decider::Grant(subject, pattern)) => format!("{word}, by the grant of {} on {pattern}", subject),
    }
}

fn route(service: &Service) -> Arc<Route> {
    let register = Register { allow_hosts: Vec::new(), allow_loopback: true, allow_private: true };
    let guard = Arc::new(TargetGuard::new(&register, &[]));
    let connect = |table: &Service| Upstream::new(table, guard, &Roots::default());
    Route::compile(ResourceId(Uuid::nil()), Arc::new(service.clone()), None, connect)
}
