//! Permissions of version 1, rule by rule: `docs/API.md` §6.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::Value;
use support::{Gateway, Response, Upstream};

/// alice owns the namespace `lab` and the service `lab/tool` in it.
struct Lab {
    gateway: Gateway,
    upstream: Upstream,
    alice: String,
    bob: String,
    carol: String,
    namespace: String,
    service: String,
}

impl Lab {
    fn open() -> Self {
        let upstream = Upstream::fixed("ok");
        let gateway = Gateway::builder()
            .user("alice", &[])
            .user("bob", &[])
            .user("carol", &["--role", "Analyst"])
            .config("[register]\nallow_loopback = true")
            .start();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| gateway.token(name));
        let post = |target: &str| gateway.rest("POST", target).token(&alice).body("").expect(200).json();
        post("/service/reserve/lab");
        let service = text(&post(&format!("/service/register/lab/tool?baseUrl={}", upstream.url()))["id"]);
        let namespace = gateway.rest("GET", "/service/details/lab").token(&alice).expect(200).json();
        Self { namespace: text(&namespace["id"]), service, gateway, upstream, alice, bob, carol }
    }

    fn put(&self, token: &str, resource: &str, subject: &str, query: &str) -> Response {
        self.gateway.rest("PUT", &format!("/permissions/{resource}/{subject}?{query}")).token(token).body("").send()
    }

    fn delete(&self, token: &str, resource: &str, subject: &str, query: &str) -> Response {
        self.gateway.rest("DELETE", &format!("/permissions/{resource}/{subject}?{query}")).token(token).send()
    }

    fn get(&self, token: &str, resource: &str, subject: &str, query: &str) -> Response {
        self.gateway.rest("GET", &format!("/permissions/{resource}/{subject}?{query}")).token(token).send()
    }

    fn calls(&self, token: &str) -> u16 {
        self.gateway.call("GET", "/lab/tool/x").token(token).send().status()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn sharing_with_a_namespace_is_one_change_however_many_levels_it_has() {
    let lab = Lab::open();
    let other = lab.gateway.rest("POST", "/service/reserve/other").token(&lab.bob).body("").expect(200);
    let revision = |answer: &Response| answer.header("carta-revision").unwrap().parse::<u64>().unwrap();
    let before = revision(&other);
    let share = |role: &str| lab.put(&lab.alice, &lab.service, "other", &format!("userType=NamespaceItem&role={role}"));
    for (number, role) in ["Editor", "Guest", "Guest", "User"].iter().enumerate() {
        let given = share(role);
        assert_eq!(given.status(), 200, "{}", given.text());
        let changes = [1, 2, 2, 3][number];
        assert_eq!(revision(&given), before + changes, "{role}");
    }
    let taken = lab.delete(&lab.alice, &lab.service, "other", "userType=NamespaceItem");
    assert_eq!(revision(&taken), before + 4);
}

#[test]
fn each_role_gives_its_levels_and_shows_as_its_text() {
    let lab = Lab::open();
    for (role, shown, call) in [
        ("Guest", "Read", 403),
        ("User", "Read, Execute", 200),
        ("Editor", "Read, Write, Execute", 200),
        ("None", "None", 403),
    ] {
        let entity = lab.put(&lab.alice, &lab.service, "bob", &format!("userType=User&role={role}")).json();
        assert_eq!(
            (&entity["userId"], &entity["userType"], &entity["permission"]),
            (&"bob".into(), &"User".into(), &shown.into())
        );
        let read = lab.get(&lab.bob, &lab.service, "bob", "userType=");
        assert_eq!((read.text().as_str(), read.header("content-type")), (shown, Some("text/plain; charset=utf-8")));
        assert_eq!(lab.calls(&lab.bob), call, "{role}");
    }
    let gone = lab.delete(&lab.alice, &lab.service, "bob", "").json();
    assert_eq!(gone["permission"], "None");
    assert!(!lab.upstream.received().is_empty());
}

#[test]
fn subjects_go_by_name_or_id_and_bad_questions_have_their_status() {
    let lab = Lab::open();
    let id = text(&lab.gateway.rest("GET", "/user").token(&lab.bob).expect(200).json()["id"]);
    assert_eq!(lab.put(&lab.alice, &lab.service, &id, "role=User").json()["userId"], "bob");
    for (resource, subject, query, status) in [
        (lab.service.as_str(), "nobody", "role=User", 404),
        (lab.service.as_str(), "bob", "", 400),
        (lab.service.as_str(), "bob", "role=user", 400),
        (lab.service.as_str(), "bob", "role=User&userType=Robot", 400),
        (lab.service.as_str(), "bob", "role=User&role=Guest", 400),
        (lab.service.as_str(), "lab", "role=Owner&userType=NamespaceItem", 400),
        (lab.service.as_str(), "none", "role=User&userType=UserGroup", 404),
        (lab.service.as_str(), "some", "role=User&userType=ProjectItem", 404),
        ("00000000-0000-4000-8000-000000000000", "bob", "role=User", 404),
        ("nonsense", "bob", "role=User", 404),
    ] {
        let response = lab.put(&lab.alice, resource, subject, query);
        assert_eq!(response.status(), status, "{subject} {query}: {}", response.text());
    }
}

#[test]
fn only_who_administers_a_resource_grants_rescinds_lists_and_looks_at_others() {
    let lab = Lab::open();
    lab.put(&lab.alice, &lab.service, "bob", "role=Editor");
    let list = |token: &str| {
        lab.gateway.rest("GET", &format!("/permissions/{}/users?userType=User", lab.service)).token(token).send()
    };
    for token in [&lab.bob, &lab.carol] {
        assert_eq!(lab.put(token, &lab.service, "carol", "role=User").status(), 403);
        assert_eq!(lab.delete(token, &lab.service, "bob", "").status(), 403);
        assert_eq!(lab.get(token, &lab.service, "alice", "").status(), 403);
        assert_eq!(list(token).status(), 403);
    }
    assert_eq!(lab.get(&lab.carol, &lab.service, "carol", "").text(), "None");
    assert_eq!(lab.get(&lab.alice, &lab.service, "bob", "").text(), "Read, Write, Execute");
    let entries = list(&lab.alice).json();
    let mut shown: Vec<_> =
        entries.as_array().unwrap().iter().map(|e| (text(&e["userId"]), text(&e["permission"]))).collect();
    shown.sort();
    let expected = [("alice", "Read, Write, Execute, Clone, Admin"), ("bob", "Read, Write, Execute")];
    assert_eq!(shown, expected.map(|(name, levels)| (name.to_owned(), levels.to_owned())));
}

#[test]
fn a_resource_has_exactly_one_owner_who_alone_passes_it_on() {
    let lab = Lab::open();
    lab.gateway.run(&["grant", "bob", "lab.tool", "admin"]).done();
    support::eventually("bob is an admin", support::A_SECOND_WITH_SLACK, || {
        (lab.get(&lab.bob, &lab.service, "carol", "").status() == 200).then_some(())
    });
    assert_eq!(lab.put(&lab.bob, &lab.service, "carol", "role=User").status(), 200, "an admin grants");
    assert_eq!(lab.put(&lab.bob, &lab.service, "carol", "role=Owner").status(), 403, "and does not make owners");
    assert_eq!(lab.put(&lab.bob, &lab.service, "alice", "role=None").status(), 403, "nor touches the owner");
    for role in ["", "role=Wizard"] {
        assert_eq!(lab.put(&lab.bob, &lab.service, "alice", role).status(), 403, "whatever is sent: {role}");
    }
    assert_eq!(lab.delete(&lab.bob, &lab.service, "alice", "").status(), 403);
    for response in
        [lab.put(&lab.alice, &lab.service, "alice", "role=User"), lab.delete(&lab.alice, &lab.service, "alice", "")]
    {
        assert_eq!(response.status(), 400);
        assert_eq!(response.json()["error"], "a resource needs exactly one owner");
    }
    assert_eq!(lab.put(&lab.alice, &lab.service, "alice", "role=Owner").status(), 200, "it is so already");
    let entity = lab.put(&lab.alice, &lab.service, "carol", "role=Owner").json();
    assert_eq!(entity["permission"], "Read, Write, Execute, Clone, Admin");
    assert_eq!(lab.get(&lab.alice, &lab.service, "alice", "").text(), "Read, Write, Execute, Clone, Admin");
    assert_eq!(lab.put(&lab.alice, &lab.service, "carol", "role=None").status(), 403, "the former owner is an admin");
    assert_eq!(lab.put(&lab.carol, &lab.service, "alice", "role=None").status(), 200, "the owner takes it all");
    assert_eq!(lab.get(&lab.alice, &lab.service, "alice", "").text(), "None");
}

#[test]
fn a_role_on_a_namespace_reaches_its_services_and_an_entry_on_the_service_replaces_it() {
    let lab = Lab::open();
    lab.put(&lab.alice, &lab.namespace, "bob", "role=User");
    assert_eq!(lab.calls(&lab.bob), 200);
    assert_eq!(lab.get(&lab.alice, &lab.service, "bob", "").text(), "Read, Execute");
    lab.put(&lab.alice, &lab.service, "bob", "role=None");
    assert_eq!(lab.calls(&lab.bob), 403);
    lab.delete(&lab.alice, &lab.service, "bob", "");
    assert_eq!(lab.calls(&lab.bob), 200, "what was inherited is back");
}

#[test]
fn who_holds_a_level_on_a_shared_namespace_holds_it_there_level_by_level() {
    let lab = Lab::open();
    lab.gateway.rest("POST", "/service/reserve/team").token(&lab.alice).body("").expect(200);
    let team = text(&lab.gateway.rest("GET", "/service/details/team").token(&lab.alice).expect(200).json()["id"]);
    lab.put(&lab.alice, &team, "bob", "role=User");
    lab.put(&lab.alice, &team, "carol", "role=Guest");
    let entity = lab.put(&lab.alice, &lab.service, "team", "userType=NamespaceItem&role=Editor").json();
    assert_eq!((&entity["userId"], &entity["permission"]), (&"team".into(), &"Read, Write, Execute".into()));
    assert_eq!((lab.calls(&lab.bob), lab.calls(&lab.carol)), (200, 403));
    assert_eq!(lab.get(&lab.bob, &lab.service, "bob", "").text(), "Read, Execute");
    assert_eq!(lab.get(&lab.carol, &lab.service, "carol", "").text(), "Read");
    let listed = format!("/permissions/{}/users?userType=NamespaceItem", lab.service);
    let listed = lab.gateway.rest("GET", &listed).token(&lab.alice).expect(200).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["permission"]), (1, &"Read, Write, Execute".into()));
    lab.put(&lab.alice, &lab.service, "team", "userType=NamespaceItem&role=Guest");
    assert_eq!(lab.calls(&lab.bob), 403, "a narrower role takes levels away");
    lab.put(&lab.alice, &lab.service, "team", "userType=NamespaceItem&role=None");
    assert_eq!(lab.get(&lab.carol, &lab.service, "carol", "").text(), "None");
    // What is shared on the namespace reaches the service, until the service has an entry of its own.
    lab.put(&lab.alice, &lab.namespace, "team", "userType=NamespaceItem&role=Editor");
    assert_eq!(lab.get(&lab.bob, &lab.service, "bob", "").text(), "Read, Execute");
    lab.put(&lab.alice, &lab.service, "team", "userType=NamespaceItem&role=Guest");
    assert_eq!(lab.get(&lab.bob, &lab.service, "bob", "").text(), "Read");
    assert_eq!(lab.get(&lab.alice, &lab.service, "team", "userType=NamespaceItem").text(), "Read");
    assert_eq!(lab.get(&lab.bob, &lab.namespace, "bob", "").text(), "Read, Execute");
    lab.delete(&lab.alice, &lab.service, "team", "userType=NamespaceItem");
    assert_eq!(lab.get(&lab.bob, &lab.service, "bob", "").text(), "Read, Execute");
}
