//! The built-in issuer: RS256 tokens with Cognito's claims, the keys that sign them, what it publishes about them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use url::Url;

use super::Account;
use super::jwt::{API_TOKEN, SERVICE_AUDIENCE};
use super::key::{Key, KeySet};
use crate::config::{Local, own_issuer};
use crate::store::{self, Actor, ApiTokenId, Item, Mutation, SigningKey, StoreError, Writer};
use crate::vault::{Context, Vault, VaultError};

/// How long a token for one service lives.
const SERVICE_TTL: SignedDuration = SignedDuration::from_mins(5);

/// How long a replaced key verifies beyond the life of the tokens that it signed: another replica may sign with it
/// until the change reaches it.
const ROTATION_MARGIN: SignedDuration = SignedDuration::from_mins(1);

/// The built-in issuer of this process. It signs and verifies with what [`Issuer::load`] and [`Issuer::apply`] gave it.
pub struct Issuer {
    url: Arc<str>,
    client_id: String,
    ttl: SignedDuration,
    /// For one writer at a time; readers take `signing` and `verifying`.
    held: Mutex<BTreeMap<String, Held>>,
    signing: ArcSwap<Option<Signer>>,
    verifying: Arc<ArcSwap<KeySet>>,
    published: ArcSwap<Vec<(Value, Option<Timestamp>)>>,
}

