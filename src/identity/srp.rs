//! Passwords as Cognito's SRP keeps them (`docs/API.md` §3): a salt and a verifier, never the password.
//!
//! The numbers are those of RFC 3526 group 15 with g = 2 and SHA-256. Exponents are secret, so each power takes the same
//! time whatever they are. A verifier is as good as the password for guessing offline, so it is sealed at rest.

use aws_lc_rs::{digest, hmac};
use crypto_bigint::modular::{ConstMontyForm, ConstMontyParams};
use crypto_bigint::{NonZero, U3072};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::policy::UserId;
use crate::store::Password;
use crate::vault::{Context, Vault, VaultError};

crypto_bigint::const_monty_params!(
    Group,
    U3072,
    concat!(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
        "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
        "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
        "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    ),
    "RFC 3526 group 15."
);

type Power = ConstMontyForm<Group, { U3072::LIMBS }>;

/// The multiplier: SHA-256 of pad(N) and pad(g).
const K: &str = "538282c4354742d7cbbde2359fcf67f9f5b3a6b08791e5011b43b8a5b66d9ee6";

const INFO: &[u8] = b"Caldera Derived Key";

/// Bytes of a number of the group.
const BYTES: usize = 384;

/// Bytes of a fresh salt.
const SALT_BYTES: usize = 16;

/// The longest salt that is opened, in bytes.
const MAX_SALT: usize = 64;

/// The first byte of what is sealed.
const LAYOUT: u8 = 1;

/// The bits of a server's secret exponent: `b`.
const SECRET_BITS: u32 = 1024;

/// The shortest password, in characters.
pub const PASSWORD_MIN: usize = 8;

/// The longest password, in characters, as Cognito has it.
pub const PASSWORD_MAX: usize = 256;

/// What checks a user's password.
#[derive(Clone)]
pub struct Verifier {
    salt: Number,
    v: U3072,
}

/// A number as it travels: lower-case hex without leading zeros, at most 3,072 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Number(U3072);

/// Why a password's envelope, or a fresh verifier, cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SrpError {
    /// The envelope does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What was sealed is no verifier.
    #[error("the password's record is no verifier")]
    Layout,
    /// The operating system gave no random bytes.
    #[error("there are no random bytes")]
    Random,
}

/// The name that verifiers are bound to: what stands between the first and the second underscore of the pool's id, as
/// clients take it.
#[must_use]
pub fn pool_name(pool_id: &str) -> &str {
    pool_id.split('_').nth(1).unwrap_or_default()
}

/// What a new password lacks, in words for a sentence; nothing where it fits.
#[must_use]
pub fn password_faults(password: &str) -> Vec<&'static str> {
    let count = password.chars().count();
    let checks = [
        (count >= PASSWORD_MIN, "at least 8 characters"),
        (count <= PASSWORD_MAX, "at most 256 characters"),
        (password.chars().any(char::is_lowercase), "a lower-case letter"),
        (password.chars().any(char::is_uppercase), "an upper-case letter"),
        (password.chars().any(|c| c.is_ascii_digit()), "a digit"),
    ];
    checks.into_iter().filter(|(fits, _)| !fits).map(|(_, what)| what).collect()
}

impl Verifier {
    /// The verifier of a new password, with a fresh salt. `user` is the login name that clients hash with it.
    ///
    /// # Errors
    /// [`SrpError::Random`].
    pub fn new(pool_name: &str, user: &str, password: &str) -> Result<Self, SrpError> {
        let mut salt = [0; SALT_BYTES];
        // A zero in front would be lost on the way: the client pads the text of the number.
        while salt.first() == Some(&0) {
            aws_lc_rs::rand::fill(&mut salt).map_err(|_| SrpError::Random)?;
        }
        let salt = Number::from_bytes(&salt).ok_or(SrpError::Random)?;
        Ok(Self { salt, v: verifier(salt, pool_name, user, password) })
    }

