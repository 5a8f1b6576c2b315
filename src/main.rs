//! The program: see `carta_gateway::cli`.

fn main() {}
