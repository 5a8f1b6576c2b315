//! `kill -9` of a gateway that is writing: what it answered as done is there when it comes back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::gateway::OWNER;
use support::{Gateway, Upstream};

/// How often the gateway is killed.
const ROUNDS: usize = 50;

/// Stands for a secret that is not there.
const NOTHING: &str = "";

#[test]
fn nothing_that_was_answered_as_done_is_lost_when_a_writing_gateway_is_killed() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let tokens: HashMap<&str, String> = ["alice", "bob", OWNER].map(|name| (name, gateway.token(name))).into();
    let details = gateway.rest("GET", "/service/details/materials/mp").token(&tokens[OWNER]).expect(200).json();
    let id = details["id"].as_str().unwrap().to_owned();
    // The last value that was answered as done, and the ones that were on their way since.
    let secrets: Mutex<HashMap<String, Vec<String>>> = Mutex::default();
    let levels: Mutex<Vec<&str>> = Mutex::new(vec!["None"]);
    let written = AtomicUsize::new(0);

    for round in 0..ROUNDS {
        let enough = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for name in ["alice", "bob"] {
                let (gateway, token, secrets, enough, written) = (&gateway, &tokens[name], &secrets, &enough, &written);
                scope.spawn(move || {
                    for number in 0.. {
                        let key = format!("{name}/k{}", number % 5);
                        let value = format!("{name}-{round}-{number}");
                        secrets
                            .lock()
                            .unwrap()
                            .entry(key.clone())
                            .or_insert_with(|| vec![NOTHING.to_owned()])
                            .push(value.clone());
                        if !put_secret(gateway, token, &format!("k{}", number % 5), &value) {
                            return;
                        }
                        secrets.lock().unwrap().insert(key, vec![value]);
                        enough.fetch_add(1, Ordering::SeqCst);
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let (gateway, token, levels, enough, id) = (&gateway, &tokens[OWNER], &levels, &enough, &id);
            scope.spawn(move || {
                for role in ["User", "Guest", "Editor", "None"].into_iter().cycle() {
                    levels.lock().unwrap().push(role);
                    let ask = gateway.rest("PUT", &format!("/permissions/{id}/bob?userType=User&role={role}"));
                    let Some(response) = ask.token(token).body("").attempt() else { return };
                    if response.status() != 200 {
                        return;
                    }
                    *levels.lock().unwrap() = vec![role];
                    enough.fetch_add(1, Ordering::SeqCst);
                }
            });
            // Another moment each round: after some writes, in the middle of others.
            while enough.load(Ordering::SeqCst) < 3 + round % 7 {
                std::thread::yield_now();
            }
            gateway.kill();
        });
        gateway.serve();
        for (key, possible) in secrets.lock().unwrap().iter_mut() {
            let (name, secret) = key.split_once('/').unwrap();
            let read = gateway.rest("GET", &format!("/secret?name={secret}")).token(&tokens[name]).send();
            let found = if read.status() == 200 { read.text() } else { NOTHING.to_owned() };
            assert!(possible.contains(&found), "round {round}: {key} is `{found}`, not one of {possible:?}");
            *possible = vec![found];
        }
        let shown =
            gateway.rest("GET", &format!("/permissions/{id}/bob?userType=User")).token(&tokens[OWNER]).expect(200);
        let mut possible = levels.lock().unwrap();
        let matching: Vec<&str> = possible.iter().copied().filter(|role| text_of(role) == shown.text()).collect();
        assert!(!matching.is_empty(), "round {round}: bob holds `{}`, not one of {possible:?}", shown.text());
        *possible = vec![matching[0]];
    }
    assert!(written.load(Ordering::SeqCst) > ROUNDS, "the gateway was writing");
    gateway.run(&["check"]).done();
}

fn put_secret(gateway: &Gateway, token: &str, name: &str, value: &str) -> bool {
    let ask = gateway.rest("PUT", "/secret").token(token).header(&format!("secret-{name}"), value).body("");
    ask.attempt().is_some_and(|response| response.status() == 200)
}

fn text_of(role: &str) -> &'static str {
    match role {
        "User" => "Read, Execute",
        "Guest" => "Read",
        "Editor" => "Read, Write, Execute",
        _ => "None",
    }
}
