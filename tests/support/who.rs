//! Somebody who asks the API, as themselves.

use serde_json::Value;

use super::{Gateway, Response};

/// A user with a token of the gateway's.
pub struct Who<'a> {
    pub gateway: &'a Gateway,
    pub token: String,
    pub id: String,
}

impl<'a> Who<'a> {
    /// The user of this name.
    pub fn of(gateway: &'a Gateway, name: &str) -> Self {
        let mut who = Self { gateway, token: gateway.token(name), id: String::new() };
        who.id = text(&done(who.get("/user"))["id"]);
        who
    }

    /// With an empty body.
    pub fn ask(&self, method: &str, target: &str) -> Response {
        self.gateway.rest(method, target).token(&self.token).body("").send()
    }

    /// Without a body.
    pub fn get(&self, target: &str) -> Response {
        self.gateway.rest("GET", target).token(&self.token).send()
    }

    /// With this as JSON.
    pub fn send(&self, method: &str, target: &str, body: &Value) -> Response {
        let ask = self.gateway.rest(method, target).token(&self.token);
        ask.header("content-type", "application/json").body(body.to_string()).send()
    }

    /// Makes a record.
    pub fn make(&self, body: &Value) -> Value {
        done(self.send("POST", "/v2/resource/generic", body))
    }
}

/// What a request that succeeds answers.
#[track_caller]
pub fn done(response: Response) -> Value {
    assert_eq!(response.status(), 200, "{}", response.text());
    response.json()
}

/// The text that the value is.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The `name` of each of a list.
#[track_caller]
pub fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| text(&one["name"])).collect()
}
