//! `grant` and `revoke`.

use std::io::Write;

use jiff::Timestamp;

use super::open::{Opened, block_on, open};
use super::subject::{Written, levels_of, moment, resource_of};
use super::{ConfigArg, Failure};
use crate::api::warn;
use crate::identity::Directory;
use crate::policy::{self, Change, Levels, Pattern, Subject};
use crate::proxy::why::Names;
use crate::store::Mutation;

/// Arguments of `grant`.
#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    /// Who: NAME or user:NAME, group:NAME, role:NAME, everyone, holders:LEVELS:RESOURCE (LEVELS may be same)
    #[arg(value_name = "SUBJECT")]
    subject: Written,
    /// What: a dotted resource name such as materials or materials.mp; it covers everything below; * stands for one key
    #[arg(value_name = "RESOURCE", value_parser = resource_of)]
    resource: Pattern,
    /// Words (execute,read), letters of crud, a preset (Guest, User, Editor), or none to deny
    #[arg(value_name = "LEVELS", value_parser = levels_of)]
    levels: Levels,
    /// When it ends: a duration from now such as 30d, or a time such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "T")]
    expires: Option<String>,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// Who: as in grant
    #[arg(value_name = "SUBJECT")]
    subject: Written,
    /// What: exactly the name of the grant
    #[arg(value_name = "RESOURCE", value_parser = resource_of)]
    resource: Pattern,
    /// Which levels to take away; without any, or with none, the whole grant or deny
    #[arg(value_name = "LEVELS", value_parser = levels_of)]
    levels: Option<Levels>,
    #[command(flatten)]
    config: ConfigArg,
}

/// Gives the levels, or denies.
pub(super) fn grant(args: &GrantArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let now = Timestamp::now();
    let expires = args.expires.as_deref().map(|text| moment(text, now)).transpose().map_err(Failure::Usage)?;
    block_on(async {
        let opened = open(&args.config.config).await?;
        let subject = args.subject.resolve(&opened).await?;
        refuse_owner(&opened, &subject, &args.resource).await?;
        if !opened.covers_something(&args.resource).await? {
            writeln!(
                out,
                "note: there is no service or namespace `{0}` yet{1}; the grant waits for it",
                args.resource,
                opened.close_resource(&args.resource).await?
            )?;
        }
        let row = policy::Grant { subject, pattern: args.resource.clone(), levels: args.levels, expires };
        let subject_text = row.subject.to_string();
        let change = Change::Grant(row.clone());
        let (before, after) = opened.grants_around(&row.subject, &change).await?;
        let done = opened.commit(Mutation::PutGrant { grant: row, by: None, at: now }).await?;
        let until = expires.map(|at| format!(" until {at}")).unwrap_or_default();
        let who = args.subject.called();
        if args.levels.is_empty() {
            writeln!(out, "{who} is denied everything on {}{until} (revision {})", args.resource, done.revision.0)?;
        } else {
            writeln!(out, "{who} has {} on {}{until} (revision {})", args.levels, args.resource, done.revision.0)?;
        }
        let directory = Directory::empty();
        for warning in warn::of(Names { policy: &before, directory: &directory }, &after, &change, now, &|| true) {
            // The grant is made: a terminal that is gone changes nothing.
            let _ = writeln!(std::io::stderr(), "warning: {}", warning.replace(&subject_text, &who));
        }
        Ok(())
    })
}

/// Takes levels, or a whole grant, away.
pub(super) fn revoke(args: &RevokeArgs, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let subject = args.subject.resolve(&opened).await?;
        let who = args.subject.called();
        let Some(row) = opened.grant(&subject, &args.resource).await? else {
            return Err(Failure::NotFine(format!(
                "{who} has no grant on exactly `{}`\n`carta-gateway explain` shows which grant decides",
                args.resource
            )));
        };
        let pattern = args.resource.clone();
        let done = match args.levels.unwrap_or_default() {
            Levels::NONE => opened.commit(Mutation::RemoveGrant(subject.clone(), pattern)).await?,
            levels if row.levels.without(levels) == row.levels => {
                return Err(Failure::NotFine(format!(
                    "{who} has {} on {}: nothing to take",
                    row.levels, args.resource
                )));
            }
            // What is left is for the store to say: a deny that somebody gave meanwhile must stay.
            levels => opened.commit(Mutation::TakeLevels { subject: subject.clone(), pattern, levels }).await?,
        };
        match opened.grant(&subject, &args.resource).await? {
            None => writeln!(out, "{who} has no grant on {} any more (revision {})", args.resource, done.revision.0)?,
            Some(left) => {
                writeln!(out, "{who} keeps {} on {} (revision {})", left.levels, args.resource, done.revision.0)?
            }
        }
        Ok(())
    })
}

/// A grant to the owner would be shadowed by the ownership, and surprise whoever gets the resource next.
async fn refuse_owner(opened: &Opened, subject: &Subject, pattern: &Pattern) -> Result<(), Failure> {
    if !pattern.is_literal() {
        return Ok(());
    }
    match (subject, opened.owner(pattern).await?) {
        (Subject::User(user), Some(owner)) if *user == owner => {
            Err(Failure::NotFine(format!("the user owns `{pattern}` and holds every level on it without a grant")))
        }
        _ => Ok(()),
    }
}
