//! What one user has, laid out for calls: the next thing that a call asks for lies beside the last, in memory that no call
//! of another user's brings to the processor.

use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::Held;
use crate::policy::ResourceId;
use crate::store::Consent;

/// A consent's fingerprint: 32 bytes in base64url. One of another length is found among the consents themselves.
type Fingerprint = [u8; 43];

/// How many fingerprints stand beside a secret: they are laid anew with each change, and a user may have thousands.
const BESIDE: usize = 4;

/// What one user has. Lists, because a user has few; sorted, because one may have many.
#[derive(Clone, Default)]
#[repr(C, align(64))]
pub(super) struct Owned {
    /// By name.
    secrets: SmallVec<[Kept; 1]>,
    /// By secret and fingerprint.
    consents: Vec<Arc<Consent>>,
    /// By secret and service.
    withdrawn: Vec<(String, ResourceId)>,
}

/// One secret. Its fields are in the order in which a call asks for them.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Kept {
    name: SmallVec<[u8; 16]>,
    pub(super) expires: Option<Timestamp>,
    /// Where it may go: the first fingerprints of the consents to it, which are the truth.
    given: SmallVec<[Fingerprint; 1]>,
    /// None where the envelope did not open: the secret is there, and no request gets it.
    pub(super) held: Option<Held>,
    pub(super) created: Timestamp,
}

const _: () = assert!(size_of::<Owned>() <= 256, "what a user with one secret has takes more than four cache lines");

impl Kept {
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }
}

