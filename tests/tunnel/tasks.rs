//! Calls on the API's `/service/…`: a task to ask for, or the answer for whoever prefers to wait.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::support::{Ask, PATIENCE, eventually};
use super::{House, sending};

impl House {
    /// A call of alice's on the API's listener.
    fn served(&self, method: &str, rest: &str) -> Ask {
        self.gateway.rest(method, &format!("/service/materials/mp{rest}")).token(&self.alice)
    }

    /// The task that a call becomes.
    #[track_caller]
    fn task(&self, rest: &str) -> String {
        let answer = self.served("GET", rest).expect(202);
        let Value::Object(said) = answer.json() else { panic!("{}", answer.text()) };
        assert_eq!(said.len(), 1, "{said:?}");
        said["taskId"].as_str().unwrap().to_owned()
    }

    fn poll(&self, task: &str) -> Ask {
        self.served("GET", &format!("?taskId={task}"))
    }

    /// What the task comes to.
    fn complete(&self, task: &str) -> Value {
        eventually("the task is complete", PATIENCE, || {
            let answer = self.poll(task).send();
            (answer.status() == 200).then(|| answer.json())
        })
    }
}

#[test]
fn a_call_is_a_task_that_its_caller_asks_for() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let task = house.task("/x?q=1");
    let call = tunnel.next();
    assert_eq!((&call["event"]["path"], &call["event"]["params"]), (&json!("/materials/mp/x"), &json!({"q": "1"})));
    let pending = house.poll(&task).expect(202);
    assert_eq!(pending.json(), json!({"taskId": task, "status": "pending"}));
    let headers = json!({"content-type": "application/json", "x-own": "yes", "set-cookie": "a=b", "x-carta-user": "x"});
    tunnel.answer_with(&call, 200, &headers, "{\"slope\": 2}");
    let complete = house.complete(&task);
    assert_eq!(complete["response"], "{\"slope\": 2}");
    assert_eq!((&complete["status"], &complete["statusCode"]), (&json!("complete"), &json!(200)));
    assert_eq!((&complete["taskId"], &complete["headers"]["x-own"]), (&json!(task), &json!("yes")));
    assert!(complete["headers"].get("set-cookie").is_none(), "{complete}");
    // Again, and also after the tunnel is gone.
    assert_eq!(house.poll(&task).expect(200).json(), complete);
    tunnel.close();
    let answer = house.poll(&task).expect(200);
    assert_eq!(answer.json(), complete);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn an_api_token_asks_only_for_tasks_of_calls_that_it_could_have_made() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let token = |name: &str, endpoint: &str| {
        let body = json!({"name": name, "allowedEndpoints": [endpoint]}).to_string();
        let made = house.gateway.rest("POST", "/v2/auth/apitoken/self").token(&house.alice).body(body).expect(200);
        let key = made.json()["token"].as_str().unwrap().to_owned();
        format!("Basic {}", STANDARD.encode(format!("__token__:{key}")))
    };
    let (narrow, wide) = (token("narrow", "GET /service/materials/mp"), token("wide", "GET /service/materials/mp/**"));
    let task = house.task("/private");
    let call = tunnel.next();
    tunnel.answer(&call, "private");
    house.complete(&task);
    let poll = |key: &str| {
        let ask = house.gateway.rest("GET", &format!("/service/materials/mp?taskId={task}"));
        ask.header("Authorization", key).send()
    };
    let refused = poll(&narrow);
    assert_eq!((refused.status(), refused.problem()), (403, Some("token-scope")), "{}", refused.text());
    assert_eq!(poll(&wide).status(), 200);
}

#[test]
fn what_the_service_refuses_is_a_complete_task_all_the_same() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let task = house.task("/x");
    let call = tunnel.next();
    tunnel.answer_with(&call, 422, &json!({}), "{\"detail\": \"no\"}");
    let complete = house.complete(&task);
    assert_eq!((&complete["statusCode"], &complete["response"]), (&json!(422), &json!("{\"detail\": \"no\"}")));
}

#[test]
fn a_task_is_told_only_to_who_called_and_only_at_its_service() {
    let house = House::built("", |builder| {
        builder
            .grant("bob", "materials.mp", "execute")
            .service("materials", "other", "http://127.0.0.1:9", "tunnel = true")
            .grant("alice", "materials.other", "execute")
            .grant("tess", "materials.other", "write")
    });
    let mut tunnel = house.tunnel();
    let _other = super::Tunnel::open(&house.gateway, &house.tess, "materials/other");
    let task = house.task("/x");
    let call = tunnel.next();
    tunnel.answer(&call, "alice's");
    house.complete(&task);
    let poll = |service: &str, token: &str, task: &str| {
        house.gateway.rest("GET", &format!("/service/materials/{service}?taskId={task}")).token(token).send()
    };
    let bob = house.gateway.token("bob");
    for refused in [poll("mp", &bob, &task), poll("other", &house.alice, &task), poll("mp", &house.alice, "unknown")] {
        assert_eq!((refused.status(), refused.problem()), (404, Some("not-found")), "{}", refused.text());
    }
    assert_eq!(house.gateway.rest("GET", &format!("/service/materials/mp?taskId={task}")).send().status(), 401);
    assert_eq!(poll("mp", &house.alice, &task).status(), 200);
}

