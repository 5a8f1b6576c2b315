//! `import`: what mara-acl, django-grainy and ctl keep becomes users, groups and grants here, as one change.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::{ConfigArg, Failure};
use crate::policy::written::Written;
use crate::policy::{Pattern, PatternKey};

mod apply;
mod ctl;
mod grainy;
mod mara;
mod plan;
mod tables;

/// Whose files.
#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// The tables of mara-acl: acl_user and acl_permission
    ///
    /// Reads SQLite files, CSV files with a header (one a table, named after it) and JSON (an object of tables, or a list
    /// of rows in a file named after its table). Each row whose meaning changes is reported with the reason; what can
    /// have no meaning here is left out, and everything else becomes one change.
    Mara(Args),
    /// The tables of django-grainy, with Django's users and groups
    ///
    /// Reads the database as SQLite, its tables as CSV files, or JSON as `manage.py dumpdata` writes it. Where users and
    /// groups come together, every answer that differs is reported.
    Grainy(Args),
    /// The configuration of ctl, YAML or JSON: its permissions, and what its plugins ask for
    Ctl {
        /// Who gets the permissions: ctl knows no users
        #[arg(long = "for", value_name = "SUBJECT", default_value = "everyone")]
        subject: Written,
        #[command(flatten)]
        args: Args,
    },
}

/// What every import takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The files to read
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Report, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The resource name below which everything is put; without it, at the root, beside the names of services
    #[arg(long, value_name = "RESOURCE", value_parser = Pattern::parse)]
    under: Option<Pattern>,
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the command.
pub(super) fn run(command: &ImportCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let (args, plan) = match command {
        ImportCommand::Mara(args) => (args, mara::plan(&tables::read(&args.files)?)?),
        ImportCommand::Grainy(args) => (args, grainy::plan(&tables::read(&args.files)?)?),
        ImportCommand::Ctl { subject, args } => (args, ctl::plan(&args.files, subject)?),
    };
    let under: Vec<PatternKey> = args.under.iter().flat_map(|name| name.keys().to_vec()).collect();
    apply::run(plan, &under, args.dry_run, &args.config.config, out)
}
