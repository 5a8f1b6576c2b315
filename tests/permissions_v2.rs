//! Permissions of version 2, rule by rule, and version 1 beside it: `docs/API.md` §6, §7.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::who::{done, names, text};
use support::{Gateway, Response, Upstream, Who};

/// alice owns everything here, erin runs the group `team`, olga is the platform's administrator.
struct House {
    gateway: Gateway,
    upstream: Upstream,
}

impl House {
    fn open() -> Self {
        let upstream = Upstream::fixed("ok");
        let mut builder = Gateway::builder().config("[register]\nallow_loopback = true");
        for name in ["alice", "bob", "carol", "erin"] {
            builder = builder.user(name, &[]);
        }
        Self { gateway: builder.start(), upstream }
    }

    fn who(&self, name: &str) -> Who<'_> {
        Who::of(&self.gateway, name)
    }
}

impl Who<'_> {
    fn set(&self, from: &str, to: &str, set: &Value) -> Response {
        self.send("PUT", &format!("/v2/permissions/{from}/{to}"), set)
    }

    fn direct(&self, from: &str, to: &str) -> Value {
        done(self.get(&format!("/v2/permissions/{from}/{to}/direct")))
    }

    /// The flags that are true, in the order that the contract names them.
    fn flags(&self, from: &str, to: &str) -> Vec<&'static str> {
        of_flags(&done(self.get(&format!("/v2/permissions/{from}/{to}"))))
    }

    fn names(&self, target: &str) -> Vec<String> {
        names(&done(self.get(target)))
    }

    fn node(&self, name: &str) -> String {
        let body = json!({"name": name, "labels": ["Dataset"]});
        text(&done(self.send("POST", "/v2/resource/generic", &body))["id"])
    }

    fn group(&self, name: &str) -> String {
        assert_eq!(self.ask("POST", &format!("/user/group/{name}")).status(), 200);
        // Whoever runs a group holds every flag on what stands for it.
        let list = done(self.get("/v2/permissions/self/resources/UserGroup"));
        let group = list.as_array().unwrap().iter().find(|group| group["name"] == name).unwrap();
        assert_eq!(of_flags(&group["permission"]), ALL);
        text(&group["id"])
    }

    fn join(&self, group: &str, user: &str) {
        assert_eq!(self.ask("POST", &format!("/user/group/{group}/{user}")).status(), 200);
    }
}

const ALL: [&str; 5] = ["execute", "write", "read", "admin", "owner"];

fn of_flags(flags: &Value) -> Vec<&'static str> {
    assert_eq!(flags.as_object().unwrap().len(), 5, "{flags}");
    ALL.into_iter().filter(|flag| flags[flag].as_bool().unwrap()).collect()
}

