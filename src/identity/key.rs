//! Keys that verify: each is bound to one algorithm when it is read, and a token's header cannot choose another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// How long the keys of an issuer that cannot be reached stay valid after they were last fetched. A key withdrawn
/// there lives on here for no longer.
pub(super) const MAX_STALENESS: SignedDuration = SignedDuration::from_hours(24);

/// The bits that an RSA modulus must have (RFC 7518 §3.3), and the most that are worth verifying.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The longest `kid` that is kept, in bytes.
const KID_BYTES: usize = 256;

/// A public key, with the one algorithm that it verifies.
pub(super) struct Key {
    kid: Option<String>,
    /// What a token's `alg` may say.
    names: &'static [&'static str],
    algorithm: Algorithm,
    decoding: DecodingKey,
    /// RFC 7638, SHA-256: whether two keys are the same key.
    thumbprint: String,
    /// From when on it verifies nothing.
    pub(super) retired: Option<Timestamp>,
}

impl Key {
    /// Reads a member of a JWKS (RFC 7517); the error says why it is of no use, for the log.
    pub(super) fn from_jwk(jwk: &Value) -> Result<Self, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if jwk.get("use").is_some() && text("use") != Some("sig") {
            return Err("its `use` is not `sig`");
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies = operations.as_array().is_some_and(|list| list.iter().any(|o| o == "verify"));
            if !verifies {
                return Err("its `key_ops` lack `verify`");
            }
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES => Some(kid.clone()),
            Some(_) => return Err("its `kid` is no text, or too long"),
        };
        let declared = match jwk.get("alg") {
            None => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(_) => return Err("its `alg` is no text"),
        };
        let parsed: Jwk = serde_json::from_value(jwk.clone()).map_err(|_| "it is no JWK")?;
        let (algorithm, names) = algorithm_of(&parsed.algorithm, declared)?;
        let decoding = DecodingKey::from_jwk(&parsed).map_err(|_| "its numbers do not decode")?;
        let thumbprint = parsed.thumbprint(ThumbprintHash::SHA256).map_err(|_| "it has no thumbprint")?;
        Ok(Self { kid, names, algorithm, decoding, thumbprint, retired: None })
    }

    /// The key, verifying nothing from then on.
    pub(super) fn until(self, retired: Option<Timestamp>) -> Self {
        Self { retired, ..self }
    }

    /// Whether the signature, still base64url, is this key's over the message.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.decoding, self.algorithm).unwrap_or(false)
    }

    /// Whether both verify the same tokens for the same time.
    fn same(&self, other: &Self) -> bool {
        self.kid == other.kid
            && self.algorithm == other.algorithm
            && self.thumbprint == other.thumbprint
            && self.retired == other.retired
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The keys of one issuer at one time.
#[derive(Debug)]
pub(super) struct KeySet {
    /// Unique in the process.
    pub(super) generation: u64,
    keys: Vec<Arc<Key>>,
    /// When they were fetched; none for the built-in issuer, whose keys come with the store's feed.
    fetched: Option<Timestamp>,
}

impl KeySet {
    /// The keys, as they are true from now on.
    pub(super) fn new(keys: Vec<Key>, fetched: Option<Timestamp>) -> Self {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        Self { generation, keys: keys.into_iter().map(Arc::new).collect(), fetched }
    }

    /// Whether there is a key, and the issuer was heard of within [`MAX_STALENESS`].
    pub(super) fn usable(&self, now: Timestamp) -> bool {
        !self.keys.is_empty() && self.fetched.is_none_or(|at| now.duration_since(at) <= MAX_STALENESS)
    }

    /// The key that a token with this `kid` and `alg` must be signed by. Without a `kid` the key of that algorithm is
    /// meant, if there is exactly one.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: &str, now: Timestamp) -> Option<&Arc<Key>> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.names.contains(&algorithm)
                && (kid.is_none() || key.kid.as_deref() == kid)
                && key.retired.is_none_or(|at| now < at)
        });
        let first = fitting.next()?;
        (kid.is_some() || fitting.next().is_none()).then_some(first)
    }

    /// Whether what this key verified is still good.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.keys.iter().any(|held| held.same(key))
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

