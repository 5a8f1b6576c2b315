//! Listeners: bind, accept, TLS, HTTP/1.1 and HTTP/2, drain.
//!
//! Everything here runs on one thread: a worker binds its own socket with [`bind`] (the kernel spreads connections over
//! the workers) and calls [`serve`] on a current-thread runtime that takes `spawn_local` (a `LocalRuntime`, or a
//! `LocalSet`). Handlers and their bodies need not be `Send`.

mod connection;
mod doze;
mod guard;
mod listen;
mod refusal;
mod roster;
mod stall;
mod tls;
mod wire;

use std::net::SocketAddr;

pub use listen::{Admission, Serving, bind, open, reserve, serve};
pub use tls::{TlsError, TlsReload};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address that the connection comes from, IPv4 unmapped.
    pub addr: SocketAddr,
    /// Whether the caller came by TLS to this listener.
    pub tls: bool,
}

/// The version that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    /// HTTP/1.1, or 1.0.
    One,
    /// HTTP/2.
    Two,
}
