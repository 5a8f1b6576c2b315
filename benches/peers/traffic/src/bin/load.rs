//! Load for one proxy: closed loop, or at a fixed rate, and what the callers saw, as one line of JSON.
//!
//! At a fixed rate a call's latency counts from the moment it was due, not from when its connection was free to send it:
//! a proxy that stalls delays all that were due meanwhile, and coordinated omission would hide them.

#[path = "load/http1.rs"]
mod http1;
#[path = "load/http2.rs"]
mod http2;
#[path = "load/idle.rs"]
mod idle;
#[path = "load/seen.rs"]
mod seen;
#[path = "load/wire.rs"]
mod wire;
#[path = "load/websocket.rs"]
mod websocket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::time::Instant;

use self::seen::Seen;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Options {
    /// The proxy's port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    #[arg(long, default_value = "/bench/echo/b/128")]
    path: String,
    /// Bearer tokens, one a line; calls take them in turn.
    #[arg(long)]
    tokens: PathBuf,
    #[arg(long, value_enum, default_value_t = Kind::Http1)]
    kind: Kind,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Streams at once on each connection, where the kind is http2.
    #[arg(long, default_value_t = 8)]
    streams: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Calls a second of all connections together; 0: as many as are answered.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Bytes to upload with each call.
    #[arg(long, default_value_t = 0)]
    upload: usize,
    /// The certificate authority of the proxy: the calls go over TLS.
    #[arg(long)]
    ca: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Connections that are kept.
    Http1,
    /// A connection for each call.
    Close,
    Http2,
    /// Echoes of 64 bytes over connections that are kept.
    Websocket,
    /// Connections that called once, and stay until standard input ends.
    Idle,
}

/// What the callers share.
struct Plan {
    options: Options,
    tokens: Vec<String>,
    begin: Instant,
    end: Instant,
}

impl Plan {
    /// The request of the `number`th caller's next call, as it goes over the wire.
    fn request(&self, token: usize) -> Vec<u8> {
        let Options { path, upload, kind, .. } = &self.options;
        let method = if *upload > 0 { "POST" } else { "GET" };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n",
            self.tokens[token % self.tokens.len()]
        );
        if *kind == Kind::Close {
            head.push_str("Connection: close\r\n");
        }
        if *upload > 0 {
            head.push_str(&format!("Content-Type: application/octet-stream\r\nContent-Length: {upload}\r\n"));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.resize(request.len() + upload, b'x');
        request
    }

    /// When the caller's `nth` call is due; now, where there is no rate.
    async fn due(&self, caller: usize, callers: usize, nth: u64) -> Option<Instant> {
        let now = Instant::now();
        if self.options.rate == 0.0 {
            return (now < self.end).then_some(now);
        }
        let apart = callers as f64 / self.options.rate;
        let due = self.begin + Duration::from_secs_f64(apart * (nth as f64 + caller as f64 / callers as f64));
        if due >= self.end {
            return None;
        }
        tokio::time::sleep_until(due).await;
        Some(due)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let tokens = std::fs::read_to_string(&options.tokens)?.lines().map(str::to_owned).collect::<Vec<_>>();
    if tokens.is_empty() {
        return Err("there is no token".into());
    }
    if options.kind == Kind::Idle {
        return idle::hold(options, tokens).await;
    }
    let connector = wire::connector(options.ca.as_deref(), options.kind == Kind::Http2)?;
    let begin = Instant::now() + Duration::from_millis(50);
    let end = begin + Duration::from_secs_f64(options.seconds);
    let plan = Arc::new(Plan { options, tokens, begin, end });
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..plan.options.connections {
        let (plan, connector) = (plan.clone(), connector.clone());
        callers.spawn(async move {
            match plan.options.kind {
                Kind::Http1 => http1::keep(&plan, caller, connector).await,
                Kind::Close => http1::close(&plan, caller, connector).await,
                Kind::Http2 => http2::call(&plan, caller, connector).await,
                Kind::Websocket => websocket::echo(&plan, caller).await,
                Kind::Idle => Seen::default(),
            }
        });
    }
    let mut seen = Seen::default();
    while let Some(one) = callers.join_next().await {
        seen.add(&one?);
    }
    println!("{}", seen.told(begin.elapsed().as_secs_f64()));
    Ok(())
}