/// A token, and when it ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Minted {
    /// The token: whoever has it is the user.
    pub token: String,
    /// The first second at which it is no longer good.
    pub expires: Timestamp,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why the issuer cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// There is no key yet that signs.
    #[error("the built-in issuer has no signing key\nstart the gateway once to make one")]
    NoKey,
    /// A key could not be made or did not sign.
    #[error("the cipher failed")]
    Cipher,
    /// A key could not be sealed.
    #[error("a signing key cannot be sealed: {0}")]
    Vault(#[from] VaultError),
    /// A key could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a token is to be good for.
#[derive(Clone, Copy)]
enum Use<'a> {
    /// Every call, as a client of the issuer.
    Any { client: &'a str },
    /// The calls by which this service looks up its caller.
    Service { audience: &'a str, within: Option<ApiTokenId> },
}

#[derive(Clone)]
struct Held {
    pair: Arc<RsaKeyPair>,
    created: Timestamp,
    retired: Option<Timestamp>,
}

struct Signer {
    kid: String,
    pair: Arc<RsaKeyPair>,
    retired: Option<Timestamp>,
}

impl Issuer {
    /// The issuer at this public address, whose text without the trailing slash is its `iss`. It has no keys yet.
    #[must_use]
    pub fn new(config: &Local, public_api: &Url) -> Self {
        Self {
            url: own_issuer(public_api).into(),
            client_id: config.client_id.clone(),
            ttl: SignedDuration::try_from(config.token_ttl).unwrap_or(SignedDuration::from_hours(8)),
            held: Mutex::default(),
            signing: ArcSwap::from_pointee(None),
            verifying: Arc::new(ArcSwap::from_pointee(KeySet::new(Vec::new(), None))),
            published: ArcSwap::default(),
        }
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn url(&self) -> Arc<str> {
        self.url.clone()
    }

    /// The `aud` of its tokens.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// How long its tokens live where nothing else is asked for.
    #[must_use]
    pub fn ttl(&self) -> SignedDuration {
        self.ttl
    }

    /// Takes the signing keys of a full load, and drops all others.
    pub fn load(&self, vault: &Vault, items: &[Item]) {
        self.change(|held| {
            held.clear();
            patch(held, vault, items);
        });
    }

    /// Takes what changed. Items of other kinds are ignored.
    pub fn apply(&self, vault: &Vault, items: &[Item]) {
        let concerned = |item: &Item| matches!(item, Item::SigningKey(_) | Item::Gone(store::Key::SigningKey(_)));
        if items.iter().any(concerned) {
            self.change(|held| patch(held, vault, items));
        }
    }

    /// Makes the first key where none signs. Two processes that start at once may both make one: both verify.
    ///
    /// # Errors
    /// [`IssuerError`] where the key cannot be made, sealed or kept.
    pub async fn ensure_key(
        &self,
        store: &dyn Writer,
        vault: &Vault,
        actor: Actor,
        now: Timestamp,
    ) -> Result<(), IssuerError> {
        if self.signer(now).is_ok() {
            return Ok(());
        }
        let key = generate(vault, now)?;
        store.commit(actor, Mutation::PutSigningKey(key.clone())).await?;
        self.apply(vault, &[Item::SigningKey(Box::new(key))]);
        Ok(())
    }

    /// Makes a new key, which signs from now on. The others verify until the tokens that they signed have expired, and
    /// are retired then. Returns the new key's `kid`.
    ///
    /// # Errors
    /// [`IssuerError`] where the key cannot be made, sealed or kept.
    pub async fn rotate(
        &self,
        store: &dyn Writer,
        vault: &Vault,
        actor: Actor,
        now: Timestamp,
    ) -> Result<String, IssuerError> {
        let key = generate(vault, now)?;
        let kid = key.kid.clone();
        store.commit(actor.clone(), Mutation::PutSigningKey(key.clone())).await?;
        let old: Vec<String> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter().filter(|(_, key)| key.retired.is_none()).map(|(kid, _)| kid.clone()).collect()
        };
        self.apply(vault, &[Item::SigningKey(Box::new(key))]);
        let end = now + self.ttl + ROTATION_MARGIN;
        for kid in old {
            store.commit(actor.clone(), Mutation::RetireSigningKey(kid.clone(), end)).await?;
            self.change(|held| {
                if let Some(key) = held.get_mut(&kid) {
                    key.retired = Some(end);
                }
            });
        }
        Ok(kid)
    }

    /// A token of the user, for every call: `ttl` instead of the configured life where it is given. A key that retires
    /// earlier ends it.
    ///
    /// # Errors
    /// [`IssuerError::NoKey`] where no key signs.
    pub fn mint(&self, account: &Account, ttl: Option<Duration>, now: Timestamp) -> Result<Minted, IssuerError> {
        let ttl = ttl.and_then(|ttl| SignedDuration::try_from(ttl).ok()).unwrap_or(self.ttl);
        self.sign(account, Use::Any { client: &self.client_id }, now.checked_add(ttl).unwrap_or(Timestamp::MAX), now)
    }

    /// A token of the user that is good for this one service, for five minutes and never beyond `end`, the end of what
    /// the caller proved. Nothing but the calls of `docs/API.md` §13 may accept it, and `within` an API token only what
    /// that one may be used for.
    ///
    /// # Errors
    /// [`IssuerError::NoKey`] where no key signs.
    pub fn mint_for_service(
        &self,
        account: &Account,
        within: Option<ApiTokenId>,
        namespace: &str,
        service: &str,
        end: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Minted, IssuerError> {
        let usual = now.checked_add(SERVICE_TTL).unwrap_or(now);
        let audience = format!("{SERVICE_AUDIENCE}{namespace}/{service}");
        self.sign(account, Use::Service { audience: &audience, within }, end.map_or(usual, |end| end.min(usual)), now)
    }

    /// The public keys (RFC 7517) of tokens that may still be good.
    #[must_use]
    pub fn jwks(&self, now: Timestamp) -> Value {
        let published = self.published.load();
        let live = published.iter().filter(|(_, end)| end.is_none_or(|end| now < end));
        json!({ "keys": live.map(|(jwk, _)| jwk).collect::<Vec<_>>() })
    }

    /// The discovery document (OpenID Connect Discovery §3), as far as there is something to discover.
    #[must_use]
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": &*self.url,
            "jwks_uri": format!("{}/.well-known/jwks.json", self.url),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": [
                "sub", "cognito:username", "email", "given_name", "family_name", "cognito:groups", "iss", "aud",
                "token_use", "iat", "exp",
            ],
        })
    }

    /// What verifies its tokens, as it changes.
    pub(super) fn keys(&self) -> Arc<ArcSwap<KeySet>> {
        self.verifying.clone()
    }

    fn sign(&self, account: &Account, of: Use<'_>, end: Timestamp, now: Timestamp) -> Result<Minted, IssuerError> {
        let signing = self.signer(now)?;
        let signer = signing.as_ref().as_ref().ok_or(IssuerError::NoKey)?;
        // A token made in the very second in which all others died is a later one.
        let dead = account.tokens_dead_until.map_or(i64::MIN, |dead| dead.as_second());
        let issued = now.as_second().max(dead.saturating_add(1));
        let expires = signer.retired.map_or(end, |retired| end.min(retired)).as_second();
        let (usage, audience) = match of {
            Use::Any { client } => ("id", client),
            Use::Service { audience, .. } => ("service", audience),
        };
        let mut claims = json!({
            "sub": account.id.to_string(),
            "cognito:username": &*account.name,
            "iss": &*self.url,
            "aud": audience,
            "token_use": usage,
            "iat": issued,
            "exp": expires,
        });
        if let Value::Object(claims) = &mut claims {
            let texts = [
                ("email", account.email.as_deref()),
                ("given_name", account.first_name.as_deref()),
                ("family_name", account.last_name.as_deref()),
            ];
            for (claim, text) in texts {
                if let Some(text) = text {
                    claims.insert(claim.into(), Value::from(text));
                }
            }
            if let Use::Service { within: Some(token), .. } = of {
                claims.insert(API_TOKEN.into(), token.0.to_string().into());
            }
            if !account.groups.is_empty() {
                let names: Vec<Value> = account.groups.iter().map(|name| Value::from(&**name)).collect();
                claims.insert("cognito:groups".into(), names.into());
            }
        }
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": signer.kid });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; signer.pair.public_modulus_len()];
        signer
            .pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .map_err(|_| IssuerError::Cipher)?;
        let expires = Timestamp::from_second(expires).unwrap_or(end);
        Ok(Minted { token: format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)), expires })
    }

    fn signer(&self, now: Timestamp) -> Result<arc_swap::Guard<Arc<Option<Signer>>>, IssuerError> {
        let signing = self.signing.load();
        match signing.as_ref() {
            Some(signer) if signer.retired.is_none_or(|end| now < end) => Ok(signing),
            _ => Err(IssuerError::NoKey),
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Held>)) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut held);
        let mut keys = Vec::new();
        let mut published = Vec::new();
        for (kid, key) in held.iter() {
            // The public half comes from the sealed private one: whoever can only write to the store adds no key.
            let jwk = public_jwk(kid, &key.pair);
            match Key::from_jwk(&jwk) {
                Ok(verifying) => keys.push(verifying.until(key.retired)),
                Err(why) => tracing::error!(%kid, why, "a signing key is of no use"),
            }
            published.push((jwk, key.retired));
        }
        // The newest that has no end signs; one with an end only while there is no other.
        let newest = held.iter().max_by_key(|(kid, key)| (key.retired.is_none(), key.created, (*kid).clone()));
        let signer = newest.map(|(kid, key)| Signer { kid: kid.clone(), pair: key.pair.clone(), retired: key.retired });
        self.verifying.store(Arc::new(KeySet::new(keys, None)));
        self.published.store(Arc::new(published));
        self.signing.store(Arc::new(signer));
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).finish_non_exhaustive()
    }
}