fn algorithm_of(
    parameters: &AlgorithmParameters,
    declared: Option<&str>,
) -> Result<(Algorithm, &'static [&'static str]), &'static str> {
    let mismatch = "its `alg` does not fit its type";
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let n = URL_SAFE_NO_PAD.decode(&rsa.n).map_err(|_| "its modulus does not decode")?;
            let e = URL_SAFE_NO_PAD.decode(&rsa.e).map_err(|_| "its exponent does not decode")?;
            if !RSA_BITS.contains(&bits(&n)) {
                return Err("its modulus has less than 2048 bits, or more than 8192");
            }
            // With exponent 1 every number is its own signature; no honest key has an even one.
            if bits(&e) < 2 || bits(&e) > 33 || e.last().is_none_or(|last| last % 2 == 0) {
                return Err("its exponent is not odd, or is not within 3 and 2^33");
            }
            Ok(match declared {
                None | Some("RS256") => (Algorithm::RS256, &["RS256"]),
                Some("RS384") => (Algorithm::RS384, &["RS384"]),
                Some("RS512") => (Algorithm::RS512, &["RS512"]),
                Some("PS256") => (Algorithm::PS256, &["PS256"]),
                Some("PS384") => (Algorithm::PS384, &["PS384"]),
                Some("PS512") => (Algorithm::PS512, &["PS512"]),
                Some(_) => return Err(mismatch),
            })
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let (name, algorithm, names, bytes) = match ec.curve {
                EllipticCurve::P256 => ("ES256", Algorithm::ES256, &["ES256"], 32),
                EllipticCurve::P384 => ("ES384", Algorithm::ES384, &["ES384"], 48),
                _ => return Err("its curve is not supported"),
            };
            for coordinate in [&ec.x, &ec.y] {
                if URL_SAFE_NO_PAD.decode(coordinate).map_or(0, |c| c.len()) != bytes {
                    return Err("its coordinates are not of its curve's size");
                }
            }
            if declared.is_some_and(|d| d != name) { Err(mismatch) } else { Ok((algorithm, names)) }
        }
        AlgorithmParameters::OctetKeyPair(okp) => {
            if okp.curve != EllipticCurve::Ed25519 || URL_SAFE_NO_PAD.decode(&okp.x).map_or(0, |x| x.len()) != 32 {
                return Err("its curve is not supported");
            }
            match declared {
                // RFC 9864 gives the one algorithm a name of its own.
                None | Some("EdDSA" | "Ed25519") => Ok((Algorithm::EdDSA, &["EdDSA", "Ed25519"])),
                Some(_) => Err(mismatch),
            }
        }
        AlgorithmParameters::OctetKey(_) => Err("it is a shared secret, which no issuer may publish"),
        _ => Err("its type is not supported"),
    }
}

