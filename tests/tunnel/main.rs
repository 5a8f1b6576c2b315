//! The service tunnel on a real gateway: its handshake, the calls that go by it, and what a client may do wrong.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod ends;
mod handshake;
mod hostile;
mod tasks;

use std::thread::{JoinHandle, spawn};

use support::gateway::Builder;
use support::{Ask, Gateway, Response, Tunnel, Upstream};

/// `materials/mp`, which takes a tunnel, tess may write and alice may call; its address answers `base`.
struct House {
    gateway: Gateway,
    base: Upstream,
    alice: String,
    tess: String,
}

impl House {
    fn new(lines: &str) -> Self {
        Self::built(lines, |builder| builder)
    }

    fn built(lines: &str, more: impl FnOnce(Builder) -> Builder) -> Self {
        let base = Upstream::fixed("base");
        let builder = Gateway::with_service(&base.url(), &format!("tunnel = true\n{lines}"))
            .user("tess", &[])
            .grant("tess", "materials.mp", "write")
            .grant("alice", "materials.mp", "read,execute");
        let gateway = more(builder).start();
        let (alice, tess) = (gateway.token("alice"), gateway.token("tess"));
        Self { gateway, base, alice, tess }
    }

    fn tunnel(&self) -> Tunnel {
        Tunnel::open(&self.gateway, &self.tess, "materials/mp")
    }

    /// A call of alice's, not sent yet.
    fn ask(&self, method: &str, rest: &str) -> Ask {
        self.gateway.call(method, &format!("/materials/mp{rest}")).token(&self.alice)
    }

    /// A call of alice's under way.
    fn call(&self, rest: &str) -> JoinHandle<Response> {
        sending(self.ask("GET", rest))
    }

    /// That calls go to the address again.
    fn is_at_base(&self) {
        assert_eq!(self.ask("GET", "/again").expect(200).text(), "base");
    }
}

/// The request, sent by a thread that waits for its answer.
fn sending(ask: Ask) -> JoinHandle<Response> {
    spawn(move || ask.send())
}
