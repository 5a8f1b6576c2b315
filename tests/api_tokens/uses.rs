//! Uses that are counted, one by one, in the store.

use std::fs;
use std::sync::Barrier;

use serde_json::json;

use super::{call, listed, made, rest, with};
use crate::support::{Gateway, PATIENCE, Upstream, eventually};

fn left(gateway: &Gateway, bearer: &str, name: &str) -> Option<u64> {
    let tokens = listed(gateway, bearer);
    tokens.iter().find(|token| token["name"] == name).unwrap()["uses"].as_u64()
}

#[test]
fn each_request_that_passes_both_checks_costs_one_use_and_refused_ones_none() {
    let upstream = Upstream::scripted(|exchange| exchange.answer("500 Internal Server Error", &[], "no"));
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    let key = made(&gateway, &alice, "few", &["GET /materials/**", "GET /user"], &json!({"uses": 4}));
    assert_eq!(left(&gateway, &alice, "few"), Some(4));
    for (path, status) in [("/materials/mp/../x", 400), ("/other/x/y", 403)] {
        assert_eq!(call(&gateway, &key, path), status, "{path}");
    }
    assert_eq!(rest(&gateway, &key, "GET", "/secret"), 403);
    for _ in 0..3 {
        assert_eq!(rest(&gateway, &key, "GET", "/user/authenticated"), 200);
    }
    assert_eq!(left(&gateway, &alice, "few"), Some(4), "nothing was used yet");
    assert_eq!(call(&gateway, &key, "/materials/mp/x"), 500);
    assert_eq!(left(&gateway, &alice, "few"), Some(3), "whatever its result");
    assert_eq!(call(&gateway, &key, "/materials/none/x"), 404);
    assert_eq!(rest(&gateway, &key, "GET", "/user"), 200);
    assert_eq!(left(&gateway, &alice, "few"), Some(1));
    assert_eq!(call(&gateway, &key, "/materials/mp/x"), 500);
    for _ in 0..2 {
        assert_eq!(call(&gateway, &key, "/materials/mp/x"), 401, "used up");
        assert_eq!(rest(&gateway, &key, "GET", "/user/authenticated"), 401);
    }
    assert_eq!(left(&gateway, &alice, "few"), Some(0));

    let denied = made(&gateway, &bob, "denied", &["ANY /**"], &json!({"uses": 2}));
    assert_eq!(call(&gateway, &denied, "/materials/mp/x"), 403, "bob may not");
    assert_eq!(left(&gateway, &bob, "denied"), Some(1), "the token let it pass: the rest is its user's");
}

#[test]
fn of_many_requests_at_once_exactly_as_many_pass_as_uses_are_left() {
    const USES: usize = 5;
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "few", &["ANY /**"], &json!({"uses": USES}));
    let start = Barrier::new(24);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let (gateway, key, start) = (&gateway, &key, &start);
            scope.spawn(move || {
                start.wait();
                match number % 2 {
                    0 => call(gateway, key, "/materials/mp/x"),
                    _ => rest(gateway, key, "GET", "/service/materials/mp/x"),
                }
            })
        };
        let threads: Vec<_> = (0..24).map(ask).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(200), count(401)), (USES, 24 - USES), "{answers:?}");
    assert_eq!(upstream.received().len(), USES);
}

#[test]
fn uses_survive_a_restart() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "few", &["GET /user"], &json!({"uses": 2}));
    assert_eq!(rest(&gateway, &key, "GET", "/user"), 200);
    gateway.kill();
    gateway.serve();
    assert_eq!(rest(&gateway, &key, "GET", "/user"), 200);
    gateway.kill();
    gateway.serve();
    assert_eq!(rest(&gateway, &key, "GET", "/user"), 401);
}

#[test]
fn without_the_store_a_token_that_counts_is_refused_and_every_other_serves_on() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let alice = gateway.token("alice");
    let (counted, free) = (
        made(&gateway, &alice, "counted", &["ANY /**"], &json!({"uses": 100})),
        made(&gateway, &alice, "free", &["ANY /**"], &json!({})),
    );
    let files = ["carta.db", "carta.db-wal", "carta.db-shm"];
    for file in files {
        fs::rename(gateway.path(file), gateway.path(&format!("away-{file}"))).ok();
    }
    for _ in 0..2 {
        let refused = with(gateway.call("GET", "/materials/mp/x"), &counted).send();
        assert_eq!((refused.status(), refused.problem()), (503, Some("store-unavailable")));
        let refused = with(gateway.rest("GET", "/user"), &counted).send();
        assert_eq!((refused.status(), refused.problem()), (503, Some("store-unavailable")));
        assert_eq!(rest(&gateway, &counted, "GET", "/user/authenticated"), 200, "it costs nothing");
        assert_eq!(call(&gateway, &free, "/materials/mp/x"), 200);
        assert_eq!(rest(&gateway, &free, "GET", "/user"), 200);
    }
    for file in files {
        fs::rename(gateway.path(&format!("away-{file}")), gateway.path(file)).ok();
    }
    eventually("uses are counted again", PATIENCE, || {
        (call(&gateway, &counted, "/materials/mp/x") == 200).then_some(())
    });
}

#[test]
fn a_revision_is_made_by_what_is_done_to_a_token_and_not_by_its_use() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "few", &["GET /user"], &json!({"uses": 9}));
    let revision = || {
        let stored = gateway.secret(&alice, "key", "value");
        stored.header("carta-revision").unwrap().parse::<u64>().unwrap()
    };
    let before = revision();
    for _ in 0..3 {
        assert_eq!(rest(&gateway, &key, "GET", "/user"), 200);
    }
    assert_eq!(revision(), before + 1);
}
