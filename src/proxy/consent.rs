//! What a user consents to: a secret, a service, where it is and how it sends the secret; and the words that ask.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::error::{Kind, Problem};
use super::inject::{Named, encoded};
use super::template::Values;
use crate::config::{Endpoint, Service, Template, TemplatePart, Variable};
use crate::policy::{ResourceId, UserId};
use crate::shell::word;

/// Between the origins of one consent; no origin holds it.
const SEPARATOR: &str = ", ";

/// A secret that a service asks for, and what a consent to it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The secret's name, lower case.
    pub secret: Arc<str>,
    /// Digest of service, origins, and every template that has the secret, with its place. Never shortened where it is
    /// shown: who registers a service chooses both sides of a collision.
    pub fingerprint: Arc<str>,
    /// The origins of every endpoint, for people; see [`listed`].
    pub origins: Arc<str>,
    /// Whether it would leave this machine without encryption.
    pub exposed: bool,
}

/// A user's word, taken from the first use of a service that the configuration file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstConsent {
    /// Whose secret.
    pub user: UserId,
    /// For which service.
    pub service: ResourceId,
    /// Which secret, and what the word is for.
    pub of: SecretUse,
}

/// Why a first use is no consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unnoted {
    /// The user has as many as one may have; says which bound, and what to remove.
    Full(String),
    /// It could not be noted now, with the reason for the log.
    Unavailable(String),
}

/// Notes a consent that a first use is.
#[async_trait]
pub trait FirstUse: Send + Sync {
    /// Notes the consent, unless the user has said something about it meanwhile, and returns once the local snapshot
    /// shows what holds.
    ///
    /// # Errors
    /// Where it could not be noted: the secret then stays where it is.
    async fn consent(&self, consent: FirstConsent) -> Result<(), Unnoted>;
}

impl SecretUse {
    /// Whether the caller has the secret and has not consented. One that is not there needs none, and is missed later.
    pub(super) fn lacks_consent(&self, values: &Values<'_>) -> bool {
        values.own.has(&self.secret, values.now) && !values.own.consented(&self.secret, &self.fingerprint)
    }
}

/// 400 `secret-consent`, with the line to paste.
#[must_use]
pub fn needs_consent(of: &SecretUse, named: &Named<'_>) -> Problem {
    let SecretUse { secret, origins, .. } = of;
    let detail = format!("your secret `{secret}` may not go to `{}` at {origins} before you allow it", named.service);
    with_line(detail, of, named)
}

/// 400 `secret-consent` for a word that was given to another thing than the service is now, with the line for that.
#[must_use]
pub fn changed_since(of: &SecretUse, named: &Named<'_>) -> Problem {
    let SecretUse { secret, origins, .. } = of;
    let detail = format!(
        "`{}` has changed since you were asked: your secret `{secret}` would go to {origins} now, or be sent otherwise",
        named.service
    );
    with_line(detail, of, named)
}

fn with_line(what: String, of: &SecretUse, named: &Named<'_>) -> Problem {
    let SecretUse { secret, fingerprint, .. } = of;
    let Named { service, api } = named;
    let url = format!("{api}/secret/{}/consent?service={service}&shown={fingerprint}", encoded(secret));
    let way = if of.exposed { "\nthe way there is not encrypted: whoever is on it can read the secret" } else { "" };
    let detail = format!(
        "{what}{way}\n\
         allow it: curl -X POST -H \"Authorization: Bearer $TOKEN\" {}",
        word(&url)
    );
    let problem = Problem::new(&Kind::SECRET_CONSENT, detail);
    let problem = problem.with("secret", &**secret).with("service", *service);
    problem.with("origins", listed(&of.origins)).with("shown", &**fingerprint)
}

/// The origins of a consent, which are kept as one text, each by itself.
#[must_use]
pub fn listed(origins: &str) -> Vec<&str> {
    origins.split(SEPARATOR).collect()
}

/// Every secret that the templates name, each with the digest of what a consent to it is for.
pub(super) fn uses(id: ResourceId, service: &Service) -> Vec<SecretUse> {
    let inject = &service.inject;
    let headers = inject.headers.iter().map(|(name, template)| (format!("header {name}"), template));
    let query = inject.query.iter().map(|(name, template)| (format!("query {name}"), template));
    let cookies = inject.cookies.iter().map(|(name, template)| (format!("cookie {name}"), template));
    let basic = inject.basic.iter().flat_map(|basic| {
        [("basic username".to_owned(), &basic.username), ("basic password".to_owned(), &basic.password)]
    });
    let places: Vec<_> = headers.chain(query).chain(cookies).chain(basic).collect();

    let mut origins: Vec<_> = service.endpoints.iter().map(|e| e.url.origin().ascii_serialization()).collect();
    origins.sort_unstable();
    origins.dedup();

    let mut names: Vec<_> = places.iter().flat_map(|(_, template)| secrets(template)).cloned().collect();
    names.sort_unstable();
    names.dedup();
    let shown: Arc<str> = origins.join(SEPARATOR).into();
    let exposed = service.endpoints.iter().any(Endpoint::is_exposed);
    let fingerprint = |secret: &Arc<str>| {
        let with_it = places.iter().filter(|(_, template)| secrets(template).any(|name| name == secret));
        let templates = with_it.flat_map(|(place, template)| [place.as_str(), &*template.written]);
        fingerprint(id, secret, origins.iter().map(String::as_str), templates)
    };
    names
        .iter()
        .map(|name| SecretUse { secret: name.clone(), fingerprint: fingerprint(name), origins: shown.clone(), exposed })
        .collect()
}

fn secrets(template: &Template) -> impl Iterator<Item = &Arc<str>> {
    template.parts.iter().filter_map(|part| match part {
        TemplatePart::Variable(Variable::Secret(name)) => Some(name),
        _ => None,
    })
}

/// Each part with its length before it, so that no two lists have one digest.
fn fingerprint<'a>(
    id: ResourceId,
    secret: &str,
    origins: impl Iterator<Item = &'a str>,
    templates: impl Iterator<Item = &'a str>,
) -> Arc<str> {
    let mut digest = Digest::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        digest.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(bytes);
    };
    add(b"carta-gateway consent 1");
    add(id.0.as_bytes());
    add(secret.as_bytes());
    for (mark, parts) in [(&b"origins"[..], origins.collect::<Vec<_>>()), (b"templates", templates.collect())] {
        add(mark);
        add(&u64::try_from(parts.len()).unwrap_or(u64::MAX).to_be_bytes());
        parts.iter().for_each(|part| add(part.as_bytes()));
    }
    BASE64_URL_SAFE_NO_PAD.encode(digest.finish()).into()
}
