//! The keys of other issuers: fetched in the background, refetched when a token names one that is not known.
//!
//! Workers read the keys from an `ArcSwap`; to have them fetched they send a note to the issuer's fetcher, which runs on
//! the control runtime, and wait. Whoever asks during a fetch shares its result.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::fetch::{Client, Document, FetchError, TIMEOUT};
use super::json::strict_object;
use super::key::{Key, KeySet};
use super::{AuthError, StartError};
use crate::config::{JwtIssuer, is_loopback};

/// The most keys that an issuer may publish.
const MAX_KEYS: usize = 100;

/// How often keys are fetched in the background.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two refreshes at least, whatever the issuer's `Cache-Control` says.
    pub shortest: Duration,
    /// Between two refreshes at most.
    pub longest: Duration,
    /// Where the issuer says nothing.
    pub unsaid: Duration,
    /// After a fetch that failed: doubled each time, up to the shortest refresh.
    pub retry: Duration,
}

impl Default for Pace {
    /// The longest is half of the time that keys are good for without an answer of their issuer, so that one outage
    /// does not make them stale at once.
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(5 * 60),
            longest: Duration::from_secs(12 * 3600),
            unsaid: Duration::from_secs(3600),
            retry: Duration::from_secs(5),
        }
    }
}

/// What callers with unknown keys may cause: this many fetches at once, then one an interval. Tokens that name unknown
/// keys cost nothing to make.
const DEMAND_BURST: u32 = 3;
const DEMAND_INTERVAL: Duration = Duration::from_secs(10);

/// Requests that may wait for one issuer's keys.
const WAITING: usize = 1024;

/// How long a request waits for keys: longer than a fetch may take.
const PATIENCE: Duration = Duration::from_secs(12);

/// Fetches the keys of every configured issuer.
#[derive(Default)]
pub struct Fetchers(Vec<Fetcher>);

/// A worker's way to have an issuer's keys fetched.
#[derive(Clone)]
pub(super) struct Refetch(mpsc::Sender<oneshot::Sender<()>>);

struct Fetcher {
    issuer: String,
    place: Place,
    client: Client,
    keys: Arc<ArcSwap<KeySet>>,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Where the keys are.
enum Place {
    Jwks(Url),
    /// OpenID Connect Discovery §4.
    Discovery(Url),
}

impl Fetchers {
    /// Starts one task an issuer on the runtime that this is called on; each fetches at once and ends with the token.
    pub fn start(self, pace: Pace, tasks: &TaskTracker, shutdown: &CancellationToken) {
        for fetcher in self.0 {
            tasks.spawn(fetcher.run(pace, shutdown.clone()));
        }
    }

    pub(super) fn add(&mut self, config: &JwtIssuer) -> Result<(Arc<ArcSwap<KeySet>>, Refetch), StartError> {
        let issuer = config.issuer.clone();
        let place = Place::of(config).map_err(|why| StartError::Address { issuer: issuer.clone(), why })?;
        let client = Client::new(config.ca.as_deref())
            .map_err(|why| StartError::Roots { issuer: issuer.clone(), why: why.to_string() })?;
        let keys = Arc::new(ArcSwap::from_pointee(KeySet::new(Vec::new(), None)));
        let (ask, asked) = mpsc::channel(WAITING);
        self.0.push(Fetcher { issuer, place, client, keys: keys.clone(), asked });
        Ok((keys, Refetch(ask)))
    }
}

impl std::fmt::Debug for Fetchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|fetcher| &fetcher.issuer)).finish()
    }
}

impl Refetch {
    /// Returns once the keys were fetched after this was called, or were fetched so recently that they are not fetched
    /// again: look into the keys to learn which.
    pub(super) async fn ask(&self) -> Result<(), AuthError> {
        let unavailable = AuthError::Unavailable("the keys of the token's issuer cannot be fetched\ntry again later");
        let (done, answer) = oneshot::channel();
        self.0.try_send(done).map_err(|_| unavailable.clone())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(unavailable),
        }
    }
}

