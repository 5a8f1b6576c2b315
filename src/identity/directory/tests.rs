//! What a directory answers, and that patches lead to the same as a load.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn user(n: u128, name: &str, email: Option<&str>) -> User {
    User {
        id: UserId(Uuid::from_u128(n)),
        name: name.into(),
        email: email.map(Into::into),
        email_verified: true,
        first_name: None,
        last_name: None,
        organization: None,
        role: "Guest".into(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::UNIX_EPOCH,
    }
}

fn group(n: u128, name: &str) -> Group {
    Group { id: GroupId(Uuid::from_u128(n)), name: name.into(), owner: None }
}

fn link(issuer: &str, subject: &str, n: u128) -> Link {
    Link { issuer: issuer.into(), subject: subject.into(), user: UserId(Uuid::from_u128(n)) }
}

#[test]
fn a_user_is_found_by_id_name_link_and_email() {
    let directory = Directory::empty().patched(&[
        Item::Link(link("https://idp", "s-1", 1)),
        Item::User(Box::new(user(1, "alice", Some("Alice@Example.org"))), vec![]),
    ]);
    let id = UserId(Uuid::from_u128(1));
    assert_eq!(directory.by_id(id).unwrap().name.as_str(), "alice");
    assert_eq!(directory.by_name("alice").unwrap().id, id);
    assert!(directory.by_name("Alice").is_none());
    assert_eq!(directory.by_link("https://idp", "s-1").unwrap().id, id);
    assert!(directory.by_link("https://idp", "s-2").is_none());
    assert!(directory.by_link("https://other", "s-1").is_none());
    assert_eq!(directory.by_email("alice@example.org").unwrap().id, id);
    assert_eq!(directory.links_of(id).len(), 1);
}

#[test]
fn an_address_that_two_accounts_have_names_neither() {
    let directory = Directory::empty().patched(&[
        Item::User(Box::new(user(1, "alice", Some("a@x.org"))), vec![]),
        Item::User(Box::new(user(2, "bob", Some("A@x.org"))), vec![]),
    ]);
    assert!(directory.by_email("a@x.org").is_none());
    assert!(directory.knows_email("a@x.org"));
    let mut claims_it = user(2, "bob", Some("a@x.org"));
    claims_it.email_verified = false;
    let claimed = directory.patched(&[Item::User(Box::new(claims_it), vec![])]);
    assert_eq!(claimed.by_email("a@x.org").unwrap().name.as_str(), "alice", "a claim takes nothing away");
    let directory = directory.patched(&[Item::Gone(Key::User(UserId(Uuid::from_u128(2))))]);
    assert_eq!(directory.by_email("a@x.org").unwrap().name.as_str(), "alice");
}

#[test]
fn a_user_who_goes_takes_name_address_links_and_memberships_along() {
    let staff = group(9, "Staff");
    let directory = Directory::empty().patched(&[
        Item::User(Box::new(user(1, "alice", Some("a@x.org"))), vec![staff.id]),
        Item::Group(staff.clone()),
        Item::Link(link("https://idp", "s-1", 1)),
    ]);
    let epoch = directory.epoch();
    let after = directory.patched(&[Item::Gone(Key::User(UserId(Uuid::from_u128(1))))]);
    assert!(after.by_name("alice").is_none());
    assert!(!after.knows_email("a@x.org"));
    assert!(after.by_link("https://idp", "s-1").is_none());
    assert_eq!(after.members(staff.id).count(), 0);
    assert_ne!(after.epoch(), epoch);
    assert!(directory.by_name("alice").is_some(), "the older directory is untouched");
}

#[test]
fn a_name_may_pass_to_another_user_in_one_patch_in_either_order() {
    let directory = Directory::empty().patched(&[Item::User(Box::new(user(1, "alice", None)), vec![])]);
    let gone = Item::Gone(Key::User(UserId(Uuid::from_u128(1))));
    let new = Item::User(Box::new(user(2, "alice", None)), vec![]);
    for items in [[gone.clone(), new.clone()], [new, gone]] {
        assert_eq!(directory.patched(&items).by_name("alice").unwrap().id, UserId(Uuid::from_u128(2)));
    }
}