    /// What stands in for the verifier of a name that has none: a salt that looks like any other and stays the same for as
    /// long as the key does, and a number of the group of which nobody knows a password.
    #[must_use]
    pub fn decoy(key: &[u8; 32], name: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let block = |what: u8, count: u8| hmac::sign(&key, &[&[what, count], name.as_bytes()].concat());
        let mut salts = (0..=u8::MAX).map(|count| block(0, count)).filter(|block| block.as_ref().first() != Some(&0));
        let salt = salts.next().and_then(|block| Number::from_bytes(block.as_ref().get(..SALT_BYTES)?));
        let wide: Vec<u8> = (0..BYTES / 32).flat_map(|count| block(1, count as u8).as_ref().to_vec()).collect();
        let root = Power::new(&U3072::from_be_slice(&wide));
        // A square, as every power of 2 is one in this group.
        Self { salt: salt.unwrap_or(Number(U3072::ONE)), v: (root * root).retrieve() }
    }

    /// Whether this is the password: in constant time, and in as much time for a wrong one.
    #[must_use]
    pub fn check(&self, pool_name: &str, user: &str, password: &str) -> bool {
        let offered = Zeroizing::new(be_bytes(&verifier(self.salt, pool_name, user, password)));
        let kept = Zeroizing::new(be_bytes(&self.v));
        offered.as_slice().ct_eq(kept.as_slice()).into()
    }

    /// `SALT`.
    #[must_use]
    pub fn salt(&self) -> Number {
        self.salt
    }

    /// Seals it for the user: the layout, the salt's length, the salt, the verifier in 384 bytes.
    ///
    /// # Errors
    /// [`SrpError::Vault`].
    pub fn seal(&self, vault: &Vault, user: UserId, temporary: bool) -> Result<Password, SrpError> {
        let salt = self.salt.shortest();
        let length = u8::try_from(salt.len()).map_err(|_| SrpError::Layout)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(2 + salt.len() + BYTES));
        plain.extend_from_slice(&[LAYOUT, length]);
        plain.extend_from_slice(&salt);
        plain.extend_from_slice(Zeroizing::new(be_bytes(&self.v)).as_slice());
        Ok(Password { sealed: vault.seal(Context::Password(user), &plain)?, temporary, reset: false })
    }

    /// Opens what was sealed for this user.
    ///
    /// # Errors
    /// [`SrpError::Vault`], or [`SrpError::Layout`] for what no verifier looks like.
    pub fn open(vault: &Vault, user: UserId, password: &Password) -> Result<Self, SrpError> {
        let plain = vault.open(Context::Password(user), &password.sealed)?;
        let Some(([LAYOUT, length], rest)) = plain.split_first_chunk::<2>() else { return Err(SrpError::Layout) };
        let length = usize::from(*length);
        let (salt, v) = rest.split_at_checked(length).ok_or(SrpError::Layout)?;
        if length == 0 || length > MAX_SALT || v.len() != BYTES {
            return Err(SrpError::Layout);
        }
        Ok(Self { salt: Number::from_bytes(salt).ok_or(SrpError::Layout)?, v: U3072::from_be_slice(v) })
    }

    /// `SRP_B` for the server's secret exponent: k·v + g^b.
    #[must_use]
    pub fn public(&self, b: &Number) -> Number {
        let k = Number::from_hex(K).map_or(U3072::ZERO, |k| k.0);
        let sum = Power::new(&k) * Power::new(&self.v) + generator_to(&b.0, SECRET_BITS);
        Number(sum.retrieve())
    }

    /// The 16 bytes that prove both sides, from the client's `SRP_A`; none for an `A` or a `u` that is zero, with which
    /// anybody would know them.
    #[must_use]
    pub fn session_key(&self, a: &Number, b: &Number, public: &Number) -> Option<Zeroizing<[u8; 16]>> {
        let reduced = a.0.rem_vartime(&NonZero::new(*Group::PARAMS.modulus().as_ref()).into_option()?);
        let u = Number::from_bytes(&hash(&[&a.pad(), &public.pad()]))?;
        if reduced == U3072::ZERO || u.0 == U3072::ZERO {
            return None;
        }
        let v_to_u = Power::new(&self.v).pow_bounded_exp(&u.0, 256);
        let s = (Power::new(&reduced) * v_to_u).pow_bounded_exp(&b.0, SECRET_BITS);
        let s = Zeroizing::new(Number(*Zeroizing::new(s.retrieve())).pad());
        let prk = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &u.pad()), &s);
        let block = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, prk.as_ref()), &[INFO, &[1]].concat());
        block.as_ref().first_chunk::<16>().map(|key| Zeroizing::new(*key))
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.v.zeroize();
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Number {
    /// A fresh secret exponent of 1,024 bits.
    ///
    /// # Errors
    /// [`SrpError::Random`].
    pub fn random() -> Result<Self, SrpError> {
        let mut bytes = Zeroizing::new([0; SECRET_BITS as usize / 8]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| SrpError::Random)?;
        Self::from_bytes(bytes.as_slice()).ok_or(SrpError::Random)
    }

    /// Reads hex of any length up to 3,072 bits: an odd number of digits is normal.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 2 * BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        Some(Self(U3072::from_be_hex(&format!("{text:0>width$}", width = 2 * BYTES))))
    }

    /// Lower-case hex without leading zeros.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let digits: String = be_bytes(&self.0).iter().map(|byte| format!("{byte:02x}")).collect();
        let short = digits.trim_start_matches('0');
        if short.is_empty() { "0".to_owned() } else { short.to_owned() }
    }

    /// Whether it is a multiple of the group's modulus: as a public number it would make the key known to everybody.
    #[must_use]
    pub fn is_zero_in_group(&self) -> bool {
        let modulus = NonZero::new(*Group::PARAMS.modulus().as_ref()).into_option();
        modulus.is_none_or(|modulus| self.0.rem_vartime(&modulus) == U3072::ZERO)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut full = Zeroizing::new([0; BYTES]);
        full.get_mut(BYTES.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
        Some(Self(U3072::from_be_slice(full.as_slice())))
    }

    fn shortest(&self) -> Vec<u8> {
        be_bytes(&self.0).iter().copied().skip_while(|byte| *byte == 0).collect()
    }

    /// The bytes that are hashed: the shortest, with a zero in front of a set top bit, and one zero for 0.
    fn pad(&self) -> Vec<u8> {
        let short = self.shortest();
        match short.first() {
            Some(first) if first & 0x80 == 0 => short,
            _ => [&[0], short.as_slice()].concat(),
        }
    }
}

