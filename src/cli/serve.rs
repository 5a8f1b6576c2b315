//! `serve`.

use std::io::Write;

use super::{ConfigArg, Failure, open};
use crate::app::{self, StartError};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

/// Serves until a signal ends it.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let config = open::config(&args.config.config)?;
    let running = app::start(config)?;
    writeln!(out, "proxy {}", running.proxy_url())?;
    writeln!(out, "api   {}", running.api_url())?;
    out.flush()?;
    Ok(running.until_signal()?)
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(_) => Self::Usage(error.to_string()),
            StartError::Store(_) => Self::NotFine(error.to_string()),
            StartError::Internal(_) => Self::Internal(error.to_string()),
        }
    }
}
