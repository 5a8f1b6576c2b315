//! What went wrong elsewhere, one test for each lesson; the advisory stands above it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

#[path = "../support/mod.rs"]
mod support;

mod decisions;
mod headers;
mod identity;
mod paths;
mod upstreams;

const HEADER: &str = "[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n";
const INJECT: &str = "[service.inject]\nheaders = { X-API-KEY = \"{secret:key}\" }";
