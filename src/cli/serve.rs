//! `serve`.

use super::{ConfigArg, Failure, open};
use crate::app::{self, StartError};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

/// Serves until a signal ends it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    Ok(app::start(open::config(&args.config.config)?)?.until_signal()?)
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
