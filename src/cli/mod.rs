//! The commands: each in a file of its own, each writing to the handle that it is given. `main` alone exits.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub mod bench;
pub mod check;
pub mod policy;

mod api_token;
mod audit;
mod explain;
mod grant;
mod group;
mod health;
mod import;
mod issuer;
mod lookup;
mod open;
mod progress;
mod quickstart;
mod serve;
mod subject;
mod token;
mod transfer;
mod user;
mod vault;

/// A gateway that knows who calls, decides whether they may, and calls the service with the user's own secret.
///
/// It exposes services at /<namespace>/<service>/<endpoints>. Each call needs a credential; the user needs the level
/// that the service asks for ("execute" where it says nothing else); the user's own secrets are put on the request to
/// the service, and both bodies are streamed.
///
/// Start with `carta-gateway quickstart`: it makes everything that is needed in a directory, runs a demonstration
/// service beside the gateway, and prints the calls to paste.
#[derive(Debug, Parser)]
#[allow(rustdoc::invalid_html_tags, reason = "the text is the program's help, read in a terminal")]
#[command(name = "carta-gateway", version, max_term_width = 100, after_long_help = MANUAL)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const MANUAL: &str = "\
Exit status:
  0   fine
  1   the thing asked about is not fine: a refused call, a fault in a checked file, a user who is not there
  2   wrong usage or configuration
  70  an internal failure

Files:
  gateway.toml   the configuration, read from the current directory unless --config names another.
                 `carta-gateway check` lists every fault in it, `carta-gateway check --schema` prints its JSON Schema.

Examples:
  carta-gateway user add alice --email alice@example.org --admin
  carta-gateway grant bob materials.mp execute --expires 30d
  carta-gateway explain --user bob GET /materials/mp/tags/7
  curl -H \"Authorization: Bearer $(carta-gateway token bob --ttl 1h)\" http://127.0.0.1:8080/materials/mp/tags/7

A command that writes reaches a running gateway within a second.";

/// The configuration file of a command.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArg {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "gateway.toml", env = "CARTA_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    ///
    /// Serves the proxy and the API listener of the configuration until SIGTERM or SIGINT; requests in flight are
    /// finished first. Logs go to standard error.
    Serve(serve::Args),
    /// Show the gateway at work: users, a service, tokens, and the calls to paste
    ///
    /// Makes a configuration, a vault key and a store in DIR, starts the gateway and a demonstration service in this
    /// process, and prints numbered commands that show a call refused, a grant, the same call working, the user's own
    /// secret arriving at the service, and an answer streamed. Run it again in the same DIR as often as you like.
    Quickstart(quickstart::Args),
    /// List every fault of the configuration
    ///
    /// Reports all faults at once, each with file, line, column and key, and what to write instead. Owners and names of the
    /// declared services, and the vault key, are compared with the store, which is only looked at.
    Check(CheckArgs),
    /// Make, disable, enable users; set passwords; link what proves them
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make groups; put users into them
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Give levels on a resource to a user, group, role, everyone, or the holders of levels elsewhere
    ///
    /// A grant on a name covers everything below it. What the same subject had on exactly this name is replaced. Levels
    /// `none` deny: see docs for what a deny binds.
    Grant(grant::GrantArgs),
    /// Take levels, or a whole grant, away
    Revoke(grant::RevokeArgs),
    /// Make somebody else the owner of a namespace or a registered service
    ///
    /// The owner does that by the API; this is for an owner who cannot any more. What the new owner was given on it before is
    /// taken away, as an owner needs no grant. Services of gateway.toml have their owner there.
    Transfer(transfer::Args),
    /// Print a token of the built-in issuer: nothing else goes to standard output
    Token(token::Args),
    /// See and end the API tokens that users made
    #[command(name = "api-token", subcommand)]
    ApiToken(api_token::ApiTokenCommand),
    /// The built-in issuer's signing keys
    #[command(subcommand)]
    Issuer(issuer::IssuerCommand),
    /// Say whether a user may make a call, which grant decides, and who could change it
    ///
    /// Ends with 0 where the call is allowed and with 1 where it is refused.
    Explain(explain::Args),
    /// Test permissions before anybody has them, and compare the engine with another
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Take users, groups and grants over from mara-acl, django-grainy or ctl, as one change
    ///
    /// Reports each row whose meaning changes and each that is left out, with the reason; `--dry-run` only reports.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// What was changed, by whom, from where; and whether this record is whole
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The key under which secrets are sealed
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Tell whether the gateway of this configuration is ready
    ///
    /// Asks its listeners on this machine; ends with 0 where both are ready to decide and with 1 where one is not. Made for
    /// the health check of a container, which has no other program to ask with.
    Health(health::Args),
    /// Measure how long decisions take
    Bench(bench::Args),
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Print the JSON Schema of the configuration instead
    #[arg(long)]
    schema: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// How a command ended when it did not simply work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The thing asked about is not fine.
    #[error("{0}")]
    NotFine(String),
    /// Wrong usage or configuration.
    #[error("{0}")]
    Usage(String),
    /// The program failed where it should not.
    #[error("{0}")]
    Internal(String),
    /// Whoever read the output is gone, as `head` is when it has seen enough.
    #[error("the reader of the output is gone")]
    Closed,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Internal(format!("cannot write: {error}"))
        }
    }
}

/// Runs the command that the arguments name, the program's name first among them.
///
/// # Errors
/// [`Failure`], which says how the program is to end.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(error.render().to_string())),
        Err(help) => return Ok(write!(out, "{}", help.render())?),
    };
    match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Quickstart(args) => quickstart::run(args, out),
        Command::Check(args) => run_check(args, out),
        Command::User(command) => user::run(command, input, out),
        Command::Group(command) => group::run(command, out),
        Command::Grant(args) => grant::grant(args, out),
        Command::Revoke(args) => grant::revoke(args, out),
        Command::Transfer(args) => transfer::run(args, out),
        Command::Token(args) => token::run(args, out),
        Command::ApiToken(command) => api_token::run(command, out),
        Command::Issuer(command) => issuer::run(command, out),
        Command::Explain(args) => explain::run(args, out),
        Command::Policy(command) => policy::run(command, input, out),
        Command::Import(command) => import::run(command, out),
        Command::Audit(command) => audit::run(command, out),
        Command::Vault(command) => vault::run(command, out),
        Command::Health(args) => health::run(args, out),
        Command::Bench(args) => bench::run(args, out),
    }
}

fn run_check(args: &CheckArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let fine = open::block_on(async {
        Ok(check::run(&args.config.config, args.schema, &|name| std::env::var(name).ok(), out).await?)
    })?;
    // What is wrong has been written already.
    if fine { Ok(()) } else { Err(Failure::NotFine(String::new())) }
}
