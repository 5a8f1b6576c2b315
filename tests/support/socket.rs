//! A service behind a tunnel: a WebSocket client that takes calls as messages and answers what the test tells it to.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket, client::client_with_config};

use super::{Gateway, PATIENCE};

/// One tunnel, open.
pub struct Tunnel(WebSocket<TcpStream>);

/// A handshake that was refused: status and body.
pub type Refused = (u16, Value);

impl Tunnel {
    /// Opens the tunnel of `namespace/service`.
    #[track_caller]
    pub fn open(gateway: &Gateway, token: &str, service: &str) -> Self {
        Self::try_open(gateway, token, service).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// Opens the tunnel, or tells how that was refused.
    pub fn try_open(gateway: &Gateway, token: &str, service: &str) -> Result<Self, Refused> {
        let (namespace, name) = service.split_once('/').unwrap();
        let target = format!("ws://{}/service-tunnel?namespace={namespace}&service={name}", gateway.api());
        let mut request = target.into_client_request().unwrap();
        if !token.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let stream = TcpStream::connect(gateway.api()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        // As the real client has it.
        let config = WebSocketConfig::default().max_message_size(Some(1024 * 1024)).max_frame_size(Some(1024 * 1024));
        match client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or(Value::Null)))
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// The next call.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "no call comes");
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Answers this call with 200 and a text.
    pub fn answer(&mut self, call: &Value, body: &str) {
        self.answer_with(call, 200, &json!({"content-type": "text/plain"}), body);
    }

    /// Answers this call.
    pub fn answer_with(&mut self, call: &Value, status: u16, headers: &Value, body: &str) {
        let event = json!({"status_code": status, "reason": "", "headers": headers, "body": body});
        self.say(&json!({"taskId": call["taskId"], "event": event}).to_string());
    }

    /// Sends this text. A tunnel that is gone shows when it is read.
    pub fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).ok();
    }

    /// Sends any message.
    pub fn send(&mut self, message: Message) -> &mut Self {
        self.0.send(message).ok();
        self
    }

    /// The next frame that is no call.
    pub fn message(&mut self) -> Message {
        self.0.read().unwrap()
    }

    /// The code that the gateway closes with; none where it just ends the connection.
    #[track_caller]
    pub fn closed(&mut self) -> Option<u16> {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => {
                    // Sends the answer to the closing frame.
                    self.0.flush().ok();
                    return frame.map(|frame| frame.code.into());
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it stays open"),
                Err(_) => return None,
            }
        }
    }

    /// Closes the tunnel and waits for the other side to have done so.
    pub fn close(mut self) {
        self.0.close(None).unwrap();
        while self.0.read().is_ok() {}
    }
}
