//! What handlers take from a request, each piece refused with a problem of ours.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Api;
use super::error::Refusal;
use crate::config::Limits;
use crate::identity::{AuthError, Identity};
use crate::policy::UserId;
use crate::proxy::error::{Kind, Problem};
use crate::store::Actor;

/// What was found out about a request before the router sees it.
#[derive(Clone)]
pub(super) struct Asker {
    /// Who calls, or why nobody is identified.
    pub(super) identity: Result<Arc<Identity>, AuthError>,
    /// From where.
    pub(super) peer: IpAddr,
    /// Whether by TLS to this listener.
    pub(super) tls: bool,
    /// The request's id.
    pub(super) request_id: Arc<str>,
}

/// The identified caller. A handler that takes it answers 401 to everybody else.
pub(super) struct Caller {
    pub(super) identity: Arc<Identity>,
    peer: IpAddr,
    request_id: Arc<str>,
    asked: Asked,
}

impl Caller {
    /// Whose call it is.
    pub(super) fn id(&self) -> UserId {
        self.identity.account.id
    }

    /// The caller, as the audit record names them: for a write that everything else allows.
    ///
    /// # Errors
    /// 400 where the caller wants the write to wait for something that this gateway does not know.
    pub(super) fn actor(&self) -> Result<Actor, Refusal> {
        // One replica is the whole fleet: what the local snapshot shows, every replica shows.
        if let Some(other) = self.asked.value("barrier")?.filter(|barrier| *barrier != "fleet") {
            return Err(Refusal::input(format!("unknown barrier `{other}`\nwrite `fleet`, or leave it out")));
        }
        // What a key did that others got hold of can be told from what its user did.
        let (via, from) = match &self.identity.within {
            Some(token) => ("api-token", format!("{} {}", self.peer, token.name)),
            None => ("api", self.peer.to_string()),
        };
        Ok(Actor { user: Some(self.id()), via, from: from.into(), request_id: Some(self.request_id.clone()) })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let asker = parts.extensions.get::<Asker>().ok_or_else(|| Refusal::from(AuthError::Missing))?;
        let identity = asker.identity.clone()?;
        Ok(Self { identity, peer: asker.peer, request_id: asker.request_id.clone(), asked: Asked::of(parts) })
    }
}

/// Whoever calls, with the reason where nobody is identified.
pub(super) struct Visitor {
    pub(super) identity: Result<Arc<Identity>, AuthError>,
    pub(super) peer: IpAddr,
    pub(super) request_id: Arc<str>,
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let asker = parts.extensions.get::<Asker>().ok_or_else(|| Refusal::from(AuthError::Missing))?;
        Ok(Self { identity: asker.identity.clone(), peer: asker.peer, request_id: asker.request_id.clone() })
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
pub(super) struct Asked(BTreeMap<String, Given>);

/// What the query says of a parameter.
enum Given {
    Once(String),
    /// With two values. Refused only where it is asked for, as the content is judged last.
    Twice,
}

impl Asked {
    /// The parameter's value.
    ///
    /// # Errors
    /// 400 where the query has two.
    pub(super) fn value(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            Some(Given::Once(value)) => Ok(Some(value)),
            Some(Given::Twice) => Err(Refusal::input(format!("the parameter `{name}` is given twice"))),
            None => Ok(None),
        }
    }

    /// Every parameter that has one value, by name.
    pub(super) fn once(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, given)| match given {
            Given::Once(value) => Some((name.as_str(), value.as_str())),
            Given::Twice => None,
        })
    }

    fn of(parts: &Parts) -> Self {
        let mut values = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if value.is_empty() {
                continue;
            }
            let given = match values.get(&*name) {
                Some(Given::Once(other)) if *other != value => Given::Twice,
                Some(Given::Twice) => Given::Twice,
                _ => Given::Once(value.into_owned()),
            };
            values.insert(name.into_owned(), given);
        }
        Self(values)
    }
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// The body, not read yet: whoever may not send it is not waited for.
pub(super) struct Sent(Body);

impl Sent {
    /// Reads the body, which is a JSON object, and judges the caller anew: the wait may outlast the credential, and the
    /// right to be decided for.
    ///
    /// # Errors
    /// 408, 413 beyond the limits; 400 for anything that is no object; then what [`Api::still_decides_for`] says.
    pub(super) async fn object(self, api: &Api, caller: &Caller) -> Result<Value, Refusal> {
        let body = self.anybodys_object(api.config.limits.api_body_bytes, &api.config.limits).await?;
        api.still_decides_for(&caller.identity)?;
        Ok(body)
    }

    /// The same from a caller who needs a right to send it, which `may` finds: before the wait, because nobody is waited
    /// for who may not, and after it, because it may outlast the right.
    ///
    /// # Errors
    /// What `may` refuses; then as for [`Sent::object`].
    pub(super) async fn object_where<T>(
        self,
        api: &Api,
        caller: &Caller,
        may: impl Fn() -> Result<T, Refusal>,
    ) -> Result<(Value, T), Refusal> {
        drop(may()?);
        let body = self.object(api, caller).await?;
        Ok((body, may()?))
    }

    /// The object that somebody sends who need not be known, in at most `most` bytes.
    ///
    /// # Errors
    /// 408, 413 beyond the limits; 400 for anything that is no object.
    pub(super) async fn anybodys_object(self, most: usize, limits: &Limits) -> Result<Value, Refusal> {
        let bytes = self.bytes_within(most, limits).await?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| Refusal::input(format!("the body is not JSON: {error}")))?;
        if value.is_object() { Ok(value) } else { Err(Refusal::input("the body is not a JSON object")) }
    }

    /// The body as it came, of at most `most` bytes.
    ///
    /// # Errors
    /// 408, 413 beyond the limits.
    pub(super) async fn bytes_within(self, most: usize, limits: &Limits) -> Result<Bytes, Refusal> {
        let reading = Limited::new(self.0, most.min(limits.api_body_bytes)).collect();
        let read = tokio::time::timeout(limits.api_body_timeout, reading).await.map_err(|_| {
            let detail = "the body of the request did not arrive in time\nsend it at once";
            Problem::new(&Kind::REQUEST_TIMEOUT, detail)
        })?;
        let bytes = read.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Problem::new(&Kind::BODY_TOO_LARGE, "the body is larger than the API reads"),
            None => Problem::new(&Kind::MALFORMED_REQUEST, "the body did not arrive whole"),
        })?;
        Ok(bytes.to_bytes())
    }
}

impl<S: Sync> FromRequest<S> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(request.into_body()))
    }
}
