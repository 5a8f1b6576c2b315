//! The program: reads the command line, runs the command, and is the only place that knows exit codes.

use std::io::Write;
use std::process::ExitCode;

use carta_gateway::cli::{self, Failure};

fn main() -> ExitCode {
    let outcome = cli::run(std::env::args_os(), &mut std::io::stdin().lock(), &mut std::io::stdout().lock());
    let failure = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let text = failure.to_string();
    if !matches!(failure, Failure::Closed) && !text.is_empty() {
        // Nobody is left to tell when standard error is closed as well.
        let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
    }
    match failure {
        Failure::Closed => ExitCode::SUCCESS,
        Failure::NotFine(_) => ExitCode::from(1),
        Failure::Usage(_) => ExitCode::from(2),
        Failure::Internal(_) => ExitCode::from(70),
    }
}
