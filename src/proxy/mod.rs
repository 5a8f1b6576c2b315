//! The walk of a request, and every step of it.

pub mod alias;
pub mod answer;
pub mod authorize;
pub mod cors;
pub mod error;
pub mod headers;
pub mod inject;
pub mod names;
pub mod route;
pub mod target;
pub mod template;
