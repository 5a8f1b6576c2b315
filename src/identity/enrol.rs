//! Accounts for newcomers, made in the store: the slow path of authentication.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use super::{AuthError, Enrol, Newcomer, Profile};
use crate::policy::UserId;
use crate::store::{Actor, Item, Key, Link, Mutation, NewUser, Revision, Store, StoreError, User};

/// How long a newcomer waits for the snapshot that shows the account.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes accounts in the store, and waits until the local snapshot has them.
pub struct StoreEnrol {
    store: Arc<dyn Store>,
    shown: watch::Receiver<Revision>,
}

impl StoreEnrol {
    /// `shown` is the revision of the snapshot that requests read.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, shown: watch::Receiver<Revision>) -> Self {
        Self { store, shown }
    }

    /// Commits, and returns once the snapshot shows the change, or the one that another request made of the same.
    async fn settle(&self, from: &str, mutation: Mutation) -> Result<Revision, AuthError> {
        let actor = Actor { user: None, via: "login", from: from.into(), request_id: None };
        let first = matches!(mutation, Mutation::CreateFirstUser(_));
        let revision = match self.store.commit(actor, mutation).await {
            Ok(committed) => committed.revision,
            Err(StoreError::Exists { .. }) => *self.store.revisions().borrow(),
            // Another request was the first, maybe of the same person: whoever looks it up again finds out.
            Err(StoreError::Refused(_)) if first => *self.store.revisions().borrow(),
            Err(error) => {
                tracing::error!(%error, "cannot make or link an account");
                return Err(AuthError::Unavailable("no account can be made at the moment\ntry again later"));
            }
        };
        let late = AuthError::Unavailable("the account was made and is not shown yet\ntry again");
        let mut shown = self.shown.clone();
        let reached = shown.wait_for(|shown| *shown >= revision);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(_)) => Ok(revision),
            _ => Err(late),
        }
    }
}

#[async_trait]
impl Enrol for StoreEnrol {
    async fn enrol(&self, newcomer: Newcomer) -> Result<Revision, AuthError> {
        let id = UserId(Uuid::new_v4());
        let from = newcomer.issuer.clone();
        let user = User {
            id,
            name: newcomer.name,
            email: newcomer.email,
            email_verified: newcomer.email_verified,
            first_name: newcomer.first_name,
            last_name: newcomer.last_name,
            organization: None,
            role: newcomer.role,
            administrator: false,
            disabled: false,
            tokens_dead_until: None,
            created: Timestamp::now(),
        };
        let link = Some(Link { issuer: newcomer.issuer, subject: newcomer.subject, user: id });
        let new = NewUser { user, link, password: None, first_role: newcomer.first_role };
        let create = if newcomer.only_as_first { Mutation::CreateFirstUser } else { Mutation::CreateUser };
        self.settle(&from, create(Box::new(new))).await
    }

    async fn link(&self, link: Link) -> Result<Revision, AuthError> {
        let from = link.issuer.clone();
        self.settle(&from, Mutation::Link { link, by_self: true }).await
    }

    async fn update(&self, user: UserId, profile: Profile) -> Result<Revision, AuthError> {
        let Ok(Item::User(mut known, _)) = self.store.item(Key::User(user)).await else {
            return Err(AuthError::Unavailable("the account cannot be read at the moment\ntry again later"));
        };
        let Profile { email, email_verified, first_name, last_name, organization } = profile;
        *known = User { email, email_verified, first_name, last_name, organization, ..*known };
        self.settle("token", Mutation::UpdateUser(known)).await
    }
}

impl std::fmt::Debug for StoreEnrol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreEnrol")
    }
}
