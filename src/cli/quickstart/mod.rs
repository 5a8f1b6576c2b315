//! `quickstart`: the gateway at work in one command, and the calls that show it.

pub(super) mod backend;
pub(super) mod client;
pub(super) mod lines;
pub(super) mod setup;
mod walk;

use std::io::Write;
use std::path::PathBuf;

use super::Failure;
use super::open::{self, block_on};
use crate::app;
use backend::Backend;
use setup::Setup;

/// Arguments of `quickstart`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the configuration, the vault key and the store are made
    #[arg(long, default_value = "./carta-quickstart")]
    dir: PathBuf,
    /// Walk the whole flow over real sockets, print every step, and end
    #[arg(long)]
    check: bool,
}

/// Makes what is needed, starts the gateway and the demonstration service, and shows the calls or makes them itself.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let ports = setup::write_files(&args.dir, out)?;
    let backend = Backend::start(ports.backend).map_err(|error| {
        Failure::Usage(format!("the demonstration service cannot listen at {}: {error}", ports.backend))
    })?;
    let config_path = args.dir.join(setup::CONFIG);
    let setup = block_on(Setup::prepare(&config_path))?;
    let mut config = open::config(&config_path)?;
    // What people are to read is the calls; a log between them would only be in the way.
    "warn".clone_into(&mut config.log.filter);
    let running = app::start(config)?;
    let places = lines::Places::new(&args.dir, &running, &backend);
    if args.check {
        let outcome = block_on(walk::walk(&setup, &places, &backend, out));
        running.stop()?;
        return outcome;
    }
    lines::write(&setup, &places, out)?;
    out.flush()?;
    Ok(running.until_signal()?)
}
