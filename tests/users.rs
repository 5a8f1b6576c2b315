//! Users and groups, rule by rule: `docs/API.md` §4 and §5.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::login::{id_token, log_in};
use support::{Gateway, Response, Upstream};

struct People {
    gateway: Gateway,
    olga: String,
    alice: String,
    bob: String,
}

impl People {
    fn meet() -> Self {
        let gateway = Gateway::builder().user("alice", &["--email", "Alice@Example.org"]).user("bob", &[]).start();
        let [olga, alice, bob] = [OWNER, "alice", "bob"].map(|name| gateway.token(name));
        Self { gateway, olga, alice, bob }
    }

    fn send(&self, method: &str, target: &str, token: &str) -> Response {
        self.gateway.rest(method, target).token(token).body("").send()
    }

    fn create(&self, token: &str, user: &Value) -> Response {
        self.gateway.rest("POST", "/user").token(token).body(user.to_string()).send()
    }

    fn names(&self, target: &str) -> Vec<String> {
        let response = self.gateway.rest("GET", target).token(&self.bob).send();
        assert_eq!(response.status(), 200, "{target}: {}", response.text());
        names(&response.json())
    }
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
}

/// The status, and whether the body has the phrase that clients look for.
fn says(response: &Response, status: u16, phrase: &str) {
    assert_eq!(response.status(), status, "{}", response.text());
    assert!(response.text().to_lowercase().contains(phrase), "{}", response.text());
}

#[test]
fn an_administrator_makes_accounts_and_what_is_not_known_is_left_out() {
    let people = People::meet();
    let made = people.create(&people.olga, &json!({"name": "carol", "email": "c@x.org", "organization": "Lab"}));
    assert_eq!(made.status(), 200, "{}", made.text());
    assert!(made.header("carta-revision").is_some());
    let carol = made.json();
    let id = carol["id"].as_str().unwrap();
    assert_eq!(carol, json!({"id": id, "name": "carol", "email": "c@x.org", "organization": "Lab", "groups": []}));
    says(&people.create(&people.olga, &json!({"name": "carol"})), 400, "user already exists");
    assert_eq!(people.create(&people.alice, &json!({"name": "dave"})).status(), 403);
    assert_eq!(people.create(&people.alice, &json!([])).status(), 403, "who may not is told so first");
    people.gateway.rest("POST", "/user").body("{}").expect(401);
    for wrong in [
        json!({}),
        json!({"name": ""}),
        json!({"name": 7}),
        json!({"name": "a b"}),
        json!({"name": "everyone"}),
        json!({"name": "eve", "email": "nobody"}),
        json!({"name": "eve", "firstName": ["x"]}),
        json!({"name": "eve", "lastName": "x".repeat(300)}),
        json!({"name": "eve", "password": "weak"}),
        json!({"name": "eve", "password": 12}),
        json!({"name": "eve", "temporary": true}),
        json!({"name": "eve", "password": "Correct-Horse-9", "temporary": "yes"}),
        json!("eve"),
    ] {
        let refused = people.create(&people.olga, &wrong);
        assert_eq!(refused.status(), 400, "{wrong}");
        assert!(!refused.text().contains("already exists"), "{wrong}");
    }
    assert!(people.names("/user/users?attributeName=UserName&attributeValue=eve&attributeFilter==").is_empty());
}

#[test]
fn who_is_no_administrator_any_more_when_the_body_is_there_makes_no_account() {
    let people = People::meet();
    people.gateway.run(&["user", "add", "root", "--admin"]).done();
    let root = people.gateway.token("root");
    let body = json!({"name": "carol"}).to_string();
    let begin = || {
        let ask = people.gateway.rest("POST", "/user").token(&root).header("Expect", "100-continue");
        ask.header("Content-Length", &body.len().to_string()).open()
    };
    // The gateway asks for the body once it has judged who sends it.
    let mut wire = support::eventually("root is known as an administrator", support::PATIENCE, || {
        let mut wire = begin();
        (wire.head().status() == 100).then_some(wire)
    });
    people.gateway.run(&["user", "admin", "root", "off"]).done();
    support::eventually("root is known as none", support::PATIENCE, || (begin().head().status() == 403).then_some(()));
    assert_eq!(wire.send(&body).response().status(), 403);
    assert!(people.names("/user/users?attributeName=UserName&attributeValue=carol&attributeFilter=%3D").is_empty());
}

