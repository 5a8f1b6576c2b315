//! What handlers take from a request, each piece refused with a problem of ours.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use crate::identity::{AuthError, Identity};
use crate::policy::UserId;
use crate::proxy::error::{Kind, Problem};
use crate::store::Actor;

/// What was found out about a request before the router sees it.
#[derive(Clone)]
pub(super) struct Asker {
    /// Who calls, or why nobody is identified.
    pub(super) identity: Result<Identity, AuthError>,
    /// From where.
    pub(super) peer: IpAddr,
    /// The request's id.
    pub(super) request_id: Arc<str>,
}

/// The identified caller. A handler that takes it answers 401 to everybody else.
pub(super) struct Caller {
    pub(super) identity: Identity,
    peer: IpAddr,
    request_id: Arc<str>,
}

impl Caller {
    /// Whose call it is.
    pub(super) fn id(&self) -> UserId {
        self.identity.account.id
    }

    /// The caller, as the audit record names them.
    pub(super) fn actor(&self) -> Actor {
        Actor {
            user: Some(self.id()),
            via: "api",
            from: self.peer.to_string().into(),
            request_id: Some(self.request_id.clone()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let asker = parts.extensions.get::<Asker>().ok_or_else(|| Refusal::from(AuthError::Missing))?;
        let identity = asker.identity.clone()?;
        Ok(Self { identity, peer: asker.peer, request_id: asker.request_id.clone() })
    }
}

/// Whoever calls, with the reason where nobody is identified.
pub(super) struct Visitor {
    pub(super) identity: Result<Identity, AuthError>,
    pub(super) peer: IpAddr,
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let asker = parts.extensions.get::<Asker>().ok_or_else(|| Refusal::from(AuthError::Missing))?;
        Ok(Self { identity: asker.identity.clone(), peer: asker.peer })
    }
}

/// The named segments of the path, each decoded once.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(Problem::new(&Kind::AMBIGUOUS_PATH, "the path is not percent-encoded UTF-8").into()),
        }
    }
}

/// The query's parameters. One with an empty value is absent, as the new client sends `None`.
pub(super) struct Asked(HashMap<String, String>);

impl Asked {
    /// The parameter's value.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut values = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if value.is_empty() {
                continue;
            }
            if let Some(other) = values.insert(name.clone().into_owned(), value.clone().into_owned())
                && other != value
            {
                return Err(Refusal::input(format!("the parameter `{name}` is given twice")));
            }
        }
        Ok(Self(values))
    }
}

/// The body, up to the limit that the router sets.
pub(super) struct Sent(pub(super) Bytes);

impl Sent {
    /// The body as a JSON object.
    pub(super) fn object(&self) -> Result<serde_json::Value, Refusal> {
        let value: serde_json::Value = serde_json::from_slice(&self.0)
            .map_err(|error| Refusal::input(format!("the body is not JSON: {error}")))?;
        if value.is_object() { Ok(value) } else { Err(Refusal::input("the body is not a JSON object")) }
    }
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::new(&Kind::BODY_TOO_LARGE, "the body is larger than the API reads").into())
            }
            Err(_) => Err(Problem::new(&Kind::MALFORMED_REQUEST, "the body did not arrive whole").into()),
        }
    }
}
