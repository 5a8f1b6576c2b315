//! What a call costs: finding its service, passing its headers, and the whole walk between two sockets of this process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench that cannot be set up should stop"
)]

#[path = "../tests/proxy_house/mod.rs"]
mod proxy_house;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use carta_gateway::identity::{Identity, Proof};
use carta_gateway::policy::Levels;
use carta_gateway::proxy::Target;
use carta_gateway::proxy::authorize::{self, Call, Decisions, Judge};
use carta_gateway::proxy::headers::{Added, add_to_request, pass_request};
use carta_gateway::proxy::names::Rules;
use carta_gateway::proxy::record::{Happened, Name, Record};
use carta_gateway::proxy::target::Door;
use carta_gateway::telemetry::RequestId;
use carta_gateway::upstream::Heads;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use jiff::Timestamp;
use proxy_house::{ALICE, House, MP};
use serde_json::json;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 128\r\n\r\n\
    0123456789012345678901234567890123456789012345678901234567890123\
    0123456789012345678901234567890123456789012345678901234567890123";

fn steps(c: &mut Criterion) {
    let house = House::start("", &json!({"base_url": "http://127.0.0.1:9"}));
    for number in 0..1000_u128 {
        let id = carta_gateway::policy::ResourceId(uuid::Uuid::from_u128(1000 + number));
        house.service(id, "many", &format!("s{number}"), &json!({"base_url": "http://127.0.0.1:9"}), true);
    }
    let state = house.gateway.shared().state.load_full();
    let uri = Uri::from_static("/materials/mp/structures/mp-149/summary?fields=band_gap&limit=10");
    c.bench_function("find one of 1,001 services by its path", |b| {
        b.iter(|| {
            let target = Target::parse(black_box(&uri), Door::Proxy).unwrap();
            assert!(state.route(&target).is_some());
            target
        });
    });
    let encoded = Uri::from_static("/materials/mp/a%20b/%C3%A4/c;d=e/f?x=%26");
    c.bench_function("split an encoded path into segments", |b| {
        b.iter(|| Target::parse(black_box(&encoded), Door::Proxy).unwrap().segments().len());
    });
    let headers = browser_headers();
    let injected = ["x-api-key".into()];
    let rules = Rules { injected: &injected, identity_header: None, trusted_peer: false, judges_method: false };
    let (id, heads) = (RequestId::mint(), Heads::default());
    c.bench_function("pass the headers of a request", |b| {
        b.iter_batched_ref(
            || headers.clone(),
            |headers| {
                let mut out = heads.take();
                let taken = pass_request(headers, &rules, &mut out).unwrap();
                let added = Added {
                    user: Some("alice"),
                    email: Some("alice@example.org"),
                    request_id: &id,
                    peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                    tls: true,
                    trusted_peer: false,
                };
                let trace = add_to_request(&taken, &uri, &added, &mut out);
                heads.give_back(out);
                trace
            },
            BatchSize::SmallInput,
        );
    });
}

/// What it costs to remember what became of a request, and to count it.
fn recording(c: &mut Criterion) {
    let record = Record::default();
    let id = RequestId::mint();
    let tags: Vec<String> = (0..64).map(|tag| tag.to_string()).collect();
    let mut number = 0;
    c.bench_function("record", |b| {
        b.iter(|| {
            number = (number + 1) % 64;
            let name = Name::of(&["materials", "mp", &tags[number]]);
            record.note(&Happened {
                id: black_box(&id),
                at: Timestamp::now(),
                user: Some(ALICE),
                service: Some(MP),
                operation: None,
                method: &Method::GET,
                path: "/materials/mp/structures/mp-149/summary",
                need: Some(Levels::EXECUTE),
                name: &name,
                permitted: Some(true),
                problem: None,
                status: 200,
                revision: 7,
                took: Duration::from_millis(1),
                upstream: None,
                refused: None,
            });
        });
    });
}

/// What a worker's memory of its decisions saves, for a call that an operation reads.
fn deciding(c: &mut Criterion) {
    let table = json!({"base_url": "http://127.0.0.1:9", "operation": [
        {"name": "tag", "match": "POST|PUT /tags/{id}", "level": "create"},
        {"name": "read", "match": "GET /structures/{id}/**", "resource": "{namespace}.{service}"},
    ]});
    let house = House::start("", &table);
    let state = house.gateway.shared().state.load_full();
    let target = Target::parse(&Uri::from_static("/materials/mp/structures/mp-149/summary"), Door::Proxy).unwrap();
    let call = Call { route: state.route(&target).unwrap(), target: &target, method: &Method::GET };
    let account = state.directory.by_id(ALICE).unwrap().clone();
    let proof = Proof::Header { email: "alice@example.org".into() };
    let alice = Identity::of(account, proof);
    let (now, decisions) = (Timestamp::now(), Decisions::default());
    let mut group = c.benchmark_group("authorize");
    for (name, decisions) in [("decided anew", None), ("remembered", Some(&decisions))] {
        let judge = Judge { policy: &state.policy, directory: &state.directory, decisions };
        group.bench_function(name, |b| b.iter(|| authorize::check(&judge, black_box(&alice), &call, now).unwrap()));
    }
    group.finish();
}

/// One connection, one call after another: two system calls at each of three ends are in it.
fn whole(c: &mut Criterion) {
    let upstream = upstream();
    let base = json!({"base_url": format!("http://{upstream}"), "inject": {"headers": {"X-Api-Key": "{secret:key}"}}});
    let house = House::start("[log]\naccess = false", &base);
    house.secret(ALICE, "key", "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz0123");
    house.consent(ALICE);
    assert!(house.gateway.shared().state.load().routes.by_id(MP).is_some());
    let token = house.token(ALICE);
    let request = format!(
        "GET /materials/mp/structures/mp-149 HTTP/1.1\r\nhost: gw\r\naccept: */*\r\nuser-agent: bench\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let mut group = c.benchmark_group("call");
    let mut through = connect(house.proxy());
    group.bench_function("through the gateway, whole job", |b| b.iter(|| call(&mut through, request.as_bytes())));
    let mut direct = connect(upstream);
    group.bench_function("without the gateway", |b| b.iter(|| call(&mut direct, request.as_bytes())));
    group.finish();
}

fn browser_headers() -> HeaderMap {
    let lines = [
        ("host", "gw.example.org"),
        ("connection", "keep-alive"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"),
        ("cookie", "theme=dark; lang=en"),
        ("referer", "https://app.example.org/"),
        ("sec-fetch-site", "same-origin"),
        ("x-requested-with", "XMLHttpRequest"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Answers every request with the same bytes.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) && stream.write_all(ANSWER).is_ok() {}
            });
        }
    });
    address
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn call(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).unwrap();
    let mut buffer = [0; 4096];
    let mut read = 0;
    loop {
        read += stream.read(&mut buffer[read..]).unwrap();
        let answer = &buffer[..read];
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n")
            && answer.len() >= end + 4 + 128
        {
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
            return;
        }
    }
}

criterion_group!(benches, steps, recording, deciding, whole);
criterion_main!(benches);
