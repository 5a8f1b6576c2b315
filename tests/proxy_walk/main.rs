//! The walk, step by step, over real sockets: a gateway in this process before a recording upstream.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

#[path = "../proxy_house/mod.rs"]
mod proxy_house;
#[path = "../support/mod.rs"]
mod support;

mod decisions;
mod ends;
mod forwarding;
mod secrets;

use carta_gateway::policy::{Change, Grant, Levels, Pattern, Subject};
use carta_gateway::store::{Consent, Item, Key, Withdrawal};
use jiff::{SignedDuration, Timestamp};
use proxy_house::{ALICE, BOB, House, MP, OLGA, alices};
use serde_json::{Value, json};
use support::{Ask, Upstream};

fn table(upstream: &Upstream, more: Value) -> Value {
    let mut table = json!({"base_url": format!("{}/base", upstream.url())});
    for (key, value) in more.as_object().unwrap() {
        table[key] = value.clone();
    }
    table
}

fn start(upstream: &Upstream, more: Value) -> House {
    House::start("", &table(upstream, more))
}

fn call(house: &House, method: &str, target: &str) -> Ask {
    Ask::new(house.proxy(), method, target)
}