impl std::fmt::Debug for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Number(…)")
    }
}

/// v = g^x, with x = H(pad(salt), H(pool name, user, ":", password)).
fn verifier(salt: Number, pool_name: &str, user: &str, password: &str) -> U3072 {
    let identity = Zeroizing::new(hash(&[pool_name.as_bytes(), user.as_bytes(), b":", password.as_bytes()]));
    let x = Zeroizing::new(hash(&[&salt.pad(), identity.as_slice()]));
    let x = Zeroizing::new(Number::from_bytes(x.as_slice()).map_or(U3072::ZERO, |x| x.0));
    generator_to(&x, 256).retrieve()
}

fn generator_to(exponent: &U3072, bits: u32) -> Power {
    Power::new(&U3072::from_u8(2)).pow_bounded_exp(exponent, bits)
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().first_chunk::<32>().copied().unwrap_or_default()
}

fn be_bytes(number: &U3072) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes.copy_from_slice(number.to_be_bytes().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::config::{VaultConfig, VaultKey};

    fn vectors() -> Vec<Value> {
        let text = include_str!("../../tests/vectors/srp.json");
        let Value::Object(mut file) = serde_json::from_str(text).unwrap() else { panic!("an object") };
        assert_eq!(file["k"], K);
        serde_json::from_value(file.remove("vectors").unwrap()).unwrap()
    }

    fn vault() -> Vault {
        Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap()
    }

    #[test]
    fn whole_exchanges_agree_with_the_fixed_numbers() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 5);
        for vector in &vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let number = |name: &str| Number::from_hex(text(name)).unwrap();
            let pool = pool_name(text("pool_id"));
            assert_eq!(pool, text("pool_name"));
            let salt = number("salt");
            let kept = Verifier { salt, v: verifier(salt, pool, text("username"), text("password")) };
            assert_eq!(Number(kept.v).to_hex(), text("verifier"), "{}", text("name"));
            assert!(kept.check(pool, text("username"), text("password")));
            assert!(!kept.check(pool, text("username"), text("wrong_password")));
            assert!(!kept.check(pool, "mallory", text("password")));
            assert!(!kept.check("other", text("username"), text("password")));
            let public = kept.public(&number("b"));
            assert_eq!(public.to_hex(), text("B"));
            let key = kept.session_key(&number("A"), &number("b"), &public).unwrap();
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, text("session_key"));
            let block = STANDARD.decode(text("secret_block")).unwrap();
            let parts = [pool.as_bytes(), text("username").as_bytes(), &block, text("timestamp").as_bytes()];
            let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), &parts.concat());
            assert_eq!(STANDARD.encode(signature.as_ref()), text("signature"));
        }
    }

    #[test]
    fn a_public_number_that_is_zero_in_the_group_gives_no_key() {
        let kept = Verifier::new("carta", "alice", "Correct-Horse-9").unwrap();
        let b = Number::random().unwrap();
        let public = kept.public(&b);
        let n = Number(*Group::PARAMS.modulus().as_ref());
        for a in [Number(U3072::ZERO), n] {
            assert!(kept.session_key(&a, &b, &public).is_none());
        }
    }

    #[test]
    fn numbers_travel_as_hex_without_leading_zeros() {
        for text in ["0", "1", "abc", "5398dab858a334b4cf4fd75cec1cada"] {
            assert_eq!(Number::from_hex(text).unwrap().to_hex(), text);
        }
        assert_eq!(Number::from_hex("00AB").unwrap().to_hex(), "ab");
        for text in ["", "g", "-1", "0x1", " 1", &"f".repeat(769), "é"] {
            assert!(Number::from_hex(text).is_none(), "{text}");
        }
        assert_eq!(Number(U3072::ZERO).pad(), [0]);
        assert_eq!(Number::from_hex("80").unwrap().pad(), [0, 0x80]);
        assert_eq!(Number::from_hex("7f").unwrap().pad(), [0x7f]);
    }

    #[test]
    fn a_sealed_verifier_opens_for_its_user_only() {
        let (vault, alice, bob) = (vault(), UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let kept = Verifier::new("carta", "alice", "Correct-Horse-9").unwrap();
        let password = kept.seal(&vault, alice, true).unwrap();
        assert!(password.temporary);
        let opened = Verifier::open(&vault, alice, &password).unwrap();
        assert!(opened.check("carta", "alice", "Correct-Horse-9"));
        assert_eq!(opened.salt(), kept.salt());
        assert!(matches!(Verifier::open(&vault, bob, &password), Err(SrpError::Vault(_))));
        for plain in [&b""[..], &[1], &[2, 1, 9], &[1, 0], &[1, 200, 1], &[1; 300]] {
            let sealed = vault.seal(Context::Password(alice), plain).unwrap();
            let password = Password { sealed, temporary: false, reset: false };
            assert!(matches!(Verifier::open(&vault, alice, &password), Err(SrpError::Layout)));
        }
    }

    #[test]
    fn two_users_with_one_password_have_different_records() {
        let make = |user| Verifier::new("carta", user, "Correct-Horse-9").unwrap();
        assert_ne!(make("alice").salt(), make("alice").salt());
        assert_ne!(make("alice").v, make("alice").v);
        assert_eq!(format!("{:?}", make("alice")), "Verifier(…)");
    }

    #[test]
    fn a_decoy_looks_like_a_verifier_and_stays_the_same() {
        let (key, other) = ([1; 32], [2; 32]);
        let decoy = Verifier::decoy(&key, "nobody");
        assert_eq!(decoy.salt(), Verifier::decoy(&key, "nobody").salt());
        assert_eq!(decoy.v, Verifier::decoy(&key, "nobody").v);
        assert_ne!(decoy.salt(), Verifier::decoy(&key, "nobody2").salt());
        assert_ne!(decoy.salt(), Verifier::decoy(&other, "nobody").salt());
        for number in 0..600 {
            let digits = Verifier::decoy(&key, &number.to_string()).salt().to_hex().len();
            assert!(
                (31..=32).contains(&digits),
                "the salt of a password has {SALT_BYTES} bytes, the first of them not 0"
            );
        }
    }

    #[test]
    fn a_password_that_is_too_weak_is_told_what_it_lacks() {
        assert!(password_faults("Correct-Horse-9").is_empty());
        assert_eq!(password_faults("Ab3"), ["at least 8 characters"]);
        assert_eq!(password_faults("abcdefgh"), ["an upper-case letter", "a digit"]);
        assert_eq!(password_faults("ABCDEFG1"), ["a lower-case letter"]);
        assert_eq!(password_faults(&"Ab1".repeat(100)), ["at most 256 characters"]);
        assert!(password_faults("Pässwörd1").is_empty());
    }
}