fn patch(held: &mut BTreeMap<String, Held>, vault: &Vault, items: &[Item]) {
    for item in items {
        match item {
            Item::SigningKey(key) => match open(vault, key) {
                Ok(pair) => {
                    let pair = Arc::new(pair);
                    held.insert(key.kid.clone(), Held { pair, created: key.created, retired: key.retired });
                }
                Err(error) => {
                    // Fails closed: what it signed is refused until its envelope opens.
                    held.remove(&key.kid);
                    tracing::error!(kid = %key.kid, %error, "a signing key cannot be opened");
                }
            },
            Item::Gone(store::Key::SigningKey(kid)) => {
                held.remove(kid);
            }
            _ => {}
        }
    }
}

fn open(vault: &Vault, key: &SigningKey) -> Result<RsaKeyPair, IssuerError> {
    let pkcs8 = vault.open(Context::SigningKey(&key.kid), &key.sealed)?;
    RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| IssuerError::Cipher)
}

/// Makes a key: 2,048 bits, the cheapest to verify that RFC 7518 allows.
fn generate(vault: &Vault, now: Timestamp) -> Result<SigningKey, IssuerError> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| IssuerError::Cipher)?;
    let kid = uuid::Uuid::new_v4().simple().to_string();
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| IssuerError::Cipher)?;
    let sealed = vault.seal(Context::SigningKey(&kid), pkcs8.as_ref())?;
    let public = public_jwk(&kid, &pair);
    Ok(SigningKey { kid, sealed, public, created: now, retired: None })
}

fn public_jwk(kid: &str, pair: &RsaKeyPair) -> Value {
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let number = |n: &[u8]| URL_SAFE_NO_PAD.encode(n);
    json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": number(&public.n), "e": number(&public.e),
    })
}
