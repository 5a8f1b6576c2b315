//! `token`.

use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::issuer::with_keys;
use super::open::{actor, block_on, open};
use super::subject::duration;
use super::{ConfigArg, Failure};
use crate::identity::Directory;
use crate::shell::word;

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The login name
    name: String,
    /// How long the token is good: 90s, 15m, 8h; the configuration's token_ttl without it
    #[arg(long, value_name = "TTL", value_parser = duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    config: ConfigArg,
}

/// Prints a token.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let token = block_on(async {
        let opened = open(&args.config.config).await?;
        let issuer = with_keys(&opened).await?;
        let user = opened.user(&args.name).await?;
        if user.disabled {
            return Err(Failure::NotFine(format!(
                "the user `{}` is disabled\nadmit the user again with: carta-gateway user enable {}",
                args.name,
                word(&args.name)
            )));
        }
        let internal = |error: crate::identity::IssuerError| Failure::Internal(error.to_string());
        let now = Timestamp::now();
        issuer.ensure_key(&*opened.store, &opened.vault, actor(), now).await.map_err(internal)?;
        let directory = Directory::empty().patched(&opened.store.load().await?.items);
        let Some(account) = directory.by_id(user.id) else {
            return Err(Failure::NotFine(format!("the user `{}` was removed meanwhile", args.name)));
        };
        Ok(issuer.mint(account, args.ttl, now).map_err(internal)?.token)
    })?;
    writeln!(out, "{token}")?;
    Ok(())
}