/// The bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let bytes = significant.clone().count();
    significant.map(|first| first.leading_zeros() as usize).next().map_or(0, |zeros| bytes * 8 - zeros)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    };
    use serde_json::json;

    use super::*;

    fn rsa(bits: usize, exponent: &[u8]) -> Value {
        let mut n = vec![0xff; bits / 8];
        n[0] = if bits.is_multiple_of(8) { 0xff } else { 1 };
        json!({ "kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(exponent) })
    }

    fn with(mut jwk: Value, name: &str, value: &str) -> Value {
        jwk[name] = value.into();
        jwk
    }

    #[test]
    fn a_key_is_bound_to_one_algorithm() {
        let key = Key::from_jwk(&rsa(2048, &[1, 0, 1])).unwrap();
        let set = KeySet::new(vec![key], None);
        let now = Timestamp::UNIX_EPOCH;
        assert!(set.find(Some("k"), "RS256", now).is_some());
        for other in ["none", "None", "HS256", "RS384", "PS256", "rs256", ""] {
            assert!(set.find(Some("k"), other, now).is_none(), "{other}");
        }
        let set = KeySet::new(vec![Key::from_jwk(&with(rsa(2048, &[3]), "alg", "PS256")).unwrap()], None);
        assert!(set.find(Some("k"), "RS256", now).is_none());
        assert!(set.find(Some("k"), "PS256", now).is_some());
    }

    #[test]
    fn keys_that_are_weak_or_not_for_signatures_are_of_no_use() {
        let good = rsa(2048, &[1, 0, 1]);
        let secret = json!({ "kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0" });
        let p521 = json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" });
        let short = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" });
        for jwk in [
            rsa(1024, &[1, 0, 1]),
            rsa(2040, &[1, 0, 1]),
            rsa(16384, &[1, 0, 1]),
            rsa(2048, &[1]),
            rsa(2048, &[0, 1]),
            rsa(2048, &[4]),
            rsa(2048, &[]),
            rsa(2048, &[9; 16]),
            with(good.clone(), "use", "enc"),
            with(good.clone(), "alg", "HS256"),
            with(good.clone(), "alg", "none"),
            with(good.clone(), "alg", "ES256"),
            with(good.clone(), "alg", "RSA-OAEP"),
            with(good.clone(), "n", "!!"),
            with(good.clone(), "kid", &"k".repeat(300)),
            json!({ "kty": "RSA", "kid": "k" }),
            json!({ "kty": "RSA", "n": good["n"], "e": "AQAB", "key_ops": ["encrypt"] }),
            json!({ "kty": "RSA", "n": good["n"], "e": "AQAB", "kid": 7 }),
            json!("text"),
            json!({}),
            secret,
            p521,
            short,
        ] {
            assert!(Key::from_jwk(&jwk).is_err(), "{jwk}");
        }
    }

    #[test]
    fn curves_verify_what_their_keys_signed_and_nothing_else() {
        let random = SystemRandom::new();
        let message = "head.claims";
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let ed = Ed25519KeyPair::generate().unwrap();
        let point = |public: &[u8]| {
            let (x, y) = public[1..].split_at(public.len() / 2);
            (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
        };
        let ((x2, y2), (x3, y3)) = (point(p256.public_key().as_ref()), point(p384.public_key().as_ref()));
        let signed = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let cases = [
            (
                json!({ "kty": "EC", "crv": "P-256", "x": x2, "y": y2 }),
                "ES256",
                signed(p256.sign(&random, message.as_bytes()).unwrap().as_ref()),
            ),
            (
                json!({ "kty": "EC", "crv": "P-384", "x": x3, "y": y3 }),
                "ES384",
                signed(p384.sign(&random, message.as_bytes()).unwrap().as_ref()),
            ),
            (
                json!({ "kty": "OKP", "crv": "Ed25519", "x": signed(ed.public_key().as_ref()) }),
                "EdDSA",
                signed(ed.sign(message.as_bytes()).as_ref()),
            ),
        ];
        for (jwk, name, signature) in &cases {
            let set = KeySet::new(vec![Key::from_jwk(jwk).unwrap()], None);
            let key = set.find(None, name, Timestamp::UNIX_EPOCH).unwrap();
            assert!(key.verifies(message, signature), "{name}");
            assert!(!key.verifies("head.claimz", signature), "{name}");
            assert!(cases.iter().filter(|(_, other, _)| other != name).all(|(_, _, s)| !key.verifies(message, s)));
            assert!(
                !key.verifies(message, "") && !key.verifies(message, "!") && !key.verifies(message, &"A".repeat(86))
            );
            assert!(Key::from_jwk(&with(jwk.clone(), "alg", "RS256")).is_err());
        }
        let okp = &cases[2].0;
        assert!(Key::from_jwk(&with(okp.clone(), "alg", "Ed25519")).is_ok());
    }

    #[test]
    fn a_token_without_kid_needs_the_only_key_of_its_algorithm() {
        let now = Timestamp::UNIX_EPOCH;
        let key = |kid: &str| Key::from_jwk(&with(rsa(2048, &[1, 0, 1]), "kid", kid)).unwrap();
        assert!(KeySet::new(vec![key("a")], None).find(None, "RS256", now).is_some());
        assert!(KeySet::new(vec![key("a"), key("b")], None).find(None, "RS256", now).is_none());
        assert!(KeySet::new(vec![key("a"), key("b")], None).find(Some("c"), "RS256", now).is_none());
    }

    #[test]
    fn keys_go_stale_when_the_issuer_is_not_heard_of() {
        let now = Timestamp::UNIX_EPOCH;
        let set = |fetched| KeySet::new(vec![Key::from_jwk(&rsa(2048, &[1, 0, 1])).unwrap()], fetched);
        assert!(set(Some(now)).usable(now + MAX_STALENESS));
        assert!(!set(Some(now)).usable(now + MAX_STALENESS + SignedDuration::from_secs(1)));
        assert!(set(None).usable(now + MAX_STALENESS * 99));
        assert!(!KeySet::new(vec![], Some(now)).usable(now));
    }
}
