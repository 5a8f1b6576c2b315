//! The map of the house: modules in the order in which a request meets them, the ground floor last.
//!
//! `docs/ARCHITECTURE.md` follows one request through these rooms; `tests/layers.rs` holds the arrows between them.

pub mod app;
pub mod cli;
pub mod refresh;

pub mod server;

pub mod api;
pub mod proxy;

pub mod identity;
pub mod upstream;
pub mod vault;

pub mod store;

pub mod batch;
pub mod config;
pub mod problem;
pub mod shell;
pub mod telemetry;
pub mod wiped;

pub mod policy;
