//! The walk of a request, and every step of it.

pub mod alias;
pub mod answer;
pub mod error;
pub mod headers;
pub mod target;
