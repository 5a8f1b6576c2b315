//! With the store away the last state serves for a while, then calls are refused; nothing widens, nothing is lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use support::gateway::OWNER;
use support::{Gateway, PATIENCE, Upstream, eventually};

#[test]
fn without_its_store_the_gateway_serves_on_refuses_changes_and_in_the_end_refuses_calls() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    gateway.kill();
    let config = fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    let brief = config.replace("sqlite://carta.db\"", "sqlite://carta.db\"\nmax_staleness = \"3s\"");
    fs::write(gateway.path("gateway.toml"), brief).unwrap();
    gateway.serve();
    let (alice, bob, owner) = (gateway.token("alice"), gateway.token("bob"), gateway.token(OWNER));
    let call = |token: &str| gateway.call("GET", "/materials/mp/x").token(token).send();
    assert_eq!((call(&alice).status(), call(&bob).status()), (200, 403));

    for file in ["carta.db", "carta.db-wal", "carta.db-shm"] {
        fs::rename(gateway.path(file), gateway.path(&format!("away-{file}"))).ok();
    }
    assert_eq!((call(&alice).status(), call(&bob).status()), (200, 403), "the last state serves on");
    let stored = gateway.secret(&alice, "key", "value");
    let said = (stored.status(), stored.problem());
    assert_eq!(said, (503, Some("store-unavailable")), "a change that cannot be kept is not answered as done");
    let refused =
        eventually("calls are refused", PATIENCE, || Some(call(&alice)).filter(|answer| answer.status() == 503));
    assert_eq!(refused.problem(), Some("stale-snapshot"));
    assert_eq!(gateway.call("GET", "/-/ready").send().status(), 503);
    assert_eq!(gateway.call("GET", "/-/live").send().status(), 200);
    gateway.run(&["health"]).code(1);

    for file in ["carta.db", "carta.db-wal", "carta.db-shm"] {
        fs::rename(gateway.path(&format!("away-{file}")), gateway.path(file)).ok();
    }
    eventually("calls are answered again", PATIENCE, || (call(&alice).status() == 200).then_some(()));
    assert_eq!(call(&bob).status(), 403);
    gateway.rest("GET", "/secret?name=key").token(&alice).expect(404);
    gateway.rest("GET", "/user").token(&owner).expect(200);
    let metrics = gateway.rest("GET", "/-/metrics").expect(200).text();
    assert!(
        metrics.lines().any(|line| line.contains("age") && !line.starts_with('#')),
        "the snapshot's age is a metric"
    );
}

#[test]
fn a_write_says_which_revision_it_made() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let revision = |value: &str| -> u64 {
        let stored = gateway.secret(&alice, "key", value);
        assert_eq!(stored.status(), 200);
        stored.header("carta-revision").expect("a revision").parse().unwrap()
    };
    let (first, second) = (revision("1"), revision("2"));
    assert!(second > first, "{first} {second}");
}

#[test]
fn a_feed_that_does_not_reach_back_makes_the_gateway_load_everything() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    let status = |token: &str| gateway.call("GET", "/materials/mp/x").token(token).send().status();
    assert_eq!((status(&alice), status(&bob)), (200, 403));
    // What changes while it stands still is gone from the feed when it looks again.
    gateway.signal("STOP");
    gateway.run(&["grant", "bob", "materials.mp", "execute"]).done();
    gateway.run(&["revoke", "alice", "materials.mp", "execute"]).done();
    let store = rusqlite::Connection::open(gateway.path("carta.db")).unwrap();
    store.execute_batch("BEGIN; DELETE FROM changes; UPDATE meta SET floor = revision; COMMIT;").unwrap();
    gateway.signal("CONT");
    eventually("the newest state", PATIENCE, || ((status(&alice), status(&bob)) == (403, 200)).then_some(()));
    assert!(gateway.log().contains("the feed does not reach back"), "{}", gateway.log());
    gateway.run(&["grant", "alice", "materials.mp", "execute"]).done();
    eventually("later changes come by the feed", PATIENCE, || (status(&alice) == 200).then_some(()));
}

#[test]
fn without_descriptors_the_gateway_waits_says_so_once_and_then_serves_on() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .config("[log]\nfilter = \"info,carta_gateway::server=debug\"")
        .start();
    let alice = gateway.token("alice");
    let call = || gateway.call("GET", "/materials/mp/x").token(&alice).attempt().map(|answer| answer.status());
    assert_eq!(call(), Some(200));
    let process = gateway.process().to_string();
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let most = format!("--nofile={}:{}", open + 4, open + 4);
    let start = Instant::now();
    assert!(Command::new("prlimit").args(["--pid", &process, &most]).status().unwrap().success());
    // The kernel takes them all, and most of them stay with it.
    let held: Vec<_> = (0..64).map(|_| TcpStream::connect(gateway.proxy()).unwrap()).collect();
    let count = |text: &str| gateway.log().lines().filter(|line| line.contains(text)).count();
    eventually("some tries more", PATIENCE, || (count("still cannot accept") >= 5).then_some(()));
    let workers = std::thread::available_parallelism().map_or(64, usize::from);
    let tries = count("still cannot accept");
    let most = workers * (1 + usize::try_from(start.elapsed().as_millis()).unwrap() / 100);
    assert!(tries <= most, "{tries} tries, more than {most}: it spins");
    let said = count("WARN carta_gateway::server::listen: cannot accept");
    assert!((1..tries).contains(&said), "said {said} times");
    drop(held);
    eventually("calls are answered again", PATIENCE, || (call() == Some(200)).then_some(()));
}
