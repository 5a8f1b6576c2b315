//! `issuer rotate`.

use std::io::Write;

use clap::Subcommand;
use jiff::Timestamp;

use super::open::{Opened, actor, block_on, open};
use super::{ConfigArg, Failure};
use crate::identity::Issuer;

/// The commands about the built-in issuer.
#[derive(Debug, Subcommand)]
pub(super) enum IssuerCommand {
    /// Make a new signing key
    ///
    /// It signs from now on. The keys before it verify for one more token_ttl, so that tokens in use stay good until they
    /// end; a token that was made to live longer than that ends then too.
    Rotate(Rotate),
}

/// Arguments of `issuer rotate`.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the command.
pub(super) fn run(command: &IssuerCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let IssuerCommand::Rotate(args) = command;
    let kid = block_on(async {
        let opened = open(&args.config.config).await?;
        let issuer = with_keys(&opened).await?;
        issuer
            .rotate(&*opened.store, &opened.vault, actor(), Timestamp::now())
            .await
            .map_err(|error| Failure::Internal(error.to_string()))
    })?;
    writeln!(out, "the key {kid} signs from now on")?;
    Ok(())
}

/// The issuer of this configuration with the keys that the store has.
///
/// # Errors
/// [`Failure::Usage`] where it is off.
pub(super) async fn with_keys(opened: &Opened) -> Result<Issuer, Failure> {
    let local = &opened.config.auth.local;
    if !local.enabled {
        return Err(Failure::Usage(
            "the built-in issuer is off\nset `enabled = true` in [auth.local], or ask the configured issuer".to_owned(),
        ));
    }
    let issuer = Issuer::new(local, &opened.config.listen.public_api);
    issuer.load(&opened.vault, &opened.store.load().await?.items);
    Ok(issuer)
}
