//! What it costs to put a user's secret into a request: opening it from the snapshot.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may fail, and criterion makes a public function")]

use std::hint::black_box;
use std::sync::Arc;

use carta_gateway::config::{VaultConfig, VaultKey};
use carta_gateway::policy::UserId;
use carta_gateway::store::{Item, Secret};
use carta_gateway::vault::{Context, ProcessKey, Secrets, Vault};
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

const USERS: u128 = 10_000;

/// As long as keys of real services are.
const VALUE: &[u8] = b"sk-proj-0123456789abcdefghijklmnopqrstuvwxyz0123";

fn opening(criterion: &mut Criterion) {
    let key = ProcessKey::random().unwrap();
    let context = Context::Secret(UserId(Uuid::from_u128(1)), "api-key");
    let held = key.hold(context, VALUE).unwrap();
    let mut out = Zeroizing::new(Vec::with_capacity(256));
    criterion.bench_function("open a held secret", |bencher| {
        bencher.iter(|| key.open_into(black_box(context), black_box(&held), &mut out).unwrap());
    });

    let (vault, secrets) = population();
    let mut user = 0;
    criterion.bench_function("find and open one of 10,000 users' secrets", |bencher| {
        bencher.iter(|| {
            user = (user + 7919) % USERS;
            secrets.open(UserId(Uuid::from_u128(user)), "api-key", Timestamp::UNIX_EPOCH, &mut out).unwrap();
        });
    });

    let sealed = vault.seal(context, VALUE).unwrap();
    criterion.bench_function("open an envelope", |bencher| {
        bencher.iter(|| vault.open(black_box(context), black_box(&sealed)).unwrap());
    });
    criterion.bench_function("seal an envelope", |bencher| {
        bencher.iter(|| vault.seal(black_box(context), black_box(VALUE)).unwrap());
    });
}

/// One secret for each of many users, as a start of the gateway holds them.
fn population() -> (Vault, Secrets) {
    let vault = Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap();
    let secret = |number| {
        let (user, name) = (UserId(Uuid::from_u128(number)), "api-key".to_owned());
        let sealed = vault.seal(Context::Secret(user, &name), VALUE).unwrap();
        Item::Secret(Secret { user, name, sealed, created: Timestamp::UNIX_EPOCH, expires: None })
    };
    let items: Vec<_> = (0..USERS).map(secret).collect();
    let secrets = Secrets::empty(Arc::new(ProcessKey::random().unwrap())).patched(&vault, &items).unwrap();
    (vault, secrets)
}

criterion_group!(benches, opening);
criterion_main!(benches);