fn flags(set: &[&str]) -> Value {
    ALL.iter()
        .map(|flag| ((*flag).to_owned(), Value::from(set.contains(flag))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn tiers(user: &[&str], private: &[&str], shared: &[&str]) -> Value {
    json!({"user": flags(user), "private": flags(private), "shared": flags(shared)})
}

#[test]
fn what_was_set_is_told_exactly_and_an_empty_set_takes_it_away() {
    let house = House::open();
    let [alice, bob] = ["alice", "bob"].map(|name| house.who(name));
    let (thing, via, group) = (alice.node("thing"), alice.node("via"), alice.group("team"));
    let nothing = tiers(&[], &[], &[]);
    for from in [&bob.id, &group, &via] {
        for set in [
            tiers(&["read"], &[], &[]),
            tiers(&["read", "write"], &["admin"], &["execute"]),
            tiers(&[], &["admin", "read"], &["admin"]),
            tiers(&["admin"], &[], &["admin", "read"]),
            tiers(&[], &[], &["write"]),
            tiers(&[], &["execute"], &[]),
            tiers(&["execute"], &["execute"], &["execute"]),
        ] {
            assert_eq!(done(alice.set(from, &thing, &set)), set);
            assert_eq!(alice.direct(from, &thing), set);
        }
        assert_eq!(done(alice.set(from, &thing, &json!({}))), nothing);
        assert_eq!(alice.direct(from, &thing), nothing);
        let set = json!({"shared": {"read": true}, "more": 1});
        assert_eq!(done(alice.set(from, &thing, &set)), tiers(&[], &[], &["read"]), "what is missing is false");
        assert_eq!(alice.ask("DELETE", &format!("/v2/permissions/{from}/{thing}")).status(), 200);
        assert_eq!(alice.direct(from, &thing), nothing);
        let accessors = alice.names(&format!("/v2/permissions/{thing}/access/User"));
        assert_eq!(accessors, ["alice"], "only the owner is left");
    }
}

#[test]
fn both_versions_see_the_same_entries() {
    let house = House::open();
    let [alice, bob] = ["alice", "bob"].map(|name| house.who(name));
    let (thing, via, group) = (alice.node("thing"), alice.node("via"), alice.group("team"));
    let role = |subject: &str, kind: &str, role: &str| {
        done(alice.ask("PUT", &format!("/permissions/{thing}/{subject}?userType={kind}&role={role}")))
    };
    role("bob", "User", "Editor");
    assert_eq!(alice.direct(&bob.id, &thing), tiers(&["execute", "write", "read"], &[], &[]));
    role("team", "UserGroup", "User");
    assert_eq!(alice.direct(&group, &thing), tiers(&["execute", "read"], &[], &["execute", "read"]));
    done(alice.set(&via, &thing, &tiers(&["read"], &["admin"], &["execute"])));
    done(alice.set(&group, &thing, &tiers(&["read"], &[], &["execute"])));
    let listed = |kind: &str| done(alice.get(&format!("/permissions/{thing}/users?userType={kind}")));
    let shown = |list: &Value| {
        let rows = list.as_array().unwrap().iter();
        rows.map(|row| format!("{} {}", text(&row["userId"]), text(&row["permission"]))).collect::<Vec<_>>()
    };
    assert_eq!(shown(&listed("User")), ["alice Read, Write, Execute, Clone, Admin", "bob Read, Write, Execute"]);
    assert_eq!(shown(&listed("UserGroup")), ["team Read"], "version 1 reads the tier of the group itself");
    // A role replaces all tiers; a refusal stays until something is given, or it is taken away.
    done(alice.set(&bob.id, &thing, &tiers(&["read"], &["admin"], &["execute"])));
    role("bob", "User", "None");
    assert_eq!(alice.direct(&bob.id, &thing), tiers(&[], &[], &[]));
    done(alice.set(&bob.id, &thing, &json!({})));
    assert_eq!(shown(&listed("User")), ["alice Read, Write, Execute, Clone, Admin", "bob None"]);
    done(alice.set(&bob.id, &thing, &tiers(&["read"], &[], &[])));
    assert_eq!(shown(&listed("User")), ["alice Read, Write, Execute, Clone, Admin", "bob Read"]);
    role("bob", "User", "None");
    assert_eq!(alice.ask("DELETE", &format!("/v2/permissions/{}/{thing}", bob.id)).status(), 200);
    assert_eq!(shown(&listed("User")), ["alice Read, Write, Execute, Clone, Admin"]);
}

#[test]
fn each_tier_reaches_whom_it_is_for() {
    let house = House::open();
    let [alice, bob, carol, erin] = ["alice", "bob", "carol", "erin"].map(|name| house.who(name));
    let (thing, via) = (alice.node("thing"), alice.node("via"));
    // Of what is shared, who uses the node holds what they hold there; what is private, who administers it.
    done(alice.set(&via, &thing, &tiers(&["write"], &["execute"], &["read", "write"])));
    done(alice.set(&bob.id, &via, &tiers(&["read"], &[], &[])));
    done(alice.set(&carol.id, &via, &tiers(&["admin"], &[], &[])));
    assert_eq!(bob.flags("self", &thing), ["read"]);
    assert_eq!(carol.flags("self", &thing), ["execute"]);
    assert_eq!(alice.flags(&via, &thing), ["write"], "a node itself has the tier `user`");
    assert!(erin.flags("self", &thing).is_empty());
    // A group passes what is shared on to its members, and what is private to who runs it.
    let group = erin.group("team");
    erin.join("team", "bob");
    done(alice.set(&group, &thing, &tiers(&["admin"], &["write"], &["execute"])));
    assert_eq!(bob.flags("self", &thing), ["execute", "read"]);
    assert_eq!(erin.flags("self", &thing), ["write"]);
    assert_eq!(alice.flags(&group, &thing), ["admin"]);
    // Somebody who lets others use what stands for them passes on what is shared with them, to them alone.
    let other = alice.node("other");
    done(alice.set(&bob.id, &other, &tiers(&["read"], &["admin"], &["read", "write"])));
    assert_eq!(bob.flags("self", &other), ["read"], "nothing of the other tiers is theirs");
    done(bob.set(&carol.id, "self", &tiers(&["read"], &[], &[])));
    done(bob.set(&erin.id, "self", &tiers(&["admin"], &[], &[])));
    assert_eq!((carol.flags("self", &other), erin.flags("self", &other)), (vec!["read"], vec!["admin"]));
    assert_eq!(erin.set(&carol.id, &bob.id, &tiers(&["write"], &[], &[])).status(), 200, "an administrator of bob's");
    assert_eq!(carol.flags("self", &other), ["write"]);
    assert_eq!(carol.set(&carol.id, &bob.id, &tiers(&["admin"], &[], &[])).status(), 403);
}

#[test]
fn ways_of_several_steps_and_circles_are_followed_and_end() {
    let house = House::open();
    let [alice, bob] = ["alice", "bob"].map(|name| house.who(name));
    let chain: Vec<String> = (0..12).map(|number| alice.node(&format!("link-{number}"))).collect();
    for pair in chain.windows(2) {
        done(alice.set(&pair[0], &pair[1], &tiers(&[], &[], &["read", "execute"])));
    }
    done(alice.set(&chain[11], &chain[0], &tiers(&[], &[], &["read", "execute", "admin"])));
    assert!(bob.flags("self", &chain[11]).is_empty(), "a circle holds nothing by itself");
    done(alice.set(&bob.id, &chain[0], &tiers(&["read"], &[], &[])));
    for link in &chain {
        assert_eq!(bob.flags("self", link), ["read"]);
    }
    assert_eq!(bob.names("/v2/permissions/self/resources/Dataset").len(), 12);
}

#[test]
fn a_refusal_beats_what_comes_from_elsewhere_and_a_namespace_reaches_its_services() {
    let house = House::open();
    let [alice, bob] = ["alice", "bob"].map(|name| house.who(name));
    assert_eq!(alice.ask("POST", "/service/reserve/lab").status(), 200);
    let url = house.upstream.url();
    let service = text(&done(alice.ask("POST", &format!("/service/register/lab/tool?baseUrl={url}")))["id"]);
    let namespace = text(&done(alice.get("/service/details/lab"))["id"]);
    let (group, via) = (alice.group("team"), alice.node("via"));
    alice.join("team", "bob");
    let call = || house.gateway.call("GET", "/lab/tool/x").token(&bob.token).send().status();
    assert_eq!(call(), 403);
    done(alice.set(&group, &namespace, &tiers(&["read"], &[], &["read", "execute"])));
    assert_eq!((bob.flags("self", &service), call()), (vec!["execute", "read"], 200));
    assert_eq!(alice.flags(&group, &service), ["read"], "the group itself, from the namespace");
    // An entry on the service replaces what its subject has on the namespace.
    done(alice.set(&group, &service, &tiers(&["read"], &[], &["read"])));
    assert_eq!((bob.flags("self", &service), call()), (vec!["read"], 403));
    done(alice.set(&via, &namespace, &tiers(&[], &[], &["read", "execute", "write"])));
    done(alice.set(&bob.id, &via, &tiers(&["execute", "write"], &[], &[])));
    assert_eq!((bob.flags("self", &service), call()), (vec!["execute", "write", "read"], 200));
    done(alice.set(&via, &service, &tiers(&[], &[], &["execute"])));
    assert_eq!(bob.flags("self", &service), ["execute", "read"], "so does an entry of another node");
    let refuse = format!("/permissions/{service}/bob?role=None");
    done(alice.ask("PUT", &refuse));
    assert_eq!((bob.flags("self", &service).len(), call()), (0, 403));
    done(alice.set(&bob.id, &service, &json!({})));
    assert_eq!(call(), 403, "an empty set leaves the refusal");
    done(alice.ask("DELETE", &format!("/v2/permissions/{}/{service}", bob.id)));
    assert_eq!(call(), 200);
    done(alice.ask("PUT", &format!("/permissions/{service}/team?userType=UserGroup&role=None")));
    assert_eq!(call(), 403, "so does a group's");
    done(alice.set(&group, &service, &json!({})));
    assert_eq!(call(), 403);
    done(alice.set(&group, &service, &tiers(&[], &[], &["execute"])));
    assert_eq!(call(), 200);
}

#[test]
fn only_the_owner_moves_the_ownership_and_nobody_else_touches_it() {
    let house = House::open();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| house.who(name));
    let (thing, group) = (alice.node("thing"), alice.group("team"));
    done(alice.set(&bob.id, &thing, &tiers(&["admin"], &[], &[])));
    for (who, from, set, status) in [
        (&carol, &carol.id, tiers(&["read"], &[], &[]), 403),
        (&bob, &carol.id, tiers(&["read"], &[], &[]), 200),
        (&bob, &carol.id, tiers(&ALL, &[], &[]), 403),
        (&bob, &alice.id, tiers(&["read"], &[], &[]), 403),
        (&bob, &alice.id, json!({"user": 1}), 403),
        (&alice, &alice.id, tiers(&["read"], &[], &[]), 400),
        (&alice, &group, tiers(&ALL, &[], &[]), 400),
        (&alice, &bob.id, json!({"user": {"read": 1}}), 400),
        (&alice, &bob.id, json!({"shared": {"owner": null}}), 400),
        (&alice, &bob.id, json!({"user": []}), 400),
    ] {
        let response = who.set(from, &thing, &set);
        assert_eq!(response.status(), status, "{set}: {}", response.text());
    }
    assert_eq!(bob.ask("DELETE", &format!("/v2/permissions/{}/{thing}", alice.id)).status(), 403);
    assert_eq!(alice.ask("DELETE", &format!("/v2/permissions/self/{thing}")).status(), 400);
    assert_eq!(alice.direct("self", &thing), tiers(&ALL, &[], &[]));
    // `owner` is never passed on.
    let kept = done(alice.set(&bob.id, &thing, &json!({"user": {"read": true}, "shared": {"owner": true}})));
    assert_eq!(kept, tiers(&["read"], &[], &[]));
    // The owner passes something on, and stays the owner.
    assert_eq!(done(alice.set("self", &thing, &tiers(&["owner"], &[], &["read"]))), tiers(&ALL, &[], &["read"]));
    let moved = done(alice.set(&carol.id, &thing, &tiers(&["owner"], &["read"], &[])));
    assert_eq!(moved, tiers(&ALL, &["read"], &[]));
    assert_eq!((carol.flags("self", &thing), alice.flags("self", &thing)), (ALL.to_vec(), ALL[..4].to_vec()));
    assert_eq!(alice.set(&carol.id, &thing, &json!({})).status(), 403);
    // What stands for somebody, or for a group, is nobody else's.
    assert_eq!(alice.set(&bob.id, "self", &tiers(&ALL, &[], &[])).status(), 403);
    assert_eq!(alice.set(&bob.id, &group, &tiers(&ALL, &[], &[])).status(), 403);
}

#[test]
fn who_may_look_and_what_is_not_there() {
    let house = House::open();
    let [alice, bob, olga] = ["alice", "bob", OWNER].map(|name| house.who(name));
    let (thing, via) = (alice.node("thing"), alice.node("via"));
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (who, target, status) in [
        (&bob, format!("/v2/permissions/self/{thing}"), 200),
        (&bob, format!("/v2/permissions/{}/{thing}/direct", bob.id), 200),
        (&bob, format!("/v2/permissions/{}/{thing}", alice.id), 403),
        (&bob, format!("/v2/permissions/{via}/{thing}/direct"), 403),
        (&olga, format!("/v2/permissions/{}/{thing}", bob.id), 403),
        (&bob, format!("/v2/permissions/{thing}/access/User"), 403),
        (&olga, format!("/v2/permissions/{thing}/access/User"), 403),
        (&bob, format!("/v2/permissions/{}/labels", alice.id), 403),
        (&bob, format!("/v2/permissions/{via}/resources/Dataset"), 403),
        (&alice, format!("/v2/permissions/{via}/resources/Dataset"), 200),
        (&olga, format!("/v2/permissions/{}/labels", alice.id), 200),
        (&olga, format!("/v2/permissions/{}/resources/Dataset", alice.id), 200),
        (&bob, "/v2/permissions/self/labels".to_owned(), 200),
        (&bob, format!("/v2/permissions/{nobody}/{thing}"), 404),
        (&bob, format!("/v2/permissions/self/{nobody}"), 404),
        (&bob, format!("/v2/permissions/{nobody}/labels"), 404),
        (&bob, "/v2/permissions/alice/labels".to_owned(), 404),
        (&bob, "/v2/permissions/self/resources/Unheard".to_owned(), 200),
    ] {
        let response = who.get(&target);
        assert_eq!(response.status(), status, "{target}: {}", response.text());
    }
    assert_eq!(house.gateway.rest("GET", &format!("/v2/permissions/self/{thing}")).send().status(), 401);
    assert_eq!(bob.get("/v2/permissions/self/resources/Unheard").json(), json!([]));
    let refused = bob.set(&bob.id, &thing, &tiers(&["read"], &[], &[])).json();
    assert_eq!((&refused["owner"], &refused["level"]), (&"alice".into(), &"admin".into()));
}

#[test]
fn lists_have_what_a_flag_is_held_on_and_who_was_given_something() {
    let house = House::open();
    let [alice, bob] = ["alice", "bob"].map(|name| house.who(name));
    assert_eq!(alice.ask("POST", "/service/reserve/lab").status(), 200);
    let url = house.upstream.url();
    done(alice.ask("POST", &format!("/service/register/lab/tool?baseUrl={url}")));
    let namespace = text(&done(alice.get("/service/details/lab"))["id"]);
    let (one, two) = (alice.node("one"), alice.node("two"));
    let group = alice.group("team");
    alice.join("team", "bob");
    assert_eq!(done(bob.get("/v2/permissions/self/labels")), json!([]));
    assert_eq!(done(alice.get("/v2/permissions/self/labels")), json!(["Dataset", "Namespace", "Service", "UserGroup"]));
    done(alice.set(&group, &one, &tiers(&["read"], &[], &["read"])));
    done(alice.set(&bob.id, &namespace, &tiers(&["execute"], &[], &[])));
    assert_eq!(done(bob.get("/v2/permissions/self/labels")), json!(["Dataset", "Namespace", "Service"]));
    assert_eq!(bob.names("/v2/permissions/self/resources/Dataset"), ["one"]);
    assert_eq!(bob.names("/v2/permissions/self/resources/Service"), ["tool"]);
    let rows = done(bob.get("/v2/permissions/self/resources/Namespace"));
    assert_eq!(rows, json!([{"id": namespace, "name": "lab", "permission": flags(&["execute"])}]));
    assert_eq!(alice.names(&format!("/v2/permissions/{group}/resources/Dataset")), ["one"]);
    done(bob.set(&alice.id, "self", &tiers(&["read"], &[], &[])));
    assert_eq!(alice.names("/v2/permissions/self/resources/User"), ["bob"]);
    done(alice.set(&two, &one, &tiers(&[], &["admin"], &["read"])));
    assert_eq!(alice.names(&format!("/v2/permissions/{one}/access/UserGroup")), ["team"]);
    assert_eq!(alice.names(&format!("/v2/permissions/{one}/access/User")), ["alice"]);
    let rows = done(alice.get(&format!("/v2/permissions/{one}/access/Dataset")));
    assert_eq!(rows, json!([{"id": two, "name": "two", "permission": tiers(&[], &["admin"], &["read"])}]));
}
