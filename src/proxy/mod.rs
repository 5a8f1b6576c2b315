//! The walk of a request, and every step of it.

pub mod error;
pub mod target;