#[test]
fn a_new_account_logs_in_by_the_password_it_was_given_and_not_without_one() {
    let people = People::meet();
    let create = |user: Value| assert_eq!(people.create(&people.olga, &user).status(), 200, "{user}");
    create(json!({"name": "carol", "password": "Correct-Horse-9", "firstName": null}));
    create(json!({"name": "dave", "password": "Correct-Horse-9", "temporary": true}));
    create(json!({"name": "erin"}));
    id_token(&log_in(&people.gateway, "carol", "Correct-Horse-9"));
    let asked = log_in(&people.gateway, "dave", "Correct-Horse-9");
    assert_eq!(asked.json()["ChallengeName"], "NEW_PASSWORD_REQUIRED");
    assert_eq!(log_in(&people.gateway, "erin", "Correct-Horse-9").status(), 400);
}

#[test]
fn anybody_finds_users_by_one_attribute_in_the_spelling_of_either_client() {
    let people = People::meet();
    let user = json!({"name": "alan", "email": "alan@x.org", "firstName": "Alan", "lastName": "T*"});
    let id = people.create(&people.olga, &user).json()["id"].as_str().unwrap().to_owned();
    let search = |query: &str| people.names(&format!("/user/users?{query}"));
    let find = |name: &str, value: &str, filter: &str| {
        search(&format!("attributeName={name}&attributeValue={value}&attributeFilter={filter}"))
    };
    let everybody = ["alan", "alice", "bob", OWNER];
    for (name, value, filter, found) in [
        ("UserName", "alice", "=", &["alice"][..]),
        ("1", "alice", "+%3D+", &["alice"]),
        ("UserName", "Alice", "=", &[]),
        ("UserName", "al", "%5E%3D", &["alan", "alice"]),
        ("1", "al", "+%5E%3D+", &["alan", "alice"]),
        ("UserName", "l", "^=", &[]),
        ("UserName", "*", "^=", &everybody),
        ("UserName", "*", "=", &[]),
        ("UserName", "a*", "^=", &[]),
        ("UserName", ".*", "^=", &[]),
        ("Email", "alice@example.org", "=", &["alice"]),
        ("2", "ALICE@", "^=", &["alice"]),
        ("FirstName", "Alan", "=", &["alan"]),
        ("3", "alan", "=", &[]),
        ("LastName", "T*", "=", &["alan"]),
        ("4", "*", "^=", &everybody),
        ("UserId", &id, "=", &["alan"]),
        ("0", &id[..9], "^=", &["alan"]),
    ] {
        assert_eq!(find(name, value, filter), found, "{name} {filter} {value}");
    }
    assert_eq!(search(""), everybody);
    assert_eq!(search("attributeName=&attributeValue=&attributeFilter="), everybody);
    for wrong in [
        "attributeName=UserName",
        "attributeName=UserName&attributeValue=&attributeFilter==",
        "attributeName=Nonsense&attributeValue=a&attributeFilter==",
        "attributeName=5&attributeValue=a&attributeFilter==",
        "attributeName=UserName&attributeValue=a&attributeFilter=~",
        "limit=0",
        "limit=x",
        "offset=-1",
        "offset=9223372036854775808",
    ] {
        let target = format!("/user/users?{wrong}");
        people.gateway.rest("GET", &target).token(&people.bob).expect(400);
    }
    people.gateway.rest("GET", "/user/users").expect(401);
}

#[test]
fn a_long_list_comes_in_pages_to_who_asks_for_them() {
    let people = People::meet();
    let mut target = "/user/users?limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = people.gateway.rest("GET", &target).token(&people.bob).expect(200);
        seen.extend(names(&page.json()));
        let Some(link) = page.header("link") else { break };
        target = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(seen, ["alice", "bob", OWNER]);
    assert!(people.names("/user/users?offset=9").is_empty());
}

