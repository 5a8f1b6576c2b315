//! `/auth` and `/v2/auth/cognito/…`: where to log in, and what passwords must be (`docs/API.md` §2).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use url::Url;

use super::Api;
use super::error::Refusal;
use crate::config::{Auth, JwtIssuer};
use crate::identity::srp::PASSWORD_MIN;
use crate::proxy::error::{Kind, Problem};

/// `GET /auth`, `GET /v2/auth/cognito/user-pool`: where a client logs in with name and password.
pub(super) async fn login_parameters(State(api): State<Arc<Api>>) -> Result<Json<Value>, Refusal> {
    parameters(&api.config.auth).map(Json).ok_or_else(|| {
        let detail = "this gateway has no user pool\nuse a token of the issuer that it trusts";
        Problem::new(&Kind::NOT_FOUND, detail).into()
    })
}

/// `GET /v2/auth/cognito/password-policy`: what a new password must be.
pub(super) async fn password_policy(State(api): State<Arc<Api>>) -> Result<Json<Value>, Refusal> {
    if !api.config.auth.local.enabled {
        let detail = "passwords are not kept here\nask the user pool for its policy";
        return Err(Problem::new(&Kind::NOT_FOUND, detail).into());
    }
    Ok(Json(json!({
        "minimumLength": PASSWORD_MIN,
        "requireLowercase": true,
        "requireUppercase": true,
        "requireNumbers": true,
        "requireSymbols": false,
    })))
}

/// The built-in pool; without it, the first Cognito pool whose tokens are accepted.
fn parameters(auth: &Auth) -> Option<Value> {
    let local = &auth.local;
    let (region, pool, client) = if local.enabled {
        (local.pool_id.split('_').next()?.to_owned(), local.pool_id.clone(), local.client_id.clone())
    } else {
        auth.jwt.iter().find_map(pool)?
    };
    Some(json!({"region": region, "userPoolId": pool, "userPoolWebClientId": client}))
}

/// Region, pool and client id of an issuer that is a Cognito user pool:
/// `https://cognito-idp.<region>.amazonaws.com/<region>_<pool>`.
fn pool(issuer: &JwtIssuer) -> Option<(String, String, String)> {
    let url = Url::parse(&issuer.issuer).ok()?;
    let host = url.host_str()?.strip_prefix("cognito-idp.")?;
    let id = url.path().trim_matches('/');
    let (region, name) = id.split_once('_')?;
    let whole = host.strip_prefix(region).is_some_and(|rest| rest.starts_with('.'));
    let fits = whole && !name.is_empty() && !name.contains(['_', '/']);
    fits.then(|| Some((region.to_owned(), id.to_owned(), issuer.audience.first()?.clone())))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tables: &str) -> Option<Value> {
        let text = format!("{tables}\n[vault]\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n");
        let config = crate::config::parse(&text, std::path::Path::new("."), &|_| None).expect("it is whole");
        parameters(&config.auth)
    }

    #[test]
    fn a_client_is_told_the_built_in_pool_or_the_external_one() {
        let pool = "[[auth.jwt]]\nissuer = \"https://cognito-idp.us-east-2.amazonaws.com/us-east-2_Example\"\naudience = [\"client\"]\n";
        let off = "[auth.local]\nenabled = false\n";
        let own = json!({"region": "local", "userPoolId": "local_carta", "userPoolWebClientId": "carta"});
        assert_eq!(read("").unwrap(), own);
        assert_eq!(read(pool).unwrap(), own);
        let external =
            json!({"region": "us-east-2", "userPoolId": "us-east-2_Example", "userPoolWebClientId": "client"});
        assert_eq!(read(&format!("{off}{pool}")).unwrap(), external);
        let other = "[[auth.jwt]]\nissuer = \"https://idp.example/realms/my_realm\"\naudience = [\"c\"]\n";
        assert_eq!(read(&format!("{off}{other}")), None);
    }
}
