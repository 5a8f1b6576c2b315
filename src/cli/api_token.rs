//! `api-token`.

use std::io::Write;

use clap::Subcommand;
use jiff::Timestamp;

use super::open::{block_on, open};
use super::{ConfigArg, Failure};
use crate::shell::word;
use crate::store::{Mutation, StoreError};

/// What of API tokens an operator does; they are made by their users, over the API.
#[derive(Debug, Subcommand)]
pub(super) enum ApiTokenCommand {
    /// List a user's API tokens, one a line: name, the key's first four characters, state, endpoints
    List(ListArgs),
    /// End an API token at once, with the streams that it opened
    Revoke(RevokeArgs),
}

/// Arguments of `api-token list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The login name
    user: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `api-token revoke`.
#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// The login name
    user: String,
    /// The token's name
    name: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the command.
pub(super) fn run(command: &ApiTokenCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        ApiTokenCommand::List(args) => list(args, out),
        ApiTokenCommand::Revoke(args) => revoke(args, out),
    }
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let tokens = block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.user).await?;
        Ok(opened.store.api_tokens(user.id).await?)
    })?;
    let now = Timestamp::now();
    for token in tokens {
        let state = match token.expires {
            _ if token.revoked => "revoked",
            Some(end) if end <= now => "expired",
            _ if token.uses == Some(0) => "used up",
            _ => "good",
        };
        let mut state = state.to_owned();
        if let Some(end) = token.expires {
            state.push_str(&format!(", until {end}"));
        }
        if let Some(uses) = token.uses {
            state.push_str(&format!(", {uses} uses left"));
        }
        if let Some(used) = token.last_used {
            state.push_str(&format!(", last used {used}"));
        }
        writeln!(out, "{}\t{}…\t{state}\t{}", token.name, token.hint, token.patterns.join(", "))?;
    }
    Ok(())
}

fn revoke(args: &RevokeArgs, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.user).await?;
        let done =
            match opened.store.commit(super::open::actor(), Mutation::RevokeApiToken(user.id, args.name.clone())).await
            {
                Ok(done) => done,
                Err(StoreError::Missing { .. }) => {
                    return Err(Failure::NotFine(format!(
                        "`{}` has no API token `{}`\nsee: carta-gateway api-token list {}",
                        args.user,
                        args.name,
                        word(&args.user)
                    )));
                }
                Err(error) => return Err(error.into()),
            };
        writeln!(out, "the API token `{}` of `{}` is revoked (revision {})", args.name, args.user, done.revision.0)?;
        Ok(())
    })
}
