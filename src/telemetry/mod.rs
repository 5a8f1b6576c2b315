//! Logs, metrics and the access line: what an operator sees. No secret ever gets here.

pub mod access;
pub mod metrics;
mod request_id;
mod trace;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use request_id::{RequestId, caller_request_id};
pub use trace::TraceParent;

/// Starts logging to standard error: lines for people, or JSON objects, one a line.
///
/// `filter` is a `tracing` filter such as `info` or `carta_gateway=debug`; the target `access` has the access lines.
/// A second call in one process changes nothing.
///
/// # Errors
/// The parser's words for a filter that cannot be read.
pub fn init(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|fault| format!("log filter `{filter}`: {fault}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for a terminal: in a file or a pipe they would stand between the words that people look for.
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    // A process has one subscriber; a test that starts several gateways keeps the first.
    let begun = if json {
        registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        registry.with(lines).try_init()
    };
    if begun.is_ok() {
        match (json, colours) {
            (true, _) => access::write_as(access::Form::Json),
            (false, false) => access::write_as(access::Form::Plain),
            (false, true) => {}
        }
    }
    Ok(())
}
