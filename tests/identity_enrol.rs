//! Newcomers in a real store: one account for one person, one first role, and texts that stay texts.
#![allow(clippy::unwrap_used, reason = "a broken test environment should stop the test on the spot")]

mod identity_support;

use std::sync::Arc;

use arc_swap::ArcSwap;
use carta_gateway::config::{Auth, TrustedHeader};
use carta_gateway::identity::{AuthError, Authenticator, Directory, Enrol, Identity, Newcomer, StoreEnrol, TokenCache};
use carta_gateway::store::sqlite::SqliteStore;
use carta_gateway::store::{Revision, Store};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue};
use identity_support::*;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::watch;

/// A store, and a directory that follows its feed.
struct House {
    _dir: TempDir,
    directory: Arc<ArcSwap<Directory>>,
    enrol: Arc<StoreEnrol>,
}

impl House {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&dir.path().join("carta.db"), Arc::new(vault())).unwrap());
        let directory = Arc::new(ArcSwap::from_pointee(Directory::empty()));
        let (show, shown) = watch::channel(Revision(0));
        let (following, fed) = (directory.clone(), store.clone());
        tokio::spawn(async move {
            let mut revisions = fed.revisions();
            while revisions.changed().await.is_ok() {
                let Ok(contents) = fed.load().await else { return };
                following.store(Arc::new(Directory::empty().patched(&contents.items)));
                let _ = show.send(contents.revision);
            }
        });
        Self { _dir: dir, directory, enrol: Arc::new(StoreEnrol::new(store, shown)) }
    }

    async fn ask(&self, authenticator: &Authenticator, email: &str) -> Result<Arc<Identity>, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(HEADER), HeaderValue::from_str(email).unwrap());
        let (cache, peer) = (TokenCache::default(), PROXY.parse().unwrap());
        let directory = || self.directory.load_full();
        authenticator.authenticate(&cache, directory, &headers, peer, Timestamp::now()).await
    }

    fn authenticator(&self, rules: TrustedHeader) -> Authenticator {
        let auth = Auth { local: local(), jwt: vec![], header: Some(rules) };
        Authenticator::new(&auth, None, self.enrol.clone()).unwrap().0
    }
}

#[tokio::test]
async fn of_many_first_logins_one_has_the_first_role_and_each_person_one_account() {
    let house = House::new().await;
    let authenticator = house.authenticator(header_rules());
    let emails = ["ann@x.org", "bob@x.org", "Ann@X.org", "cy@x.org", "ann@x.org"];
    let outcomes = join_all(emails.iter().map(|email| house.ask(&authenticator, email))).await;
    let accounts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().account.clone()).collect();
    assert_eq!(accounts.iter().filter(|account| account.name.as_str() == "ann@x.org").count(), 3);
    let directory = house.directory.load();
    assert_eq!(directory.len(), 3);
    assert_eq!(directory.users().filter(|account| account.role.as_ref() == "Admin").count(), 1);
    assert_eq!(directory.users().filter(|account| account.role.as_ref() == "Guest").count(), 2);
}

#[tokio::test]
async fn what_a_credential_says_is_data() {
    let house = House::new().await;
    let authenticator = house.authenticator(header_rules());
    let odd = "x'--or**1=1)%_@x.org";
    let identity = house.ask(&authenticator, odd).await.unwrap();
    assert_eq!(identity.account.name.as_str(), odd);
    house.ask(&authenticator, "ann@x.org").await.unwrap();
    assert_eq!(house.directory.load().len(), 2);
}

#[tokio::test]
async fn a_name_that_was_taken_meanwhile_is_a_conflict_and_not_somebody_elses_account() {
    let house = House::new().await;
    let newcomer = |issuer: &str| Newcomer {
        issuer: issuer.into(),
        subject: "s".into(),
        name: "ann".into(),
        email: None,
        email_verified: false,
        first_name: None,
        last_name: None,
        role: "Guest".into(),
        first_role: None,
        only_as_first: false,
    };
    house.enrol.enrol(newcomer("https://one")).await.unwrap();
    house.enrol.enrol(newcomer("https://two")).await.unwrap();
    let directory = house.directory.load();
    assert_eq!(directory.len(), 1);
    assert!(directory.by_link("https://one", "s").is_some());
    assert!(directory.by_link("https://two", "s").is_none(), "whoever looks it up again finds the conflict");
}
