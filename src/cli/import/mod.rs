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
mod present;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::MAX_KEYS;

    const FILES: [(&str, &str); 6] = [
        (
            "mara.json",
            r#"{"acl_user":[{"email":"ann@example.com","role":"Ops"},{"email":"Bob@example.com","role":"a_b"},{"email":"x","role":null}],"acl_permission":[{"user_key":"user__Ops","resource_key":"resource__All__Data__Spend"},{"user_key":"user__Ops__ann-example-com","resource_key":"resource__All"},{"user_key":"%","resource_key":"%"}]}"#,
        ),
        ("acl_user.csv", "email,role\nann@example.com,Ops\n\"b,\"\"c\",x\n"),
        ("acl_permission.csv", "user_key,resource_key\nuser__Ops,resource__All__A__B_\nuser__Ops__,resource__All__\n"),
        (
            "dump.json",
            r#"[{"model":"auth.user","pk":1,"fields":{"username":"ann","email":"ann@example.com","is_superuser":true,"groups":[1,7]}},{"model":"auth.group","pk":1,"fields":{"name":"Chiefs"}},{"model":"django_grainy.userpermission","pk":1,"fields":{"namespace":"a.*.c","permission":15,"user":1}},{"model":"django_grainy.grouppermission","pk":1,"fields":{"namespace":"a.","permission":-1,"group":1}}]"#,
        ),
        (
            "ctl.yaml",
            "ctl:\n  permissions:\n    - namespace: ctl.*\n      permission: crud\n    - {namespace: a.b, permission: 3}\n  plugins:\n    - {name: x, type: git, config: {permissions: {execute: cu}}}\n",
        ),
        ("ctl.json", r#"{"ctl":{"permissions":[{"namespace":"ctl","permission":"deny"}],"plugins":[{"name":"p"}]}}"#),
    ];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

        /// Whatever a file holds, it is refused, or what is planned can be stored.
        #[test]
        fn a_damaged_file_is_refused_or_gives_rows_that_can_be_stored(
            which in 0..FILES.len(),
            changes in proptest::collection::vec((0_usize..600, proptest::prelude::any::<u8>(), 0_usize..3), 0..6),
        ) {
            let (name, text) = FILES[which];
            let mut bytes = text.as_bytes().to_vec();
            for (place, byte, how) in changes {
                let place = place % bytes.len();
                match how {
                    0 => bytes[place] = byte,
                    1 => bytes.insert(place, byte),
                    // What stands there already is more likely to be read than any byte.
                    _ => bytes[place] = text.as_bytes()[usize::from(byte) % text.len()],
                }
            }
            let directory = tempfile::tempdir().unwrap();
            let files = [directory.path().join(name)];
            std::fs::write(&files[0], &bytes).unwrap();
            let mut plans = Vec::new();
            if let Ok(tables) = tables::read(&files) {
                plans.extend(mara::plan(&tables));
                plans.extend(grainy::plan(&tables));
            }
            plans.extend(ctl::plan(&files, &Written::Everyone));
            for plan in plans {
                for grant in &plan.grants {
                    proptest::prop_assert!(grant.keys.len() <= MAX_KEYS && grant.levels.bits() < 128);
                    proptest::prop_assert!(!grant.row.is_empty());
                }
                proptest::prop_assert!(plan.remarks.iter().all(|remark| !remark.what.is_empty()));
            }
        }
    }
}
