//! Where the tunnel is, and who may open one.

use super::House;
use super::support::{Gateway, Tunnel};

#[test]
fn the_address_is_a_json_text_with_the_host_that_the_caller_asked() {
    let gateway = Gateway::builder().start();
    let token = gateway.token("olga");
    let ask = gateway.rest("GET", "/service/carta/websocket").token(&token);
    let answer = ask.expect(200);
    assert_eq!(answer.json(), format!("ws://{}/service-tunnel", gateway.api()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let named = ask.clone().host(Some("gw.example.org:81")).expect(200);
    assert_eq!(named.json(), "ws://gw.example.org:81/service-tunnel");
    // Nobody's word but a trusted proxy's says how the caller came.
    let forwarded = ask.header("X-Forwarded-Proto", "https").header("X-Forwarded-Host", "evil.example").expect(200);
    assert_eq!(forwarded.json(), format!("ws://{}/service-tunnel", gateway.api()));
    gateway.rest("GET", "/service/carta/websocket").expect(401);
    gateway.rest("POST", "/service/carta/websocket").token(&token).body("").expect(405);
}

#[test]
fn the_address_is_the_configured_one_where_there_is_one() {
    let listen = "public_url = { api = \"https://api.gw.example.org/carta\" }";
    let gateway = Gateway::builder().listen(listen).start();
    let answer = gateway.rest("GET", "/service/carta/websocket").token(&gateway.token("olga")).expect(200);
    assert_eq!(answer.json(), "wss://api.gw.example.org/carta/service-tunnel");
}

#[test]
fn a_trusted_proxy_says_how_the_caller_came() {
    let gateway = Gateway::builder().listen("trusted_proxies = [\"127.0.0.1/32\"]").start();
    let ask = gateway.rest("GET", "/service/carta/websocket").token(&gateway.token("olga"));
    let answer = ask.header("X-Forwarded-Proto", "https").header("X-Forwarded-Host", "gw.example.org").expect(200);
    assert_eq!(answer.json(), "wss://gw.example.org/service-tunnel");
}

#[test]
fn only_who_may_write_the_service_opens_its_tunnel() {
    let house = House::new("");
    let refused = |token: &str, service: &str| Tunnel::try_open(&house.gateway, token, service).err().unwrap();
    let (status, problem) = refused("", "materials/mp");
    assert_eq!((status, &problem["error"]), (401, &"not authenticated".into()));
    let (status, problem) = refused(&house.alice, "materials/mp");
    assert_eq!((status, &problem["owner"]), (403, &"olga".into()), "{problem}");
    assert_eq!(problem["level"], "create, update, delete");
    let (status, _) = refused(&house.tess, "materials/other");
    assert_eq!(status, 404);
    // The owner may all.
    let owner = house.gateway.token("olga");
    Tunnel::open(&house.gateway, &owner, "materials/mp").close();
}

#[test]
fn a_service_of_the_file_takes_a_tunnel_only_where_its_table_says_so() {
    let house = House::built("", |builder| {
        builder.service("materials", "fixed", "http://127.0.0.1:9", "").grant("tess", "materials.fixed", "write")
    });
    for token in [&house.tess, &house.gateway.token("olga")] {
        let (status, problem) = Tunnel::try_open(&house.gateway, token, "materials/fixed").err().unwrap();
        assert_eq!(status, 403);
        assert!(problem["detail"].as_str().unwrap().contains("write `tunnel = true`"), "{problem}");
    }
    // Who may not write it is told that, and nothing of its table.
    let (_, problem) = Tunnel::try_open(&house.gateway, &house.alice, "materials/fixed").err().unwrap();
    assert_eq!(problem["level"], "create, update, delete");
}

#[test]
fn a_registered_service_takes_a_tunnel_unless_its_table_says_no() {
    let house = House::new("");
    let put = |table: serde_json::Value| {
        let ask = house.gateway.rest("PUT", "/service/config/lab/fit").token(&house.tess);
        ask.header("Content-Type", "application/json").body(table.to_string()).expect(200);
    };
    house.gateway.rest("POST", "/service/reserve/lab").token(&house.tess).body("").expect(200);
    let register = "/service/register/lab/fit?baseUrl=http%3A%2F%2Flocalhost";
    house.gateway.rest("POST", register).token(&house.tess).body("").expect(200);
    let mut tunnel = Tunnel::open(&house.gateway, &house.tess, "lab/fit");
    put(serde_json::json!({"base_url": "http://localhost", "tunnel": false}));
    assert_eq!(tunnel.closed(), Some(1008));
    assert_eq!(Tunnel::try_open(&house.gateway, &house.tess, "lab/fit").err().unwrap().0, 403);
    put(serde_json::json!({"base_url": "http://localhost"}));
    Tunnel::open(&house.gateway, &house.tess, "lab/fit").close();
}

#[test]
fn a_request_that_is_no_websocket_is_told_so_after_who_and_what_were_asked() {
    let house = House::new("");
    let target = "/service-tunnel?namespace=materials&service=mp";
    let answer = house.gateway.rest("GET", target).token(&house.tess).expect(426);
    assert_eq!((answer.problem(), answer.header("upgrade")), (Some("upgrade-required"), Some("websocket")));
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    house.gateway.rest("GET", target).token(&house.alice).expect(403);
    house.gateway.rest("POST", target).token(&house.tess).body("").expect(405);
    let upgrading = |method: &str, target: &str| {
        let ask = house.gateway.rest(method, target).token(&house.tess);
        ask.header("Connection", "keep-alive, Upgrade").header("Upgrade", "WebSocket")
    };
    upgrading("GET", target).header("Sec-WebSocket-Version", "12").expect(426);
    let version = |method: &str, target: &str| upgrading(method, target).header("Sec-WebSocket-Version", "13");
    version("GET", target).expect(400);
    version("GET", target).header("Sec-WebSocket-Key", "c2hvcnQ=").expect(400);
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    version("HEAD", target).header("Sec-WebSocket-Key", key).expect(426);
    version("GET", "/service-tunnel?namespace=materials").header("Sec-WebSocket-Key", key).expect(400);
    let mut open = version("GET", target).header("Sec-WebSocket-Key", key).open();
    let head = open.head();
    assert_eq!((head.status(), head.headers.one("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
}

#[test]
fn the_token_that_a_service_gets_opens_no_tunnel() {
    let house = House::built("", |builder| builder.grant("alice", "materials.mp", "read,execute,write"));
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    let call = tunnel.next();
    let token = call["event"]["headers"]["Authorization"].as_str().unwrap().strip_prefix("Bearer ").unwrap();
    let (status, problem) = Tunnel::try_open(&house.gateway, token, "materials/mp").err().unwrap();
    assert_eq!((status, &problem["type"]), (403, &"urn:carta-gateway:problem:token-scope".into()));
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().text(), "ok");
}
