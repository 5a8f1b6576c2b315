//! `group add|join|leave`.

use std::io::Write;

use clap::Subcommand;
use uuid::Uuid;

use super::open::{block_on, open};
use super::{ConfigArg, Failure};
use crate::identity::is_group_name;
use crate::policy::GroupId;
use crate::store::{Group, Mutation};

/// The commands about groups.
#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// Make a group
    ///
    /// Its name is NAME or ORGANIZATION:NAME. A grant to it (carta-gateway grant group:NAME …) holds for its members, for
    /// as long as they are in it. Groups that a token names are the token's own and never this one.
    Add(Add),
    /// Put a user into a group
    Join(Membership),
    /// Take a user out of a group; what was granted to the group ends for them with the next request
    Leave(Membership),
}

/// Arguments of `group add`.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The group: NAME or ORGANIZATION:NAME
    name: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// A group and a user.
#[derive(Debug, clap::Args)]
pub(super) struct Membership {
    /// The group's name
    group: String,
    /// The login name
    user: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the command.
pub(super) fn run(command: &GroupCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        GroupCommand::Add(args) => add(args, out),
        GroupCommand::Join(args) => set_member(args, true, out),
        GroupCommand::Leave(args) => set_member(args, false, out),
    }
}

fn add(args: &Add, out: &mut dyn Write) -> Result<(), Failure> {
    check_name(&args.name)?;
    block_on(async {
        let opened = open(&args.config.config).await?;
        let group = Group { id: GroupId(Uuid::new_v4()), name: args.name.clone(), owner: None };
        let id = group.id;
        let done = opened.commit(Mutation::CreateGroup(group)).await?;
        writeln!(out, "group {} added (id {id}, revision {})", args.name, done.revision.0)?;
        Ok(())
    })
}

fn set_member(args: &Membership, member: bool, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let (group, user) = (opened.group(&args.group).await?, opened.user(&args.user).await?.id);
        let (mutation, word) = if member {
            (Mutation::AddMember(group, user), "is in")
        } else {
            (Mutation::RemoveMember(group, user), "is not in")
        };
        let done = opened.commit(mutation).await?;
        writeln!(out, "{} {word} the group {} (revision {})", args.user, args.group, done.revision.0)?;
        Ok(())
    })
}

fn check_name(name: &str) -> Result<(), Failure> {
    if is_group_name(name) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "`{}` cannot be a group's name\nwrite NAME or ORGANIZATION:NAME: up to 128 characters without `,` and `/`",
        name.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_name_or_an_organization_and_a_name() {
        for name in ["Team", "Org:Team", "Organische Chemie:Gruppe 7"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ":", "Org:", ":Team", "a:b:c", " a", "a,b", "a/b", "a\n"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
