//! `/auth` and `/v2/auth/cognito/…`: where to log in, and what passwords must be (`docs/API.md` §2).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use super::Api;
use super::error::Refusal;
use crate::config::{Auth, JwtIssuer};
use crate::identity::srp::PASSWORD_MIN;
use crate::proxy::error::{Kind, Problem};

/// Where a client logs in with name and password
///
/// The built-in pool, or the external Cognito user pool whose tokens are accepted.
#[utoipa::path(get, path = "/auth", tag = "login", security(()),
    responses(
        (status = 200, description = "the user pool", body = Pool),
        (status = 404, description = "this gateway has none"),
    ))]
pub(super) async fn login_parameters(State(api): State<Arc<Api>>) -> Result<Json<Pool>, Refusal> {
    parameters(&api.config.auth).map(Json).ok_or_else(|| {
        let detail = "this gateway has no user pool\nuse a token of the issuer that it trusts";
        Problem::new(&Kind::NOT_FOUND, detail).into()
    })
}

/// What a new password must be
#[utoipa::path(get, path = "/v2/auth/cognito/password-policy", tag = "login", security(()),
    responses(
        (status = 200, description = "the policy of the built-in pool", body = PasswordPolicy),
        (status = 404, description = "passwords are not kept here"),
    ))]
pub(super) async fn password_policy(State(api): State<Arc<Api>>) -> Result<Json<PasswordPolicy>, Refusal> {
    if !api.config.auth.local.enabled {
        let detail = "passwords are not kept here\nask the user pool for its policy";
        return Err(Problem::new(&Kind::NOT_FOUND, detail).into());
    }
    Ok(Json(PasswordPolicy {
        minimum_length: PASSWORD_MIN,
        require_lowercase: true,
        require_uppercase: true,
        require_numbers: true,
        require_symbols: false,
    }))
}

/// What a new password must be.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PasswordPolicy {
    /// In characters.
    minimum_length: usize,
    require_lowercase: bool,
    require_uppercase: bool,
    require_numbers: bool,
    require_symbols: bool,
}

/// Where a client logs in.
#[derive(Serialize, ToSchema)]
#[schema(as = UserPool)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pool {
    region: String,
    /// `<region>_<pool name>`.
    user_pool_id: String,
    user_pool_web_client_id: String,
}

/// The built-in pool; without it, the first Cognito pool whose tokens are accepted.
fn parameters(auth: &Auth) -> Option<Pool> {
    let local = &auth.local;
    let (region, user_pool_id, user_pool_web_client_id) = if local.enabled {
        (local.pool_id.split('_').next()?.to_owned(), local.pool_id.clone(), local.client_id.clone())
    } else {
        auth.jwt.iter().find_map(pool)?
    };
    Some(Pool { region, user_pool_id, user_pool_web_client_id })
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
    use serde_json::{Value, json};

    use super::*;

    fn read(tables: &str) -> Option<Value> {
        let text = format!("{tables}\n[vault]\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n");
        let config = crate::config::parse(&text, std::path::Path::new("."), &|_| None).expect("it is whole");
        parameters(&config.auth).map(|pool| json!(pool))
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