impl Fetcher {
    async fn run(mut self, pace: Pace, shutdown: CancellationToken) {
        let mut next = Instant::now();
        let mut failures = 0;
        let mut budget = Budget::full(Instant::now());
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
                asked = self.asked.recv() => {
                    let Some(waiter) = asked else { return };
                    if !budget.take(Instant::now()) {
                        let _ = waiter.send(());
                        continue;
                    }
                    waiting.push(waiter);
                }
            }
            let fetched = tokio::select! {
                () = shutdown.cancelled() => return,
                fetched = self.fetch() => fetched,
            };
            next = Instant::now() + self.settle(fetched, pace, &mut failures);
            // Those who asked meanwhile share the result.
            while let Ok(waiter) = self.asked.try_recv() {
                waiting.push(waiter);
            }
            for waiter in waiting.drain(..) {
                // It may have gone away.
                let _ = waiter.send(());
            }
        }
    }

    /// Takes the result over, and says when to fetch again.
    fn settle(
        &self,
        fetched: Result<(KeySet, Option<Duration>), FetchError>,
        pace: Pace,
        failures: &mut u32,
    ) -> Duration {
        match fetched {
            Ok((keys, max_age)) => {
                *failures = 0;
                if keys.len() == 0 {
                    tracing::warn!(issuer = %self.issuer, "the issuer publishes no key that can be used");
                } else {
                    tracing::debug!(issuer = %self.issuer, keys = keys.len(), "fetched the issuer's keys");
                }
                self.keys.store(Arc::new(keys));
                max_age.unwrap_or(pace.unsaid).max(pace.shortest).min(pace.longest)
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, "cannot fetch the issuer's keys");
                let wait = pace.retry.saturating_mul(1 << (*failures).min(10));
                *failures += 1;
                wait.min(pace.shortest)
            }
        }
    }

    /// Discovery and keys together take no longer than one document may, so that those who wait are not left alone.
    async fn fetch(&self) -> Result<(KeySet, Option<Duration>), FetchError> {
        tokio::time::timeout(TIMEOUT, self.fetch_documents()).await.map_err(|_| FetchError::Timeout)?
    }

    async fn fetch_documents(&self) -> Result<(KeySet, Option<Duration>), FetchError> {
        let found;
        let place = match &self.place {
            Place::Jwks(url) => url,
            Place::Discovery(url) => {
                found = discovered(&self.client.get(url).await?, &self.issuer, url)?;
                &found
            }
        };
        let document = self.client.get(place).await?;
        Ok((parse(&document, &self.issuer)?, document.max_age))
    }
}

impl Place {
    fn of(config: &JwtIssuer) -> Result<Self, &'static str> {
        if let Some(url) = &config.jwks_url {
            return fetchable(url).map(|()| Self::Jwks(url.clone()));
        }
        let url = format!("{}/.well-known/openid-configuration", config.issuer.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| "the issuer is no URL, so set `jwks_url`")?;
        fetchable(&url).map(|()| Self::Discovery(url))
    }
}

/// Where a discovery document says that the keys are (OpenID Connect Discovery §4.3).
fn discovered(document: &Document, issuer: &str, from: &Url) -> Result<Url, FetchError> {
    let members = strict_object(&document.body).ok_or(FetchError::Content("it is no JSON object"))?;
    if members.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(FetchError::Content("its `issuer` is another one than was asked"));
    }
    let place = members.get("jwks_uri").and_then(Value::as_str).and_then(|uri| Url::parse(uri).ok());
    let place = place.ok_or(FetchError::Content("its `jwks_uri` is no URL"))?;
    fetchable(&place).map_err(FetchError::Content)?;
    // Plain HTTP to another machine is for issuers that the configuration lets be asked that way.
    if place.scheme() != "https" && (from.scheme() == "https" || is_loopback(from) && !is_loopback(&place)) {
        return Err(FetchError::Content("its `jwks_uri` leaves https, or this machine"));
    }
    Ok(place)
}

fn fetchable(url: &Url) -> Result<(), &'static str> {
    match url.scheme() {
        "http" | "https" if url.has_host() && url.username().is_empty() && url.password().is_none() => Ok(()),
        "http" | "https" => Err("the URL has no host, or has user information"),
        _ => Err("the URL is neither https nor http"),
    }
}

