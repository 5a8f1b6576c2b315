//! `vault rotate`.

use std::io::Write;

use clap::Subcommand;

use super::open::{actor, block_on, open};
use super::progress::Progress;
use super::{ConfigArg, Failure};
use crate::vault;

/// The commands about the vault.
#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Seal everything under the first key of the configuration
    ///
    /// Put the new key first ([vault] key) and the old one into `previous`, restart the gateways, run this, and take
    /// the old key out of the configuration. Interrupted, it can be run again: what is done stays done.
    Rotate(Rotate),
}

/// Arguments of `vault rotate`.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the command.
pub(super) fn run(command: &VaultCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let VaultCommand::Rotate(args) = command;
    let rotated = block_on(async {
        let opened = open(&args.config.config).await?;
        let mut progress = Progress::of("sealing");
        Ok(vault::rotate(&*opened.store, &opened.vault, actor(), |done, of| progress.at(done, of)).await?)
    })?;
    if rotated.done() == 0 {
        writeln!(out, "everything is sealed under the first key already")?;
    } else {
        writeln!(
            out,
            "sealed again: {} secrets, {} passwords, {} signing keys",
            rotated.secrets, rotated.passwords, rotated.keys
        )?;
    }
    if rotated.unreadable > 0 {
        return Err(Failure::NotFine(format!(
            "{} values open with none of the configured keys and stay as they are\nadd the key that they are sealed under \
             to `previous` and run this again",
            rotated.unreadable
        )));
    }
    Ok(())
}