#[test]
fn accounts_carry_the_names_of_their_groups_in_order_and_follow_them() {
    let (b, a) = (group(1, "Beta"), group(2, "Alpha"));
    let directory = Directory::empty().patched(&[
        Item::User(Box::new(user(1, "alice", None)), vec![b.id, a.id]),
        Item::Group(b.clone()),
        Item::Group(a.clone()),
    ]);
    let names = |d: &Directory| {
        d.by_name("alice").unwrap().groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    assert_eq!(names(&directory), "Alpha,Beta");
    let renamed = directory.patched(&[Item::Group(Group { name: "Gamma".into(), ..a.clone() })]);
    assert_eq!(names(&renamed), "Beta,Gamma");
    assert!(renamed.group_by_name("Alpha").is_none());
    let left = renamed.patched(&[Item::User(Box::new(user(1, "alice", None)), vec![b.id])]);
    assert_eq!(names(&left), "Beta");
    assert_eq!(left.members(a.id).count(), 0);
    assert_eq!(names(&directory.patched(&[Item::Gone(Key::Group(b.id))])), "Alpha");
}

#[test]
fn no_two_directories_have_the_same_version() {
    let alice = user(1, "alice", None);
    let base = [
        Item::Group(group(9, "Staff")),
        Item::User(Box::new(alice.clone()), vec![group(9, "").id]),
        Item::Link(link("https://idp", "s-1", 1)),
    ];
    let loaded = || {
        let mut loading = Loading::default();
        loading.take(&base);
        loading.finish()
    };
    let mut directory = loaded();
    let mut seen = BTreeSet::from([Directory::empty().version(), Loading::default().finish().version()]);
    assert_eq!(seen.len(), 2);
    assert!(seen.insert(directory.version()) && seen.insert(loaded().version()), "each load has its own");
    for change in [
        Item::User(Box::new(User { email: Some("a@x.org".into()), ..alice.clone() }), vec![group(9, "").id]),
        Item::User(Box::new(alice.clone()), vec![]),
        Item::User(Box::new(alice.clone()), vec![]),
        Item::User(Box::new(user(2, "bob", None)), vec![]),
        Item::Group(group(9, "Crew")),
        Item::Gone(Key::Group(group(9, "").id)),
        Item::Link(link("https://idp", "s-1", 2)),
        Item::Gone(Key::Link("https://idp".into(), "s-1".into())),
        Item::Gone(Key::ApiToken(crate::store::ApiTokenId(Uuid::from_u128(5)))),
        Item::Gone(Key::User(alice.id)),
    ] {
        directory = directory.patched(std::slice::from_ref(&change));
        assert!(seen.insert(directory.version()), "{change:?}");
        assert!(!seen.insert(directory.clone().version()), "a copy is the same one");
    }
}

#[test]
fn a_link_that_moves_proves_the_new_account_only() {
    let directory = Directory::empty().patched(&[
        Item::User(Box::new(user(1, "alice", None)), vec![]),
        Item::User(Box::new(user(2, "bob", None)), vec![]),
        Item::Link(link("https://idp", "s", 1)),
    ]);
    let moved = directory.patched(&[Item::Link(link("https://idp", "s", 2))]);
    assert_eq!(moved.by_link("https://idp", "s").unwrap().name.as_str(), "bob");
    assert!(moved.links_of(UserId(Uuid::from_u128(1))).is_empty());
    assert_ne!(moved.epoch(), directory.epoch());
    assert_eq!(moved.patched(&[Item::Link(link("https://idp", "s", 2))]).epoch(), moved.epoch());
}

/// What a store may hold, for which the feed's items are made.
#[derive(Clone, Debug, Default)]
struct Model {
    users: BTreeMap<u128, (User, BTreeSet<u128>)>,
    groups: BTreeMap<u128, Group>,
    links: BTreeMap<(String, String), u128>,
}

impl Model {
    /// One change, as the store would make it, and the items by which the feed tells of it.
    fn change(&mut self, what: u8, one: u128, other: u128, text: u8) -> Vec<Item> {
        let key = ("https://idp".to_owned(), format!("s-{text}"));
        match what {
            0..4 => {
                let address = ["a@x.org", "A@X.org", "ä@x.org", "Ä@x.org"].get(usize::from(text));
                let mut user = user(one, &format!("user-{one}-{}", text % 2), address.copied());
                user.email_verified = text.is_multiple_of(3);
                let groups = self.users.get(&one).map(|(_, groups)| groups.clone()).unwrap_or_default();
                self.users.insert(one, (user, groups));
                vec![self.user(one)]
            }
            4 => {
                let Some(_) = self.users.remove(&one) else { return vec![] };
                let mut items = vec![Item::Gone(Key::User(UserId(Uuid::from_u128(one))))];
                let gone: Vec<_> =
                    self.links.iter().filter(|(_, of)| **of == one).map(|(key, _)| key.clone()).collect();
                for key in gone {
                    self.links.remove(&key);
                    items.push(Item::Gone(Key::Link(key.0, key.1)));
                }
                items
            }
            5 => {
                let group = group(other, &format!("Group {other} {text}"));
                self.groups.insert(other, group.clone());
                vec![Item::Group(group)]
            }
            6 => {
                let Some(gone) = self.groups.remove(&other) else { return vec![] };
                let mut items = vec![Item::Gone(Key::Group(gone.id))];
                let members: Vec<u128> = self.users.keys().copied().collect();
                for number in members {
                    if self.users.get_mut(&number).is_some_and(|(_, groups)| groups.remove(&other)) {
                        items.push(self.user(number));
                    }
                }
                items
            }
            7 | 8 => {
                if !self.groups.contains_key(&other) {
                    return vec![];
                }
                let Some((_, groups)) = self.users.get_mut(&one) else { return vec![] };
                if !groups.remove(&other) {
                    groups.insert(other);
                }
                vec![self.user(one)]
            }
            9 if self.users.contains_key(&one) => {
                self.links.insert(key.clone(), one);
                vec![Item::Link(link(&key.0, &key.1, one))]
            }
            _ => match self.links.remove(&key) {
                Some(_) => vec![Item::Gone(Key::Link(key.0, key.1))],
                None => vec![],
            },
        }
    }

    fn user(&self, number: u128) -> Item {
        let (user, groups) = &self.users[&number];
        Item::User(Box::new(user.clone()), groups.iter().map(|group| GroupId(Uuid::from_u128(*group))).collect())
    }

    fn items(&self) -> Vec<Item> {
        let groups = self.groups.values().cloned().map(Item::Group);
        let users = self.users.keys().map(|number| self.user(*number));
        let links = self.links.iter().map(|((issuer, subject), of)| Item::Link(link(issuer, subject, *of)));
        groups.chain(users).chain(links).collect()
    }
}

/// Everything that a directory answers.
fn answers(directory: &Directory) -> Vec<String> {
    let id = |account: &Arc<Account>| account.id.0.as_u128();
    let mut all = vec![directory.len().to_string(), directory.users().count().to_string()];
    for number in 0..8 {
        let user = UserId(Uuid::from_u128(number));
        let mut links: Vec<String> =
            directory.links_of(user).iter().map(|link| format!("{} {}", link.issuer, link.subject)).collect();
        links.sort();
        all.push(format!("{:?} {links:?}", directory.by_id(user)));
        let group = GroupId(Uuid::from_u128(number));
        let members: BTreeSet<u128> = directory.members(group).map(id).collect();
        all.push(format!("{:?} {members:?}", directory.group(group)));
        for text in 0..8 {
            all.push(format!("{:?}", directory.by_name(&format!("user-{number}-{text}")).map(id)));
            all.push(format!("{:?}", directory.group_by_name(&format!("Group {number} {text}"))));
        }
    }
    for text in 0..8 {
        all.push(format!("{:?}", directory.by_link("https://idp", &format!("s-{text}")).map(id)));
    }
    for email in ["a@x.org", "A@x.org", "ä@x.org", "Ä@x.org"] {
        all.push(format!("{:?} {}", directory.by_email(email).map(id), directory.knows_email(email)));
    }
    let mut groups: Vec<&str> = directory.groups().map(|group| group.name.as_str()).collect();
    groups.sort_unstable();
    all.push(groups.join(","));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..Default::default() })]

    #[test]
    fn a_patched_directory_answers_as_one_that_was_loaded(
        changes in proptest::collection::vec((0_u8..11, 0_u128..6, 0_u128..4, 0_u8..5, any::<bool>()), 0..60)
    ) {
        let (mut model, mut directory, mut items) = (Model::default(), Directory::empty(), Vec::new());
        for (what, one, other, text, now) in changes {
            items.extend(model.change(what, one, other, text));
            if now {
                directory = directory.patched(&last_of_each(std::mem::take(&mut items), &model));
            }
        }
        directory = directory.patched(&last_of_each(items, &model));
        let mut loading = Loading::default();
        model.items().chunks(3).for_each(|items| loading.take(items));
        prop_assert_eq!(loading.accounts(), directory.len());
        let loaded = loading.finish();
        prop_assert_eq!(answers(&directory), answers(&loaded));
        // What was loaded is patched like any other.
        let (mut after, mut items) = (model.clone(), Vec::new());
        for (what, one, other, text) in [(0, 1, 1, 0), (5, 1, 1, 4), (7, 1, 1, 0), (9, 1, 0, 1), (4, 2, 0, 0)] {
            items.extend(after.change(what, one, other, text));
        }
        let patched = loaded.patched(&last_of_each(items, &after));
        prop_assert_eq!(answers(&patched), answers(&Directory::empty().patched(&after.items())));
    }
}

/// The feed tells of each key once, as it stands.
fn last_of_each(items: Vec<Item>, model: &Model) -> Vec<Item> {
    let key = |item: &Item| match item {
        Item::User(user, _) => Key::User(user.id),
        Item::Group(group) => Key::Group(group.id),
        Item::Link(link) => Key::Link(link.issuer.clone(), link.subject.clone()),
        Item::Gone(key) => key.clone(),
        other => panic!("{other:?}"),
    };
    let now: BTreeMap<Key, Item> = model.items().into_iter().map(|item| (key(&item), item)).collect();
    let keys: BTreeSet<Key> = items.iter().map(key).collect();
    keys.into_iter().map(|key| now.get(&key).cloned().unwrap_or(Item::Gone(key))).collect()
}