/// The usable keys of a JWKS (RFC 7517 §5); the others are left out.
fn parse(document: &Document, issuer: &str) -> Result<KeySet, FetchError> {
    let members = strict_object(&document.body).ok_or(FetchError::Content("it is no JSON object"))?;
    let Some(Value::Array(list)) = members.get("keys") else {
        return Err(FetchError::Content("its `keys` are no list"));
    };
    if list.len() > MAX_KEYS {
        return Err(FetchError::Content("it has more than 100 keys"));
    }
    let mut keys = Vec::new();
    for jwk in list {
        match Key::from_jwk(jwk) {
            Ok(key) => keys.push(key),
            Err(why) => tracing::debug!(issuer, why, "a key of the issuer is of no use"),
        }
    }
    Ok(KeySet::new(keys, Some(Timestamp::now())))
}

/// A bucket of fetches that callers may cause.
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn full(now: Instant) -> Self {
        Self { left: DEMAND_BURST, since: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.left < DEMAND_BURST && now.duration_since(self.since) >= DEMAND_INTERVAL {
            self.left += 1;
            self.since += DEMAND_INTERVAL;
        }
        if self.left == DEMAND_BURST {
            self.since = now;
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &str) -> Document {
        Document { body: body.to_owned().into(), max_age: None }
    }

    #[test]
    fn a_discovery_document_must_be_the_issuers_own_and_stay_on_https() {
        let from = |scheme: &str| Url::parse(&format!("{scheme}://idp/.well-known/openid-configuration")).unwrap();
        let read = |body: &str, scheme| discovered(&document(body), "https://idp", &from(scheme));
        assert!(read(r#"{"issuer":"https://idp","jwks_uri":"https://keys.example/k"}"#, "https").is_ok());
        for body in [
            r#"{"issuer":"https://idp/","jwks_uri":"https://idp/k"}"#,
            r#"{"jwks_uri":"https://idp/k"}"#,
            r#"{"issuer":"https://idp"}"#,
            r#"{"issuer":"https://idp","jwks_uri":"file:///etc/passwd"}"#,
            r#"{"issuer":"https://idp","jwks_uri":"http://idp/k"}"#,
            r#"{"issuer":"https://idp","jwks_uri":"https://u:p@idp/k"}"#,
            r#"{"issuer":"https://evil","issuer":"https://idp","jwks_uri":"https://idp/k"}"#,
            "[]",
            "",
        ] {
            assert!(read(body, "https").is_err(), "{body}");
        }
        assert!(read(r#"{"issuer":"https://idp","jwks_uri":"http://idp/k"}"#, "http").is_ok());
        let here = Url::parse("http://127.0.0.1:1/.well-known/openid-configuration").unwrap();
        let read = |place: &str| {
            discovered(&document(&format!(r#"{{"issuer":"i","jwks_uri":"{place}"}}"#)), "i", &here).is_ok()
        };
        assert!(read("http://localhost:2/k") && read("https://idp/k") && !read("http://idp/k"));
    }

    #[test]
    fn a_key_set_is_bounded_and_leaves_out_what_is_of_no_use() {
        assert!(parse(&document(r#"{"keys":[]}"#), "i").unwrap().len() == 0);
        assert!(
            parse(&document(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"AKP"},7]}"#), "i").unwrap().len() == 0
        );
        let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; 101].join(","));
        for body in [many.as_str(), r#"{"keys":{}}"#, "{}", "null", "<html>"] {
            assert!(parse(&document(body), "i").is_err());
        }
    }

    #[test]
    fn callers_may_cause_a_few_fetches_and_then_one_an_interval() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        let takes = |budget: &mut Budget, at| (0..10).filter(|_| budget.take(start + at)).count();
        assert_eq!(takes(&mut budget, Duration::ZERO), 3);
        assert_eq!(takes(&mut budget, Duration::from_secs(9)), 0);
        assert_eq!(takes(&mut budget, Duration::from_secs(10)), 1);
        assert_eq!(takes(&mut budget, Duration::from_secs(25)), 1);
        assert_eq!(takes(&mut budget, Duration::from_secs(3600)), 3);
    }
}
