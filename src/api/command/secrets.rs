//! Store and delete one's own secrets, give and withdraw consent.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::api::Api;
use crate::api::error::Refusal;
use crate::policy::{Permit, ResourceId, UserId};
use crate::proxy::error::{Kind, Problem};
use crate::store::{Actor, Consent, Mutation, Revision, Secret};
use crate::vault::Context;

/// A secret on its way into the store.
pub(in crate::api) struct Plain {
    /// Lower case.
    pub(in crate::api) name: String,
    /// At most 1024 characters.
    pub(in crate::api) value: Zeroizing<String>,
}

/// Stores all of these, or none.
pub(in crate::api) async fn put(
    api: &Api,
    permit: Permit,
    by: Actor,
    secrets: &[Plain],
    expires: Option<Timestamp>,
) -> Result<Revision, Refusal> {
    let user = own(&permit)?;
    let created = Timestamp::now();
    let sealed = secrets
        .iter()
        .map(|plain| {
            let sealed = api.vault.seal(Context::Secret(user, &plain.name), plain.value.as_bytes())?;
            Ok(Secret { user, name: plain.name.clone(), sealed, created, expires })
        })
        .collect::<Result<Vec<_>, crate::vault::VaultError>>()
        .map_err(|error| {
            tracing::error!(%error, "a secret could not be sealed");
            Refusal(Problem::new(&Kind::INTERNAL, "the secret could not be sealed"))
        })?;
    api.commit(by, Mutation::PutSecrets(sealed)).await
}

/// Deletes a secret with its consents.
pub(in crate::api) async fn delete(api: &Api, permit: Permit, by: Actor, name: &str) -> Result<Revision, Refusal> {
    let user = own(&permit)?;
    api.commit(by, Mutation::DeleteSecret(user, name.to_owned())).await
}

/// Notes the consent; one that is there already changes nothing.
pub(in crate::api) async fn consent(
    api: &Api,
    permit: Permit,
    by: Actor,
    consent: Consent,
) -> Result<Revision, Refusal> {
    let user = own(&permit)?;
    api.commit(by, Mutation::PutConsent(Consent { user, ..consent })).await
}

/// Withdraws every consent for this secret and service, for good: only a consent that is asked for ends it.
pub(in crate::api) async fn withdraw(
    api: &Api,
    permit: Permit,
    by: Actor,
    secret: &str,
    service: ResourceId,
) -> Result<Revision, Refusal> {
    let user = own(&permit)?;
    api.commit(by, Mutation::WithdrawConsent { user, secret: secret.to_owned(), service, at: Timestamp::now() }).await
}

/// Whose own things the permit is for.
fn own(permit: &Permit) -> Result<UserId, Refusal> {
    permit.user().ok_or_else(|| Refusal(Problem::new(&Kind::NOT_AUTHENTICATED, "not authenticated")))
}
