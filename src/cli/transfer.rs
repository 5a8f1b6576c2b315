//! `transfer`.

use std::io::Write;

use jiff::Timestamp;

use super::open::{block_on, open};
use super::subject::{levels_of, resource_of};
use super::{ConfigArg, Failure};
use crate::policy::{Grant, Levels, Pattern, Subject};
use crate::store::Mutation;

/// Arguments of `transfer`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A namespace, such as materials, or a registered service, such as materials.mp
    #[arg(value_name = "RESOURCE", value_parser = resource_of)]
    resource: Pattern,
    /// Who is to own it: the login name
    #[arg(value_name = "USER")]
    user: String,
    /// What the former owner keeps, as in grant; nothing where it is not said
    #[arg(long, value_name = "LEVELS", value_parser = levels_of)]
    keep: Option<Levels>,
    #[command(flatten)]
    config: ConfigArg,
}

/// Makes somebody else the owner.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let to = opened.user(&args.user).await?;
        let resource = opened.resource(&args.resource).await?;
        let before = opened.find_resource(&args.resource).await?.and_then(|(_, owner)| owner);
        if before == Some(to.id) {
            writeln!(out, "{} owns {} already", to.name, args.resource)?;
            return Ok(());
        }
        let keep = before.zip(args.keep).map(|(former, levels)| Grant {
            subject: Subject::User(former),
            pattern: args.resource.clone(),
            levels,
            expires: None,
        });
        let transfer = Mutation::TransferOwner { resource, from: before, to: to.id, keep, at: Timestamp::now() };
        let done = opened.commit(transfer).await?;
        writeln!(out, "{} owns {} now (revision {})", to.name, args.resource, done.revision.0)?;
        Ok(())
    })
}