#[test]
fn permission_is_asked_for_at_the_call_and_at_each_poll() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let bob = house.gateway.token("bob");
    assert_eq!(house.gateway.rest("GET", "/service/materials/mp/x").token(&bob).send().status(), 403);
    let task = house.task("/x");
    let call = tunnel.next();
    tunnel.answer(&call, "ok");
    house.complete(&task);
    let pending = house.task("/y");
    tunnel.next();
    house.gateway.run(&["revoke", "alice", "materials.mp", "execute"]).done();
    for task in [&task, &pending] {
        eventually("the poll is refused", PATIENCE, || (house.poll(task).send().status() == 403).then_some(()));
    }
    // What was under way when the permission went stays without its answer.
    house.gateway.run(&["grant", "alice", "materials.mp", "execute"]).done();
    let ended = house.complete(&pending);
    assert_eq!(ended["statusCode"], 403, "{ended}");
    assert_eq!(house.poll(&task).expect(200).json()["response"], "ok");
}

#[test]
fn a_poll_needs_what_the_call_needed() {
    let lines = "[[service.operation]]\nname = \"run\"\nmatch = \"GET /run\"\nlevel = \"execute\"";
    let house = House::new(lines);
    let mut tunnel = house.tunnel();
    let task = house.task("/run");
    let call = tunnel.next();
    tunnel.answer(&call, "ran");
    // The bare path itself is no operation.
    assert_eq!(house.complete(&task)["response"], "ran");
    assert_eq!(house.served("GET", "").send().status(), 403);
}

#[test]
fn who_prefers_to_wait_gets_the_answer_itself() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = sending(house.served("GET", "/x").header("Prefer", "respond-async, wait=120"));
    let call = tunnel.next();
    tunnel.answer_with(&call, 201, &json!({"x-own": "yes"}), "made");
    let answer = calling.join().unwrap();
    assert_eq!((answer.status(), answer.text().as_str(), answer.header("x-own")), (201, "made", Some("yes")));
    assert_eq!(answer.header("preference-applied"), Some("wait=120"));
    assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
    // A tunnel that closes meanwhile is 502 for who waits.
    let calling = sending(house.served("GET", "/y").header("Prefer", "wait=120"));
    tunnel.next();
    tunnel.close();
    assert_eq!(calling.join().unwrap().status(), 502);
}

#[test]
fn who_waited_in_vain_gets_the_task() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    for wait in ["wait=0", "wait=1"] {
        let answer = house.served("GET", "/x").header("Prefer", wait).expect(202);
        assert_eq!(answer.header("preference-applied"), Some(wait));
        let call = tunnel.next();
        tunnel.answer(&call, wait);
        assert_eq!(house.complete(answer.json()["taskId"].as_str().unwrap())["response"], wait);
    }
}

#[test]
fn a_tunnel_that_closes_ends_its_tasks_and_the_address_is_called_again() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let (sent, waiting) = (house.task("/sent"), house.task("/waiting"));
    tunnel.next();
    tunnel.close();
    for task in [sent, waiting] {
        let ended = house.complete(&task);
        assert_eq!(
            (&ended["statusCode"], &ended["headers"]["carta-gateway"]),
            (&json!(502), &json!("upstream-closed"))
        );
    }
    assert_eq!(house.served("GET", "/x").expect(200).text(), "base");
    // A task that nobody has is a call's own parameter again.
    assert_eq!(house.poll("theirs").expect(200).text(), "base");
    assert_eq!(house.base.received().last().unwrap().head.target(), "/?taskId=theirs");
}

#[test]
fn a_task_ends_when_the_service_takes_longer_than_it_may() {
    let house = House::new("timeouts = { total = \"1s\" }");
    let mut tunnel = house.tunnel();
    let task = house.task("/slow");
    tunnel.next();
    let ended = house.complete(&task);
    assert_eq!((&ended["statusCode"], &ended["headers"]["carta-gateway"]), (&json!(504), &json!("upstream-timeout")));
}

#[test]
fn one_user_has_only_so_many_tasks_under_way() {
    let house = House::built("", |builder| builder.grant("bob", "materials.mp", "execute"));
    let mut tunnel = house.tunnel();
    let tasks: Vec<_> = (0..32).map(|_| house.task("/x")).collect();
    let refused = house.served("GET", "/x").expect(429);
    assert_eq!((refused.problem(), refused.header("retry-after")), (Some("too-many-tasks"), Some("5")));
    // Others have their own, and what is answered makes room.
    let bobs = house.gateway.rest("GET", "/service/materials/mp/x").token(&house.gateway.token("bob")).expect(202);
    assert!(bobs.json()["taskId"].is_string());
    let call = tunnel.next();
    tunnel.answer(&call, "ok");
    let first = tasks.iter().find(|task| *task == call["taskId"].as_str().unwrap()).unwrap();
    house.complete(first);
    house.task("/again");
}

#[test]
fn tasks_do_not_hold_up_a_gateway_that_ends() {
    let house = House::built("", |builder| builder.listen("drain = \"5m\""));
    let mut tunnel = house.tunnel();
    house.task("/x");
    tunnel.next();
    house.gateway.signal("TERM");
    assert_eq!(tunnel.closed(), Some(1001));
    drop(tunnel);
    assert_eq!(house.gateway.wait_for_end(), Some(0));
}
