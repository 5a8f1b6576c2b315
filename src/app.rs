//! Builds, spawns and drains the parts of a running gateway.