impl Owned {
    pub(super) fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.consents.is_empty() && self.withdrawn.is_empty()
    }

    /// The secrets, by name.
    pub(super) fn secrets(&self) -> &[Kept] {
        &self.secrets
    }

    /// The consents, by secret.
    pub(super) fn consents(&self) -> &[Arc<Consent>] {
        &self.consents
    }

    /// Which secrets are not to go to which services any more.
    pub(super) fn withdrawn(&self) -> &[(String, ResourceId)] {
        &self.withdrawn
    }

    /// The secret of this name.
    pub(super) fn secret(&self, name: &str) -> Option<&Kept> {
        self.find(name).ok().and_then(|place| self.secrets.get(place))
    }

    /// Whether the secret may go where the fingerprint says.
    pub(super) fn consented(&self, secret: &str, fingerprint: &str) -> bool {
        let given = || self.secret(secret)?.given.contains(fingerprint.as_bytes().try_into().ok()?).then_some(());
        given().is_some() || self.place(secret, fingerprint).is_ok()
    }

    /// Whether a word about this secret and this service was ever given, or taken back.
    pub(super) fn decided_before(&self, secret: &str, service: ResourceId) -> bool {
        self.consents.iter().any(|known| known.secret == secret && known.service == service)
            || self.withdrawn.iter().any(|(known, from)| known == secret && *from == service)
    }

    pub(super) fn put(&mut self, name: &str, held: Option<Held>, created: Timestamp, expires: Option<Timestamp>) {
        let kept =
            Kept { name: SmallVec::from_slice(name.as_bytes()), expires, given: self.given(name), held, created };
        match self.find(name) {
            Ok(place) => {
                if let Some(known) = self.secrets.get_mut(place) {
                    *known = kept;
                }
            }
            Err(place) => self.secrets.insert(place, kept),
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        if let Ok(place) = self.find(name) {
            self.secrets.remove(place);
        }
    }

    pub(super) fn consent(&mut self, consent: &Consent) {
        if let Err(place) = self.place(&consent.secret, &consent.fingerprint) {
            self.consents.insert(place, Arc::new(consent.clone()));
        }
        self.give(&consent.secret);
    }

    pub(super) fn withdraw(&mut self, secret: &str, fingerprint: &str) {
        if let Ok(place) = self.place(secret, fingerprint) {
            self.consents.remove(place);
        }
        self.give(secret);
    }

    pub(super) fn refuse(&mut self, secret: &str, service: ResourceId) {
        let known = self.withdrawn.binary_search_by(|(of, from)| (of.as_str(), *from).cmp(&(secret, service)));
        if let Err(place) = known {
            self.withdrawn.insert(place, (secret.to_owned(), service));
        }
    }

    pub(super) fn allow(&mut self, secret: &str, service: ResourceId) {
        self.withdrawn.retain(|(of, from)| (of.as_str(), *from) != (secret, service));
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.secrets.binary_search_by(|known| known.name.as_slice().cmp(name.as_bytes()))
    }

    fn place(&self, secret: &str, fingerprint: &str) -> Result<usize, usize> {
        self.consents
            .binary_search_by(|known| (known.secret.as_str(), known.fingerprint.as_str()).cmp(&(secret, fingerprint)))
    }

    /// Lays the fingerprints of the consents to this secret beside it, where it is there.
    fn give(&mut self, secret: &str) {
        let given = self.given(secret);
        if let Ok(place) = self.find(secret)
            && let Some(kept) = self.secrets.get_mut(place)
        {
            kept.given = given;
        }
    }

    fn given(&self, secret: &str) -> SmallVec<[Fingerprint; 1]> {
        let from = self.consents.partition_point(|known| known.secret.as_str() < secret);
        let consents = self.consents.iter().skip(from).take_while(|known| known.secret == secret);
        consents.filter_map(|known| known.fingerprint.as_bytes().try_into().ok()).take(BESIDE).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::policy::UserId;

    const NAMES: [&str; 4] = ["a", "key", "key-of-sixteen-b", "a-name-that-is-longer-than-most-are"];

    /// More digests as they are kept than stand beside a secret, and texts of other lengths.
    const FINGERPRINTS: [&str; BESIDE + 4] = [
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFV",
        "57DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "67DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "77DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "87DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "f",
        "",
    ];

    #[derive(Clone, Debug)]
    enum Step {
        Put(usize, i64),
        Forget(usize),
        Consent(usize, usize),
        Withdraw(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..4_usize, 0..9_i64).prop_map(|(name, at)| Step::Put(name, at)),
            (0..4_usize).prop_map(Step::Forget),
            (0..4_usize, 0..FINGERPRINTS.len()).prop_map(|(name, to)| Step::Consent(name, to)),
            (0..4_usize, 0..FINGERPRINTS.len()).prop_map(|(name, to)| Step::Withdraw(name, to)),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn what_a_user_has_is_what_plain_maps_have(steps in steps()) {
            let (mut owned, mut secrets, mut consents) = (Owned::default(), BTreeMap::new(), BTreeSet::new());
            let at = |second| Timestamp::from_second(second).unwrap();
            for step in steps {
                match step {
                    Step::Put(name, second) => {
                        owned.put(NAMES[name], None, at(second), Some(at(second + 1)));
                        secrets.insert(NAMES[name], second);
                    }
                    Step::Forget(name) => {
                        owned.forget(NAMES[name]);
                        secrets.remove(NAMES[name]);
                    }
                    Step::Consent(name, to) => {
                        owned.consent(&Consent {
                            user: UserId(Uuid::nil()),
                            secret: NAMES[name].to_owned(),
                            service: ResourceId(Uuid::nil()),
                            fingerprint: FINGERPRINTS[to].to_owned(),
                            origins: String::new(),
                            at: at(0),
                        });
                        consents.insert((NAMES[name], FINGERPRINTS[to]));
                    }
                    Step::Withdraw(name, to) => {
                        owned.withdraw(NAMES[name], FINGERPRINTS[to]);
                        consents.remove(&(NAMES[name], FINGERPRINTS[to]));
                    }
                }
                for name in NAMES {
                    let kept = owned.secret(name).map(|kept| (kept.created, kept.expires));
                    prop_assert_eq!(kept, secrets.get(name).map(|second| (at(*second), Some(at(second + 1)))));
                    for to in FINGERPRINTS {
                        prop_assert_eq!(owned.consented(name, to), consents.contains(&(name, to)));
                    }
                }
                prop_assert!(owned.secrets().iter().map(Kept::name).eq(secrets.keys().copied()));
                prop_assert!(owned.consents().iter().map(|one| (&*one.secret, &*one.fingerprint)).eq(consents.iter().copied()));
                prop_assert_eq!(owned.is_empty(), secrets.is_empty() && consents.is_empty());
            }
        }
    }
}
