//! The one way from a request's headers to an identity.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::account::{self, Standing};
use super::cache::{Signed, Text, TokenCache, Verified};
use super::credential::{Bearer, Credential, Offered, offered};
use super::issuer::Issuer;
use super::jwks::Fetchers;
use super::jwt::{Accepted, Rules, Token};
use super::key::Key;
use super::source::{Remote, Source};
use super::{Account, AuthError, Directory, Enrol, Identity, Proof, StartError};
use crate::config::{Auth, TrustedHeader};
use crate::policy::UserId;
use crate::store::{HEADER_ISSUER, KeyDigest, Link};

/// How young a token must be for what it says of its user to be news.
const NEWS: SignedDuration = SignedDuration::from_mins(5);

/// Verifies credentials, for the whole process.
pub struct Authenticator {
    header: Option<TrustedHeader>,
    sources: Vec<Arc<Source>>,
    local: bool,
    enrol: Arc<dyn Enrol>,
}

/// A token whose signature and claims are good.
struct Proven {
    source: Arc<Source>,
    accepted: Accepted,
    key: Arc<Key>,
    generation: u64,
}

impl Authenticator {
    /// Verifies by these rules. The built-in issuer is given when it is enabled. The fetchers of the issuers' keys are to be
    /// started on a multi-thread runtime: until then tokens of other issuers are refused with
    /// [`AuthError::Unavailable`].
    ///
    /// # Errors
    /// [`StartError`] for an issuer without audience, one that is named twice, or a CA that does not load.
    pub fn new(auth: &Auth, local: Option<&Issuer>, enrol: Arc<dyn Enrol>) -> Result<(Self, Fetchers), StartError> {
        let mut sources: Vec<Arc<Source>> = Vec::new();
        let mut fetchers = Fetchers::default();
        if let Some(issuer) = local {
            let rules = Rules { issuer: issuer.url(), audience: vec![issuer.client_id().to_owned()], own: true };
            sources.push(Arc::new(Source { rules, keys: issuer.keys(), remote: None }));
        }
        for config in &auth.jwt {
            if config.audience.is_empty() || config.audience.iter().any(String::is_empty) {
                return Err(StartError::NoAudience(config.issuer.clone()));
            }
            if sources.iter().any(|source| *source.rules.issuer == config.issuer) || config.issuer == HEADER_ISSUER {
                return Err(StartError::IssuerTwice(config.issuer.clone()));
            }
            let (keys, refetch) = fetchers.add(config)?;
            let rules = Rules { issuer: config.issuer.as_str().into(), audience: config.audience.clone(), own: false };
            let remote = Some(Remote { config: config.clone(), refetch });
            sources.push(Arc::new(Source { rules, keys, remote }));
        }
        Ok((Self { header: auth.header.clone(), sources, local: local.is_some(), enrol }, fetchers))
    }

