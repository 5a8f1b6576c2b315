//! What the black-box tests stand on: the built binary in a folder of its own, a recording upstream on real sockets,
//! and a raw HTTP/1.1 client that sends exactly the bytes it is told to.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its own part of this module")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a broken test environment should stop the test on the spot"
)]

pub mod frames;
pub mod gateway;
pub mod issuer;
pub mod login;
pub mod message;
pub mod ports;
pub mod socket;
pub mod tls;
pub mod upstream;
pub mod who;
pub mod wire;

use std::time::{Duration, Instant};

pub use frames::Frames;
pub use gateway::{Builder, Gateway, Ran};
pub use issuer::Issuer;
pub use message::{Head, Headers, Response};
pub use socket::Tunnel;
pub use upstream::{Exchange, Received, Upstream};
pub use who::Who;
pub use wire::{Ask, Wire};

/// Longer than anything that works takes on a loaded machine; what fails at once fails at once all the same.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The bound of the contract on what other processes write: a second, and some for a loaded machine.
pub const A_SECOND_WITH_SLACK: Duration = Duration::from_secs(3);

/// Asks again until the condition holds; polls real state, for what crosses processes and has no event to wait for.
///
/// # Panics
/// When it does not hold within `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
