//! A caller for the walk: one HTTP/1.1 request over a connection of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Failure;

/// A request to be made.
pub(in crate::cli) struct Call<'a> {
    pub(in crate::cli) method: Method,
    pub(in crate::cli) to: SocketAddr,
    /// Path and query.
    pub(in crate::cli) target: &'a str,
    pub(in crate::cli) token: Option<&'a str>,
    /// One more header.
    pub(in crate::cli) header: Option<(&'a str, &'a str)>,
}

/// An answer with its whole body.
pub(in crate::cli) struct Answer {
    pub(in crate::cli) status: StatusCode,
    pub(in crate::cli) headers: HeaderMap,
    pub(in crate::cli) text: String,
}

/// An answer whose body is still coming.
pub(in crate::cli) struct Streaming {
    pub(in crate::cli) status: StatusCode,
    body: Incoming,
}

impl Call<'_> {
    /// Makes the request and reads the answer to its end.
    pub(in crate::cli) async fn send(self) -> Result<Answer, Failure> {
        let (status, headers, body) = self.begin().await?;
        let bytes = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
        Ok(Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Makes the request and returns with the answer's head.
    pub(in crate::cli) async fn stream(self) -> Result<Streaming, Failure> {
        let (status, _, body) = self.begin().await?;
        Ok(Streaming { status, body })
    }

    async fn begin(self) -> Result<(StatusCode, HeaderMap, Incoming), Failure> {
        let stream = TcpStream::connect(self.to).await.map_err(|error| broken(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(self.method).uri(self.target).header("host", self.to.to_string());
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some((name, value)) = self.header {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
        let (head, body) = sender.send_request(request).await.map_err(|error| broken(&error))?.into_parts();
        Ok((head.status, head.headers, body))
    }
}

impl Streaming {
    /// The next piece of the body, as text; none at its end.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() {
                return Ok(Some(String::from_utf8_lossy(&data).into_owned()));
            }
        }
    }
}

impl Answer {
    /// The member of the JSON body at this pointer, as text; empty where there is none.
    pub(in crate::cli) fn json(&self, pointer: &str) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_default();
        match body.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::NotFine(format!("not ok: the gateway did not answer: {error}"))
}
