//! The description of the API (OpenAPI 3.1), made from what stands beside each handler, and the page that shows it
//! (`docs/API.md` §16).

pub(super) mod calls;
mod common;
pub(super) mod page;
pub(super) mod shapes;
mod table;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use utoipa::openapi::path::{PathItem, Paths};
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::UtoipaMethodRouter;

use super::{Api, router};
pub(super) use common::Barrier;
pub(super) use table::ServiceTable;

/// Routes of handlers that are described. There is no other way to add one to the API.
pub(super) struct Routes {
    router: Router<Arc<Api>>,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), paths: Paths::new(), schemas: Vec::new() }
    }

    /// The handlers of one path, which they describe: `routes!(users::current_user, users::create_user)`.
    #[must_use]
    pub(super) fn at(mut self, (schemas, paths, methods): UtoipaMethodRouter<Arc<Api>>) -> Self {
        for (path, item) in paths.paths {
            self.router = self.router.route(&path, methods.clone());
            self.describe(path, item);
        }
        self.schemas.extend(schemas);
        self
    }

    /// The handlers of one path, at another path as well.
    #[must_use]
    pub(super) fn at_both(mut self, other: &str, (schemas, paths, methods): UtoipaMethodRouter<Arc<Api>>) -> Self {
        for item in paths.paths.values() {
            self.router = self.router.route(other, methods.clone());
            self.describe(other.to_owned(), item.clone());
        }
        self.at((schemas, paths, methods))
    }

    /// Handlers that the router is never asked for, at the path that they describe and at another.
    #[must_use]
    pub(super) fn elsewhere(mut self, other: &str, (schemas, paths, _): UtoipaMethodRouter<Arc<Api>>) -> Self {
        for (path, item) in paths.paths {
            self.describe(other.to_owned(), item.clone());
            self.describe(path, item);
        }
        self.schemas.extend(schemas);
        self
    }

    /// What the router has, and what describes it.
    pub(super) fn split(self) -> (Router<Arc<Api>>, Description) {
        (self.router, Description { paths: self.paths, schemas: self.schemas })
    }

    fn describe(&mut self, path: String, item: PathItem) {
        match self.paths.paths.get_mut(&path) {
            Some(known) => known.merge_operations(item),
            None => {
                self.paths.paths.insert(path, item);
            }
        }
    }
}

/// What the handlers say of themselves.
pub(super) struct Description {
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Description {
    /// The whole document: what holds for every handler is said here once, and no handler repeats it.
    pub(super) fn document(&self) -> Value {
        let mut paths = json!(self.paths);
        common::complete(&mut paths);
        let tags: Vec<Value> = TAGS.iter().map(|(name, about)| json!({"name": name, "description": about})).collect();
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "carta-gateway",
                "version": env!("CARGO_PKG_VERSION"),
                "description": ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": tags,
            "security": common::credentials(),
            "paths": paths,
            "components": common::components(&self.schemas),
        })
    }
}

/// The chapters, in the order of `docs/API.md`.
const TAGS: [(&str, &str); 12] = [
    ("login", "Where to log in, what passwords must be, and Cognito's login calls (§2, §3)."),
    ("users", "Who the caller is, who else there is, and new accounts (§4)."),
    ("groups", "Groups and who is in them (§5)."),
    ("permissions", "Who may do what (§6, §7), and what changes would do (§15)."),
    ("tokens", "API tokens: narrower than their users, and their own end (§9)."),
    ("records", "Resources, projects, connections and workspaces: records that are kept to be shared (§8, §17)."),
    ("files", "Files, of which a gateway has none (§18)."),
    ("secrets", "One's own secrets, and to which services they may go (§10)."),
    ("services", "Namespaces and services (§11), calls of them (§12), and tunnels to them (§13)."),
    ("why", "What became of a call, and what would be decided now (§14)."),
    ("audit", "Who changed what (§19)."),
    ("gateway", "Signs of life, metrics, and this description (§16)."),
];

const ABOUT: &str = "\
Carta's REST API as the gateway serves it; §n is the section of `docs/API.md`.

Checks come in this order: 401 nobody is identified, 404 no such thing, 403 not permitted, 400 the content. Refusals are \
`application/problem+json` (RFC 9457) with the member `error`. A query parameter with an empty value counts as absent. \
A path that is here refuses a method that is not with 405; HEAD is answered where GET is. What is here says what every \
gateway of this version serves, and nothing of this one.";

/// The description of the API
///
/// OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "gateway", security(()),
    responses((status = 200, description = "this document", body = serde_json::Map<String, Value>)))]
pub(super) async fn describe() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| router::routes().split().1.document().to_string().into());
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], document.clone()).into_response()
}

#[cfg(test)]
mod tests;
