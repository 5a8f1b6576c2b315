//! An issuer of tokens whose every claim and header a test decides, with its keys behind HTTP.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Upstream;

/// The audience that its tokens are for.
pub const AUDIENCE: &str = "urn:gateway";

/// The issuer.
pub struct Issuer {
    server: Upstream,
    published: Arc<Mutex<Published>>,
    pair: Mutex<(String, Arc<RsaKeyPair>)>,
}

struct Published {
    keys: Vec<Value>,
    out_of_order: bool,
    instead: Option<Vec<u8>>,
}

impl Issuer {
    /// An issuer with one key, which answers discovery and `/keys`.
    pub fn start() -> Self {
        let (kid, pair) = new_key();
        let published =
            Arc::new(Mutex::new(Published { keys: vec![jwk(&kid, &pair)], out_of_order: false, instead: None }));
        let shown = Arc::clone(&published);
        let server = Upstream::scripted(move |exchange| {
            exchange.read_body()?;
            let own = format!("http://{}", exchange.received.header("host").unwrap_or_default());
            let shown = shown.lock().unwrap();
            let json = [("Content-Type", "application/json")];
            match exchange.received.head.target() {
                _ if shown.out_of_order => exchange.answer("500 Internal Server Error", &[], "out of order"),
                "/.well-known/openid-configuration" => {
                    let document = json!({ "issuer": own, "jwks_uri": format!("{own}/keys") });
                    exchange.answer("200 OK", &json, document.to_string())
                }
                "/keys" => {
                    let keys = json!({ "keys": shown.keys }).to_string().into_bytes();
                    exchange.answer("200 OK", &json, shown.instead.clone().unwrap_or(keys))
                }
                _ => exchange.answer("404 Not Found", &[], ""),
            }
        });
        Self { server, published, pair: Mutex::new((kid, Arc::new(pair))) }
    }

    /// Its `iss`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The table for `gateway.toml`, with further lines.
    pub fn table(&self, lines: &str) -> String {
        format!(
            "[[auth.jwt]]\nissuer = \"{}\"\naudience = [\"{AUDIENCE}\"]\ncreate_users = true\n{lines}\n",
            self.url()
        )
    }

    /// How often its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.server.received().iter().filter(|received| received.head.target() == "/keys").count()
    }

    /// Whether everything is answered with 500.
    pub fn out_of_order(&self, broken: bool) {
        self.published.lock().unwrap().out_of_order = broken;
    }

    /// Answers the keys' address with these bytes.
    pub fn publish_instead(&self, bytes: impl Into<Vec<u8>>) {
        self.published.lock().unwrap().instead = Some(bytes.into());
    }

    /// Withdraws the key and signs with another.
    pub fn rotate(&self) {
        let (kid, pair) = new_key();
        self.published.lock().unwrap().keys = vec![jwk(&kid, &pair)];
        *self.pair.lock().unwrap() = (kid, Arc::new(pair));
    }

    /// The public key in use, as a JWK.
    pub fn public(&self) -> Value {
        self.published.lock().unwrap().keys[0].clone()
    }

    /// Claims that are accepted, for this user.
    pub fn claims(&self, user: &str) -> Value {
        json!({
            "iss": self.url(),
            "aud": AUDIENCE,
            "sub": format!("sub-of-{user}"),
            "preferred_username": user,
            "email": format!("{user}@example.org"),
            "email_verified": true,
            "iat": now(),
            "exp": now() + 600,
        })
    }

    /// A token that is accepted, for this user.
    pub fn token(&self, user: &str) -> String {
        self.sign(&self.claims(user))
    }

    /// A token with these claims changed; null removes one.
    pub fn token_with(&self, user: &str, changes: Value) -> String {
        let mut claims = self.claims(user);
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        self.sign(&claims)
    }

    /// A token with these claims, signed by the key in use.
    pub fn sign(&self, claims: &Value) -> String {
        let kid = self.pair.lock().unwrap().0.clone();
        self.sign_with(&json!({ "alg": "RS256", "typ": "JWT", "kid": kid }), &claims.to_string())
    }

    /// A token with exactly this header and this payload, signed by RS256 whatever the header says.
    pub fn sign_with(&self, header: &Value, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(payload));
        let pair = Arc::clone(&self.pair.lock().unwrap().1);
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", encode(signature))
    }

    /// The `kid` of the key in use.
    pub fn kid(&self) -> String {
        self.pair.lock().unwrap().0.clone()
    }
}

/// Base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn new_key() -> (String, RsaKeyPair) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let components: RsaPublicKeyComponents<Vec<u8>> = pair.public_key().into();
    (format!("kid-{}", encode(&components.n[..9])), pair)
}

fn jwk(kid: &str, pair: &RsaKeyPair) -> Value {
    let components: RsaPublicKeyComponents<Vec<u8>> = pair.public_key().into();
    let (n, e) = (encode(components.n), encode(components.e));
    json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e })
}
