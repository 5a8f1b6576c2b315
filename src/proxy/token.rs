//! The token that travels on to services that check their callers themselves: one minted for the service, or, where the
//! configuration file says so, the caller's own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};

use super::error::{Kind, Problem};
use super::gateway::Gateway;
use super::route::Route;
use crate::config::TokenForwarding;
use crate::identity::{Account, ApiTokenId, Identity};
use crate::policy::{ResourceId, UserId};

/// The spelling that services written for Carta read.
const X_CARTA_TOKEN: HeaderName = HeaderName::from_static("x_carta_token");

/// The least time that a token sent on is good for.
const LEAST: SignedDuration = SignedDuration::from_secs(60);

/// The most tokens remembered.
const MOST: usize = 4096;

/// One thread's minted tokens: signing costs more than all the rest of a call.
#[derive(Debug, Default)]
pub struct MintedTokens(RefCell<HashMap<For, Kept, ahash::RandomState>>);

/// For whom a token was minted: the user, the API token that identified them, the service.
type For = (UserId, Option<ApiTokenId>, ResourceId);

#[derive(Debug)]
struct Kept {
    /// What the token says of the user is said of exactly this account.
    account: Arc<Account>,
    /// The name of the service that it says it is for.
    label: Arc<str>,
    value: HeaderValue,
    expires: Timestamp,
}

/// The caller's own token, to be taken before the headers are stripped. None unless the service gets it.
#[must_use]
pub fn own(headers: &HeaderMap, route: &Route) -> Option<HeaderValue> {
    if route.forward_token() != TokenForwarding::Full {
        return None;
    }
    let value = headers.get(AUTHORIZATION)?;
    let scheme = value.as_bytes().get(..7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| value.clone())
}

/// The header for the service, if it gets a token. A caller without a token of their own gets one minted in its stead.
///
/// # Errors
/// 503 where no token can be minted.
pub fn forwarded(
    gateway: &Gateway,
    minted: &MintedTokens,
    who: &Identity,
    route: &Route,
    own: Option<HeaderValue>,
    now: Timestamp,
) -> Result<Option<(HeaderName, HeaderValue)>, Problem> {
    if route.forward_token() == TokenForwarding::No {
        return Ok(None);
    }
    let mut value = match own {
        Some(own) => own,
        None => minted.mint(gateway, who, route, now)?.0,
    };
    value.set_sensitive(true);
    Ok(Some((X_CARTA_TOKEN, value)))
}

/// The token by which a service behind a tunnel checks its caller. It is minted whatever the service's table says of
/// tokens: the service cannot do without one, and the caller's own never goes to whoever opened the tunnel.
#[derive(Clone, Debug)]
pub struct CallersToken {
    value: HeaderValue,
    expires: Timestamp,
}

impl CallersToken {
    /// The thread's, or a new one.
    ///
    /// # Errors
    /// 503 where no token can be minted.
    pub fn of(
        gateway: &Gateway,
        minted: &MintedTokens,
        who: &Identity,
        route: &Route,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let (value, expires) = minted.mint(gateway, who, route, now)?;
        Ok(Self { value, expires })
    }

    /// The same one while it is good for a while, else a new one: a call may have waited for long.
    ///
    /// # Errors
    /// 503 where no token can be minted.
    pub fn renewed(self, gateway: &Gateway, who: &Identity, route: &Route, now: Timestamp) -> Result<Self, Problem> {
        if self.expires.duration_since(now) > LEAST {
            return Ok(self);
        }
        let (value, expires) = mint(gateway, who, route, now)?;
        Ok(Self { value, expires })
    }

    /// `Bearer` and the token.
    #[must_use]
    pub fn text(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }
}

impl MintedTokens {
    /// One for this caller and this service, with its end: one that was made before, while it is good for a while.
    fn mint(
        &self,
        gateway: &Gateway,
        who: &Identity,
        route: &Route,
        now: Timestamp,
    ) -> Result<(HeaderValue, Timestamp), Problem> {
        let key = (who.account.id, who.within.as_ref().map(|token| token.id), route.id());
        let good = |kept: &Kept| {
            Arc::ptr_eq(&kept.account, &who.account)
                && kept.label == *route.shared_label()
                && kept.expires.duration_since(now) > LEAST
                && who.expires.is_none_or(|end| kept.expires <= end)
        };
        if let Some(kept) = self.0.borrow().get(&key).filter(|kept| good(kept)) {
            return Ok((kept.value.clone(), kept.expires));
        }
        let (value, expires) = mint(gateway, who, route, now)?;
        let mut kept = self.0.borrow_mut();
        if kept.len() >= MOST {
            kept.retain(|_, kept| kept.expires.duration_since(now) > LEAST);
            if kept.len() >= MOST {
                kept.clear();
            }
        }
        let label = route.shared_label().clone();
        kept.insert(key, Kept { account: who.account.clone(), label, value: value.clone(), expires });
        Ok((value, expires))
    }
}

fn mint(gateway: &Gateway, who: &Identity, route: &Route, now: Timestamp) -> Result<(HeaderValue, Timestamp), Problem> {
    let cannot = |reason: String| {
        tracing::error!(service = route.label(), reason, "no token can be minted for the service");
        Problem::new(&Kind::SERVICE_MISCONFIGURED, "the gateway cannot make the token that the service asks for")
    };
    let issuer = gateway.shared().issuer.as_ref().ok_or_else(|| cannot("`auth.local` is not enabled".to_owned()))?;
    // A token is no wider than the API token that the caller used.
    let within = who.within.as_ref().map(|token| token.id);
    let token = issuer
        .mint_for_service(&who.account, within, route.namespace(), route.name(), who.expires, now)
        .map_err(|fault| cannot(fault.to_string()))?;
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.token)).map_err(|fault| cannot(fault.to_string()))?;
    value.set_sensitive(true);
    Ok((value, token.expires))
}
