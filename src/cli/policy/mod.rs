//! `policy`: the engine on policies that no store holds.

use std::io::{BufRead, Write};

use clap::Subcommand;

use super::Failure;

pub mod eval;

mod case;
mod diff;
mod test;
mod world;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Answer policies and questions, one JSON object a line from standard input, one a line to standard output
    ///
    /// Made for comparing the engine with another one. A line holds a whole policy and questions about it:
    ///
    /// {"id": 1, "users": [{"name": "ann", "role": "Ops", "groups": ["Lab:Chem"]}],
    ///  "grants": [{"subject": "role:Ops", "resource": "a.*.c", "levels": "cr"}],
    ///  "queries": [{"user": "ann", "resource": "a.b.c", "level": "read"}]}
    ///
    /// The answer has the same id, and for each question: whether it is allowed, the levels held, their mask, whether
    /// there is something to see (navigable), and the reason in words. docs/PERMISSIONS.md describes every field. A line
    /// that is malformed is answered with an error, the run goes on, and the exit status is 1 at the end.
    Eval,
    /// Run files of policy tests: a policy, and what is expected of it
    ///
    /// A file declares users, groups, roles, services with their operations, owners and grants, and asserts for each
    /// question whether it is to be allowed and which grant is to decide. A question is about levels on a resource, or
    /// about a call: method and path. The report has the form of TAP; what does not hold says what was expected, what
    /// came, the grants that decided and those that did not count, and what would change it.
    ///
    /// Ends with 0 where everything holds, with 1 where something does not, and with 2 where a file has a fault: then
    /// every fault is listed with its place, and nothing is run. docs/examples/policy.toml shows a whole file.
    Test(test::Args),
    /// Print what a policy changes about another one: who gains and who loses what, and what calls need
    ///
    /// Both are files of `policy test`. A line that begins with + is a gain, one with - a loss, one with ~ a call that
    /// needs other levels or another resource. Whom the files do not list is there as `anybody else`, and as `anybody of`
    /// each role and group that is granted something; * in a name stands for a part that no grant names.
    ///
    /// Ends with 0 where both decide the same, with 1 where they differ.
    Diff(diff::Args),
}

/// Runs the command.
pub(super) fn run(command: &PolicyCommand, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        PolicyCommand::Eval => eval::run(input, out),
        PolicyCommand::Test(args) => test::run(args, out),
        PolicyCommand::Diff(args) => diff::run(args, out),
    }
}
