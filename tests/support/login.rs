//! A client of Cognito's SRP exchange, after `docs/API.md` §3 and not after the gateway's code.

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U3072};
use serde_json::{Value, json};

use super::{Gateway, Response};

/// RFC 3526 group 15.
const N: &str = concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
);

/// The secret exponent of every client here: whoever is tested does not know it.
const SMALL_A: u64 = 0x9e37_79b9_7f4a_7c15;

/// A client id that the gateway has where nothing else is configured.
pub const CLIENT: &str = "carta";

/// One Cognito operation.
pub fn operate(gateway: &Gateway, operation: &str, body: &Value) -> Response {
    operate_at(gateway, "/", operation, body)
}

/// The same at another path.
pub fn operate_at(gateway: &Gateway, path: &str, operation: &str, body: &Value) -> Response {
    gateway
        .rest("POST", path)
        .header("Content-Type", "application/x-amz-json-1.1")
        .header("X-Amz-Target", &format!("AWSCognitoIdentityProviderService.{operation}"))
        .body(body.to_string())
        .send()
}

/// The code of a refusal, which is never a fault of the server.
#[track_caller]
pub fn refused(response: &Response) -> (String, String) {
    assert_eq!(response.status(), 400, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/x-amz-json-1.1"));
    let body = response.json();
    (body["__type"].as_str().unwrap().to_owned(), body["message"].as_str().unwrap().to_owned())
}

/// A challenge that was given, and what the client keeps of it.
pub struct Exchange {
    pub challenge: Value,
    a: U3072,
}

impl Exchange {
    /// `InitiateAuth`.
    pub fn begin(gateway: &Gateway, name: &str) -> Self {
        let group = group();
        let a = FixedMontyForm::new(&U3072::from_u8(2), &group).pow(&U3072::from_u64(SMALL_A)).retrieve();
        let response = operate(gateway, "InitiateAuth", &initiate(name, &hex(&a)));
        assert_eq!(response.status(), 200, "{}", response.text());
        let challenge = response.json();
        assert_eq!(challenge["ChallengeName"], "PASSWORD_VERIFIER");
        Self { challenge, a }
    }

    pub fn parameter(&self, name: &str) -> &str {
        self.challenge["ChallengeParameters"][name].as_str().unwrap()
    }

    /// `ChallengeResponses` for the password, as of now.
    pub fn answer(&self, password: &str) -> Value {
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        self.answer_at(password, &now.strftime("%a %b %-d %H:%M:%S UTC %Y").to_string())
    }

    pub fn answer_at(&self, password: &str, timestamp: &str) -> Value {
        let (group, name) = (group(), self.parameter("USER_ID_FOR_SRP"));
        let number = |n: &U3072| FixedMontyForm::new(n, &group);
        let g = number(&U3072::from_u8(2));
        let identity = sha256(&[b"carta", name.as_bytes(), b":", password.as_bytes()]);
        let x = uint(&sha256(&[&pad(&parse(self.parameter("SALT"))), &identity]));
        let b = parse(self.parameter("SRP_B"));
        let u = uint(&sha256(&[&pad(&self.a), &pad(&b)]));
        let k = uint(&sha256(&[&pad(&parse(N)), &[2]]));
        let exponent = u.wrapping_mul(&x).wrapping_add(&U3072::from_u64(SMALL_A));
        let s = (number(&b) - number(&k) * g.pow(&x)).pow(&exponent).retrieve();
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let prk = sign(&pad(&u), &pad(&s));
        let key = sign(prk.as_ref(), b"Caldera Derived Key\x01");
        let block = STANDARD.decode(self.parameter("SECRET_BLOCK")).unwrap();
        let message = [b"carta", name.as_bytes(), &block, timestamp.as_bytes()].concat();
        json!({
            "TIMESTAMP": timestamp,
            "USERNAME": self.parameter("USERNAME"),
            "PASSWORD_CLAIM_SECRET_BLOCK": self.parameter("SECRET_BLOCK"),
            "PASSWORD_CLAIM_SIGNATURE": STANDARD.encode(sign(&key.as_ref()[..16], &message)),
        })
    }
}

/// Both calls: the last answer.
pub fn log_in(gateway: &Gateway, name: &str, password: &str) -> Response {
    respond(gateway, &Exchange::begin(gateway, name).answer(password))
}

/// The `IdToken` of a good login.
#[track_caller]
pub fn id_token(response: &Response) -> String {
    assert_eq!(response.status(), 200, "{}", response.text());
    response.json()["AuthenticationResult"]["IdToken"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", response.text()))
        .to_owned()
}

/// `RespondToAuthChallenge` with `PASSWORD_VERIFIER`.
pub fn respond(gateway: &Gateway, responses: &Value) -> Response {
    let body = json!({"ChallengeName": "PASSWORD_VERIFIER", "ChallengeResponses": responses, "ClientId": CLIENT});
    operate(gateway, "RespondToAuthChallenge", &body)
}

/// The body of `InitiateAuth`.
pub fn initiate(name: &str, a: &str) -> Value {
    json!({
        "AuthFlow": "USER_SRP_AUTH",
        "AuthParameters": {"USERNAME": name, "SRP_A": a},
        "ClientId": CLIENT,
    })
}

fn group() -> FixedMontyParams<{ U3072::LIMBS }> {
    FixedMontyParams::new_vartime(Odd::new(parse(N)).unwrap())
}

fn parse(text: &str) -> U3072 {
    U3072::from_be_hex(&format!("{text:0>768}"))
}

fn uint(bytes: &[u8]) -> U3072 {
    let mut full = [0; 384];
    full[384 - bytes.len()..].copy_from_slice(bytes);
    U3072::from_be_slice(&full)
}

fn short(number: &U3072) -> Vec<u8> {
    number.to_be_bytes().as_ref().iter().copied().skip_while(|byte| *byte == 0).collect()
}

fn hex(number: &U3072) -> String {
    let digits: String = short(number).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.trim_start_matches('0').to_owned()
}

fn pad(number: &U3072) -> Vec<u8> {
    let short = short(number);
    if short.first().is_some_and(|first| first & 0x80 == 0) { short } else { [&[0], short.as_slice()].concat() }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest::digest(&digest::SHA256, &parts.concat()).as_ref().try_into().unwrap()
}