#[test]
fn who_makes_a_group_runs_it_and_is_not_in_it() {
    let people = People::meet();
    let send = |method: &str, target: &str, token: &str| people.send(method, target, token);
    let (alice, bob) = (&people.alice, &people.bob);
    says(&send("POST", "/user/group/Lab:Crystals/bob", alice), 400, "not found");
    assert_eq!(send("GET", "/user/group/Lab:Crystals", alice).status(), 404);
    assert_eq!(send("POST", "/user/group/Lab:Crystals", alice).status(), 200);
    says(&send("POST", "/user/group/Lab:Crystals", bob), 400, "duplicate record");
    assert_eq!(send("POST", "/user/group/Crystals", bob).status(), 200, "another group");
    assert!(people.names("/user/group/Lab:Crystals").is_empty());

    assert_eq!(send("POST", "/user/group/Lab:Crystals/bob", bob).status(), 403);
    for _ in 0..2 {
        assert_eq!(send("POST", "/user/group/Lab:Crystals/bob", alice).status(), 200);
    }
    assert_eq!(people.names("/user/group/Lab:Crystals"), ["bob"]);
    assert!(people.names("/user/group/Crystals").is_empty());
    let me = people.gateway.rest("GET", "/user").token(bob).expect(200).json();
    assert_eq!(me["groups"], json!(["Lab:Crystals"]));
    says(&send("POST", "/user/group/Lab:Crystals/zoe", alice), 404, "unknown user");
    assert_eq!(send("POST", "/user/group/Lab:Crystals/alice", &people.olga).status(), 200, "administrators run all");
    assert_eq!(send("DELETE", "/user/group/Lab:Crystals/bob", bob).status(), 403);
    assert_eq!(send("DELETE", "/user/group/Lab:Crystals/bob", alice).status(), 200);
    assert_eq!(people.names("/user/group/Lab:Crystals"), ["alice"]);
    assert_eq!(send("DELETE", "/user/group/None/bob", alice).status(), 404);
    for wrong in ["a,b", "a%2Fb", "a:b:c", ":", "a:", "%20", "a%0a"] {
        assert_eq!(send("POST", &format!("/user/group/{wrong}"), alice).status(), 400, "{wrong}");
    }
    // A name that cannot be taken is not one that is: clients look for words in the whole body.
    let taken = ["duplicate", "already exists"];
    let token = json!({"name": "my duplicate token", "allowedEndpoints": ["GET /**"]}).to_string();
    for refused in [
        send("POST", "/user/group/Duplicate%20record,", alice),
        send("POST", "/service/reserve/duplicate%20record", alice),
        people.create(&people.olga, &json!({"name": "user already exists"})),
        people.gateway.rest("POST", "/v2/auth/apitoken/self").token(alice).body(&token).send(),
    ] {
        let text = refused.text().to_lowercase();
        assert!(refused.status() == 400 && !taken.iter().any(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn groups_for_everybody_are_made_and_filled_by_administrators_only() {
    let people = People::meet();
    for group in ["AllUsers", "All", "Lab:All"] {
        let target = format!("/user/group/{group}");
        assert_eq!(people.send("POST", &target, &people.alice).status(), 403, "{group}");
        assert_eq!(people.send("POST", &target, &people.olga).status(), 200, "{group}");
        assert_eq!(people.send("POST", &format!("{target}/alice"), &people.alice).status(), 403, "{group}");
        assert_eq!(people.send("POST", &format!("{target}/alice"), &people.olga).status(), 200, "{group}");
    }
    assert_eq!(people.send("POST", "/user/group/Allies", &people.alice).status(), 200);
}

#[test]
fn membership_counts_from_the_next_request_on() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    gateway.rest("POST", "/user/group/Team").token(&alice).body("").expect(200);
    gateway.run(&["grant", "group:Team", "materials.mp", "execute"]).done();
    gateway.call("GET", "/materials/mp/x").token(&bob).expect(403);
    gateway.rest("POST", "/user/group/Team/bob").token(&alice).body("").expect(200);
    support::eventually("the grant of the command is shown", support::A_SECOND_WITH_SLACK, || {
        (gateway.call("GET", "/materials/mp/x").token(&bob).send().status() == 200).then_some(())
    });
    gateway.rest("DELETE", "/user/group/Team/bob").token(&alice).body("").expect(200);
    gateway.call("GET", "/materials/mp/x").token(&bob).expect(403);
    gateway.rest("POST", "/user/group/Team/bob").token(&alice).body("").expect(200);
    gateway.call("GET", "/materials/mp/x").token(&bob).expect(200);
}
