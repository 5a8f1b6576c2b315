//! The service behind every proxy: as little work as an honest answer takes.
//!
//! `GET /b/N` is answered with N bytes, whatever is sent to another path with 128, `/auth` with 204, `/jwks.json` with the
//! file named. WebSocket messages to the second port come back as they are.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser)]
struct Options {
    /// The port of HTTP/1.1.
    #[arg(long)]
    http: u16,
    /// The port of WebSocket echo.
    #[arg(long)]
    websocket: u16,
    /// What `/jwks.json` is answered with.
    #[arg(long)]
    jwks: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let jwks: &'static [u8] = std::fs::read(&options.jwks)?.leak();
    let http = TcpListener::bind(("127.0.0.1", options.http)).await?;
    let websocket = TcpListener::bind(("127.0.0.1", options.websocket)).await?;
    loop {
        tokio::select! {
            Ok((stream, _)) = http.accept() => { tokio::spawn(async move { serve(stream, jwks).await.ok() }); }
            Ok((stream, _)) = websocket.accept() => { tokio::spawn(async move { echo(stream).await.ok() }); }
        }
    }
}

async fn serve(mut stream: TcpStream, jwks: &[u8]) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut answers: HashMap<usize, Vec<u8>> = HashMap::new();
    let mut received = Vec::with_capacity(64 * 1024);
    loop {
        let Some(head) = read_head(&mut stream, &mut received).await? else { return Ok(()) };
        received.drain(..head.length);
        match head.body {
            Body::Sized(length) => discard(&mut stream, &mut received, length).await?,
            Body::Chunked => discard_chunks(&mut stream, &mut received).await?,
        }
        match head.path.strip_prefix("/b/").and_then(|size| size.parse().ok()) {
            _ if head.path == "/auth" => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?,
            _ if head.path == "/jwks.json" => stream.write_all(&answer("application/json", jwks)).await?,
            size => {
                let size = size.unwrap_or(128).min(16 << 20);
                let whole = answers.entry(size).or_insert_with(|| answer("application/octet-stream", &vec![b'x'; size]));
                stream.write_all(whole).await?;
            }
        }
        if head.close {
            return Ok(());
        }
    }
}

fn answer(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

struct Head {
    /// In bytes, the empty line included.
    length: usize,
    path: String,
    body: Body,
    close: bool,
}

enum Body {
    Sized(usize),
    Chunked,
}

/// The next request's head, which stays in `received`; none where the connection ends before one.
async fn read_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Option<Head>, Failure> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(length) = request.parse(received)? {
            let (mut body, mut close) = (Body::Sized(0), false);
            for header in request.headers.iter() {
                if header.name.eq_ignore_ascii_case("content-length") {
                    body = Body::Sized(std::str::from_utf8(header.value)?.parse()?);
                } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                    body = Body::Chunked;
                } else if header.name.eq_ignore_ascii_case("connection") {
                    close = header.value.eq_ignore_ascii_case(b"close");
                }
            }
            return Ok(Some(Head { length, path: request.path.unwrap_or("/").to_owned(), body, close }));
        }
        if stream.read_buf(received).await? == 0 {
            return if received.is_empty() { Ok(None) } else { Err("half a request".into()) };
        }
    }
}

async fn discard(stream: &mut TcpStream, received: &mut Vec<u8>, mut length: usize) -> Result<(), Failure> {
    loop {
        let here = length.min(received.len());
        received.drain(..here);
        length -= here;
        if length == 0 {
            return Ok(());
        }
        if stream.read_buf(received).await? == 0 {
            return Err("half a body".into());
        }
    }
}

async fn discard_chunks(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), Failure> {
    loop {
        let end = loop {
            if let Some(end) = received.windows(2).position(|two| two == b"\r\n") {
                break end;
            }
            if stream.read_buf(received).await? == 0 {
                return Err("half a chunk".into());
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&received[..end])?.split(';').next().unwrap_or(""), 16)?;
        received.drain(..end + 2);
        discard(stream, received, size + 2).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

async fn echo(stream: TcpStream) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