    /// Who calls. Ready on the first poll when the token is known, and when the header's account is; waits for an
    /// issuer's keys, or for an account that is being made, where it must.
    ///
    /// `directory` is asked again after an account was made; `peer` is the address of the connection.
    ///
    /// # Errors
    /// [`AuthError`] where nobody is identified: no credential is ignored because another one is good.
    pub async fn authenticate(
        &self,
        cache: &TokenCache,
        directory: impl Fn() -> Arc<Directory>,
        headers: &HeaderMap,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Arc<Identity>, AuthError> {
        let Offered { token, email } = offered(headers, self.header.as_ref(), peer)?;
        match (token, email) {
            (Some(Credential::Bearer(token)), None) => self.by_token(cache, &directory, token, now).await,
            (Some(Credential::Key(digest)), None) => by_key(&directory(), &digest, now).map(Arc::new),
            (None, Some(email)) => self.by_header(&directory, &email).await.map(Arc::new),
            // Boxed, as all that few calls need: the others should have no room for it.
            (Some(Credential::Bearer(token)), Some(email)) => {
                Box::pin(self.by_both(cache, &directory, token, &email, now)).await
            }
            (Some(Credential::Key(digest)), Some(email)) => {
                Box::pin(self.by_key_and_header(&directory, &digest, &email, now)).await.map(Arc::new)
            }
            (None, None) => Err(AuthError::Missing),
        }
    }

    /// Who calls, where that is known at once: by a token that was verified before, or because nobody can be identified by
    /// what is offered. None: [`Self::authenticate`] tells.
    pub fn known(
        &self,
        cache: &TokenCache,
        directory: &Directory,
        headers: &HeaderMap,
        peer: IpAddr,
        now: Timestamp,
    ) -> Option<Result<Arc<Identity>, AuthError>> {
        match offered(headers, self.header.as_ref(), peer) {
            Ok(Offered { token: Some(Credential::Bearer(token)), email: None }) => {
                cache.find(token.bytes(), &self.sources, directory, now)
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether what was identified before is still so: for streams that outlive the request's head.
    #[must_use]
    pub fn still_holds(&self, identity: &Identity, directory: &Directory, now: Timestamp) -> bool {
        let Some(account) = directory.by_id(identity.account.id) else { return false };
        let (issued, linked) = match &identity.proof {
            Proof::Token { .. } => (Some(identity.issued), true),
            Proof::ApiToken => (None, true),
            Proof::Header { email } => (None, account::is_linked_by_header(directory, account.id, email)),
        };
        linked
            && identity.signed.as_ref().is_none_or(|signed| signed.proves(account.id, directory))
            && identity.expires.is_none_or(|end| now < end)
            && identity.signed.as_ref().is_none_or(|signed| signed.holds(now))
            && identity.within.as_ref().is_none_or(|token| directory.api_tokens().hold(token.id, now))
            && account::admit(account, issued).is_ok()
    }

    async fn by_token(
        &self,
        cache: &TokenCache,
        directory: &impl Fn() -> Arc<Directory>,
        token: Bearer<'_>,
        now: Timestamp,
    ) -> Result<Arc<Identity>, AuthError> {
        if let Some(known) = cache.find(token.bytes(), &self.sources, &directory(), now) {
            return known;
        }
        cache.missed();
        Box::pin(self.by_new_token(cache, directory, token, now)).await
    }

    async fn by_new_token(
        &self,
        cache: &TokenCache,
        directory: &impl Fn() -> Arc<Directory>,
        token: Bearer<'_>,
        now: Timestamp,
    ) -> Result<Arc<Identity>, AuthError> {
        let proven = self.prove(token, now).await?;
        let current = directory();
        let (account, current) = match self.standing(&proven, &current)? {
            Standing::Known(account) => self.up_to_date(&proven, account, (directory, current), now).await?,
            Standing::Links(user) => {
                let issuer = proven.source.rules.issuer.to_string();
                self.enrol.link(Link { issuer, subject: proven.accepted.subject.to_string(), user }).await?;
                self.enrolled(&proven, directory())?
            }
            Standing::New(newcomer) => {
                self.enrol.enrol(*newcomer).await?;
                self.enrolled(&proven, directory())?
            }
        };
        keep(cache, token, proven, &account, &current, now)
    }

    /// The account with what the token says of its user now. A store that is away keeps nobody out: the next token that
    /// is not known yet says it again.
    async fn up_to_date(
        &self,
        proven: &Proven,
        account: Arc<Account>,
        (directory, current): (&impl Fn() -> Arc<Directory>, Arc<Directory>),
        now: Timestamp,
    ) -> Result<(Arc<Account>, Arc<Directory>), AuthError> {
        let Proven { source, accepted, .. } = proven;
        // An older token may still be about that says what its user was called before.
        let fresh = accepted.issued.is_some_and(|at| now.duration_since(at) < NEWS);
        let remote = source.remote.as_ref().filter(|_| fresh && !account.disabled);
        let news = remote.and_then(|remote| account::news(&current, &account, &remote.config, &accepted.claims));
        let Some(profile) = news else { return Ok((account, current)) };
        if let Err(error) = self.enrol.update(account.id, profile).await {
            tracing::warn!(%error, user = &*account.name, "what a token says of its user is not noted");
            return Ok((account, current));
        }
        let current = directory();
        let account = current.by_id(account.id).ok_or(USER_GONE)?.clone();
        Ok((account, current))
    }

    /// The account after it was made or linked.
    fn enrolled(
        &self,
        proven: &Proven,
        directory: Arc<Directory>,
    ) -> Result<(Arc<Account>, Arc<Directory>), AuthError> {
        match self.standing(proven, &directory)? {
            Standing::Known(account) => Ok((account, directory)),
            _ => Err(NOT_SHOWN),
        }
    }

    async fn prove(&self, token: Bearer<'_>, now: Timestamp) -> Result<Proven, AuthError> {
        let token = Token::parse(token.token()?)?;
        let unknown = AuthError::Invalid("the token's issuer is not accepted here");
        let issuer = token.issuer().ok_or(unknown.clone())?;
        let source = self.sources.iter().find(|source| *source.rules.issuer == *issuer).ok_or(unknown)?;
        let (accepted, key, generation) = source.verify(&token, now).await?;
        Ok(Proven { source: source.clone(), accepted, key, generation })
    }

    fn standing(&self, proven: &Proven, directory: &Directory) -> Result<Standing, AuthError> {
        let Proven { source, accepted, .. } = proven;
        let Some(remote) = &source.remote else {
            // The built-in issuer names its users by id, which no later user ever has.
            let id = Uuid::try_parse(&accepted.subject).ok().map(UserId);
            let account = id.and_then(|id| directory.by_id(id));
            return account.cloned().map(Standing::Known).ok_or(USER_GONE);
        };
        account::of_token(directory, &remote.config, self.local, &accepted.subject, &accepted.claims)
    }

    async fn by_header(&self, directory: &impl Fn() -> Arc<Directory>, email: &str) -> Result<Identity, AuthError> {
        let rules = self.header.as_ref().ok_or(AuthError::Missing)?;
        let account = match account::of_header(&directory(), rules, email)? {
            Standing::Known(account) => account,
            Standing::Links(user) => {
                let link = Link { issuer: HEADER_ISSUER.to_owned(), subject: email.to_owned(), user };
                self.enrol.link(link).await?;
                shown_by_header(&directory(), email)?
            }
            Standing::New(newcomer) => {
                self.enrol.enrol(*newcomer).await?;
                shown_by_header(&directory(), email)?
            }
        };
        account::admit(&account, None)?;
        Ok(Identity::of(account, Proof::Header { email: email.into() }))
    }

    /// As [`Self::by_both`]: the key is the narrower, and makes no account.
    async fn by_key_and_header(
        &self,
        directory: &impl Fn() -> Arc<Directory>,
        digest: &KeyDigest,
        email: &str,
        now: Timestamp,
    ) -> Result<Identity, AuthError> {
        let rules = self.header.as_ref().ok_or(AuthError::Missing)?;
        let by_key = by_key(&directory(), digest, now)?;
        let of_header = account::of_header(&directory(), rules, email).map(|standing| standing.user());
        if of_header != Ok(Some(by_key.account.id)) {
            return Err(AuthError::Conflicting);
        }
        let by_header = self.by_header(directory, email).await?;
        if by_header.account.id == by_key.account.id { Ok(by_key) } else { Err(AuthError::Conflicting) }
    }

    /// Both must hold and name one user; the token's identity is the narrower, because it ends and may be for one
    /// service. A pair makes an account only where neither has one and the token vouches for the header's address:
    /// one person would otherwise get two accounts, and each of these requests a refusal.
    async fn by_both(
        &self,
        cache: &TokenCache,
        directory: &impl Fn() -> Arc<Directory>,
        token: Bearer<'_>,
        email: &str,
        now: Timestamp,
    ) -> Result<Arc<Identity>, AuthError> {
        let rules = self.header.as_ref().ok_or(AuthError::Missing)?;
        let (of_token, vouched) = match cache.find(token.bytes(), &self.sources, &directory(), now) {
            Some(known) => (Some(known?.account.id), false),
            None => {
                cache.missed();
                let proven = self.prove(token, now).await?;
                (self.standing(&proven, &directory())?.user(), proven.vouches_for(email))
            }
        };
        let of_header = account::of_header(&directory(), rules, email).map(|standing| standing.user());
        let one = match (of_token, of_header) {
            (Some(token), Ok(Some(header))) => token == header,
            (None, Ok(None)) => vouched,
            _ => false,
        };
        if !one {
            return Err(AuthError::Conflicting);
        }
        let by_header = self.by_header(directory, email).await?;
        let by_token = self.by_token(cache, directory, token, now).await?;
        if by_header.account.id == by_token.account.id { Ok(by_token) } else { Err(AuthError::Conflicting) }
    }
}

/// As whom the API token acts.
fn by_key(directory: &Directory, digest: &KeyDigest, now: Timestamp) -> Result<Identity, AuthError> {
    let token = directory.api_tokens().by_key(digest, now).ok_or(AuthError::API_TOKEN)?;
    let account = directory.by_id(token.user).ok_or(AuthError::API_TOKEN)?;
    account::admit(account, None)?;
    let account = account.clone();
    Ok(Identity { expires: token.expires, within: Some(token.clone()), ..Identity::of(account, Proof::ApiToken) })
}

impl Proven {
    fn vouches_for(&self, email: &str) -> bool {
        let Some(remote) = &self.source.remote else { return false };
        account::address(&remote.config, &self.accepted.claims) == (Some(email.to_owned()), true)
    }
}

const USER_GONE: AuthError = AuthError::Invalid("the token's user is gone");

const NOT_SHOWN: AuthError = AuthError::Unavailable("the account was made and is not shown yet\ntry again");

fn shown_by_header(directory: &Directory, email: &str) -> Result<Arc<Account>, AuthError> {
    directory.by_link(HEADER_ISSUER, email).cloned().ok_or(NOT_SHOWN)
}

fn keep(
    cache: &TokenCache,
    token: Bearer<'_>,
    proven: Proven,
    account: &Arc<Account>,
    directory: &Directory,
    now: Timestamp,
) -> Result<Arc<Identity>, AuthError> {
    let Proven { source, accepted, key, generation } = proven;
    let expires = key.retired.map_or(accepted.expires, |end| end.min(accepted.expires));
    let verified = Verified {
        source: source.clone(),
        signed: Signed::new(source, key, accepted.subject),
        generation: generation.into(),
        user: account.id,
        epoch: directory.epoch().into(),
        issued: accepted.issued,
        expires,
        service: accepted.service,
        within: accepted.within,
        claims: accepted.claims,
        known: None.into(),
        text: Text::default(),
    };
    let identity = verified.identify(account, directory, now)?;
    cache.keep(token.bytes(), verified);
    Ok(identity)
}

impl Standing {
    fn user(&self) -> Option<UserId> {
        match self {
            Self::Known(account) => Some(account.id),
            Self::Links(user) => Some(*user),
            Self::New(_) => None,
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let issuers = self.sources.iter().map(|source| &source.rules.issuer);
        f.debug_list().entries(issuers).finish()
    }
}
