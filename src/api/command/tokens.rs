//! Make, revoke and delete API tokens.

use jiff::Timestamp;
use uuid::Uuid;

use crate::api::Api;
use crate::api::error::Refusal;
use crate::identity::NewKey;
use crate::policy::{Permit, UserId};
use crate::proxy::error::{Kind, Problem};
use crate::store::{Actor, ApiToken, ApiTokenId, Mutation, Revision};

/// What a new token is to be.
pub(in crate::api) struct Wanted {
    /// Its name.
    pub(in crate::api) name: String,
    /// What it may be used for: at least one pattern, each of which reads.
    pub(in crate::api) patterns: Vec<String>,
    /// When it ends.
    pub(in crate::api) expires: Option<Timestamp>,
    /// How often it may be used.
    pub(in crate::api) uses: Option<u64>,
    /// Whether it is deleted when it is revoked.
    pub(in crate::api) auto_remove: bool,
}

/// Makes a token of the permit's own user; the key is in what is returned, and nowhere else.
pub(in crate::api) async fn create(
    api: &Api,
    permit: Permit,
    by: Actor,
    wanted: Wanted,
) -> Result<(Revision, ApiToken, NewKey), Refusal> {
    let own = || Refusal(Problem::new(&Kind::NOT_AUTHENTICATED, "not authenticated"));
    let user = permit.user().ok_or_else(own)?;
    let key = NewKey::random().ok_or_else(|| Problem::new(&Kind::INTERNAL, "no key can be made"))?;
    let token = ApiToken {
        id: ApiTokenId(Uuid::new_v4()),
        user,
        name: wanted.name,
        digest: key.digest,
        hint: key.hint.clone(),
        patterns: wanted.patterns,
        expires: wanted.expires,
        uses: wanted.uses,
        revoked: false,
        auto_remove: wanted.auto_remove,
        created: Timestamp::now(),
        last_used: None,
    };
    let revision = api.commit(by, Mutation::CreateApiToken(Box::new(token.clone()))).await?;
    Ok((revision, token, key))
}

/// How a token ends.
#[derive(Clone, Copy)]
pub(in crate::api) enum Ending {
    /// It stays in the list, unless it was made to be deleted then.
    Revoke,
    /// It is gone.
    Delete,
}

/// Ends a token, for its user or an administrator.
pub(in crate::api) async fn end(
    api: &Api,
    _: Permit,
    by: Actor,
    (of, name): (UserId, String),
    how: Ending,
) -> Result<Revision, Refusal> {
    let mutation = match how {
        Ending::Revoke => Mutation::RevokeApiToken(of, name),
        Ending::Delete => Mutation::DeleteApiToken(of, name),
    };
    api.commit(by, mutation).await
}
