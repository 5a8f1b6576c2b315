//! Accounts, groups and what proves an account.

use carta_gateway::policy::{GroupId, UserId};
use carta_gateway::store::{Group, Item, Key, Link, MOST_GROUPS, Mutation, NewUser, Password, Store, User};
use uuid::Uuid;

use crate::fixture::*;

crate::contract![
    a_user_comes_back_as_made,
    names_and_links_are_taken_once,
    the_first_account_is_the_first_only_once,
    who_comes_only_as_the_first_is_made_in_a_new_store_alone,
    two_first_logins_make_one_administrator,
    a_failed_creation_leaves_nothing_behind,
    a_profile_update_never_changes_what_decides_about_access,
    disabling_kills_tokens_and_enabling_does_not_revive_them,
    a_password_set_by_somebody_else_deletes_secrets_and_consents,
    a_password_set_by_its_user_keeps_secrets,
    a_reset_ends_the_password_and_the_tokens_and_keeps_secrets,
    of_two_who_replace_the_same_password_one_is_told_that_theirs_holds,
    a_role_takes_the_place_of_the_one_before,
    the_last_administrator_who_can_sign_in_stays_one,
    a_link_is_given_once,
    a_link_made_by_somebody_else_deletes_secrets_and_consents,
    the_platforms_namespace_is_made_with_the_first_administrator_and_stays_theirs,
    membership_is_part_of_the_user,
    the_groups_of_one_user_end_somewhere_and_an_administrators_do_not,
];

async fn a_user_comes_back_as_made(store: &dyn Store) {
    let whole = User {
        first_name: Some("Ann".to_owned()),
        last_name: Some("Ö".to_owned()),
        organization: Some("Org".to_owned()),
        tokens_dead_until: Some(at(3)),
        ..user("ann")
    };
    done(store, new(&whole)).await;
    let bare = User { email: None, email_verified: false, ..user("bob") };
    done(store, new(&bare)).await;
    assert_eq!(store.user_named("ann").await.unwrap(), Some(whole.clone()));
    assert_eq!(store.user_named("Ann").await.unwrap(), None);
    assert_eq!(known(store, bare.id).await, bare);
    assert!(items(store).await.contains(&Item::User(Box::new(whole), vec![])));
}

async fn names_and_links_are_taken_once(store: &dyn Store) {
    let ann = user("ann");
    let linked = |user: User, link| {
        Mutation::CreateUser(Box::new(NewUser { user, link: Some(link), password: None, first_role: None }))
    };
    done(store, linked(ann.clone(), link("https://i", "1", ann.id))).await;
    clashes(store, "user", new(&user("ann"))).await;
    clashes(store, "user", new(&User { id: ann.id, ..user("bob") })).await;
    let bob = user("bob");
    clashes(store, "link", linked(bob.clone(), link("https://i", "1", bob.id))).await;
    refused(store, "another account", linked(bob.clone(), link("https://i", "2", ann.id))).await;
    done(store, linked(bob.clone(), link("https://j", "1", bob.id))).await;
}

fn first(user: &User) -> Mutation {
    let first_role = Some("Admin".to_owned());
    Mutation::CreateUser(Box::new(NewUser { user: user.clone(), link: None, password: None, first_role }))
}

async fn the_first_account_is_the_first_only_once(store: &dyn Store) {
    let (ann, bob) = (user("ann"), user("bob"));
    done(store, first(&ann)).await;
    done(store, first(&bob)).await;
    let (ann, bob) = (known(store, ann.id).await, known(store, bob.id).await);
    assert_eq!((ann.role.as_str(), ann.administrator), ("Admin", true));
    assert_eq!((bob.role.as_str(), bob.administrator), ("Guest", false));
}

async fn who_comes_only_as_the_first_is_made_in_a_new_store_alone(store: &dyn Store) {
    let only_first = |user: &User| match first(user) {
        Mutation::CreateUser(new) => Mutation::CreateFirstUser(new),
        other => other,
    };
    let (ann, bob) = (user("ann"), user("bob"));
    done(store, only_first(&ann)).await;
    assert!(known(store, ann.id).await.administrator);
    refused(store, "before", only_first(&bob)).await;
    refused(store, "before", only_first(&ann)).await;
}

async fn two_first_logins_make_one_administrator(store: &dyn Store) {
    let users: Vec<_> = (0..8).map(|number| user(&format!("user-{number}"))).collect();
    futures_util::future::join_all(users.iter().map(|user| done(store, first(user)))).await;
    let mut administrators = 0;
    for user in &users {
        administrators += usize::from(known(store, user.id).await.administrator);
    }
    assert_eq!(administrators, 1);
}

async fn a_failed_creation_leaves_nothing_behind(store: &dyn Store) {
    let (ann, bob) = (user("ann"), user("bob"));
    done(store, new(&ann)).await;
    done(store, linked(link("https://i", "1", ann.id), true)).await;
    let before = loaded(store).await;
    let taken = Some(link("https://i", "1", bob.id));
    let new = NewUser { user: bob.clone(), link: taken, password: Some(password(1)), first_role: None };
    clashes(store, "link", Mutation::CreateUser(Box::new(new))).await;
    let after = loaded(store).await;
    assert_eq!((before.revision, before.items), (after.revision, after.items));
    assert_eq!(store.password(bob.id).await.unwrap(), None);
}

async fn a_profile_update_never_changes_what_decides_about_access(store: &dyn Store) {
    let ann = user("ann");
    done(store, new(&ann)).await;
    done(store, Mutation::DisableUser { user: ann.id, disabled: true, at: at(7) }).await;
    done(store, Mutation::SetRole { user: ann.id, role: "Analyst".to_owned() }).await;
    done(store, Mutation::SetAdministrator { user: ann.id, administrator: true }).await;
    let stale = User { email: Some("new@example.org".to_owned()), name: "other".to_owned(), ..ann.clone() };
    done(store, Mutation::UpdateUser(Box::new(stale.clone()))).await;
    let now = known(store, ann.id).await;
    assert_eq!(now.email.as_deref(), Some("new@example.org"));
    assert_eq!((now.name.as_str(), now.role.as_str()), ("ann", "Analyst"));
    assert!(now.disabled && now.administrator);
    assert_eq!(now.tokens_dead_until, Some(at(7)));
    idle(store, Mutation::UpdateUser(Box::new(stale))).await;
    misses(store, "user", Mutation::UpdateUser(Box::new(user("nobody")))).await;
}

async fn disabling_kills_tokens_and_enabling_does_not_revive_them(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let disable = |disabled, second| Mutation::DisableUser { user: ann, disabled, at: at(second) };
    idle(store, disable(false, 1)).await;
    done(store, disable(true, 5)).await;
    idle(store, disable(true, 6)).await;
    done(store, disable(false, 9)).await;
    let now = known(store, ann).await;
    assert_eq!((now.disabled, now.tokens_dead_until), (false, Some(at(5))));
    // The first token after that change may be dated one second after it: it must not outlive the next change, be that
    // made in the same second or by a clock that was set back.
    done(store, disable(true, 5)).await;
    assert_eq!(known(store, ann).await.tokens_dead_until, Some(at(6)));
    done(store, disable(false, 5)).await;
    done(store, disable(true, 2)).await;
    assert_eq!(known(store, ann).await.tokens_dead_until, Some(at(7)));
}

async fn with_secrets(store: &dyn Store, name: &str) -> UserId {
    let ann = made(store, name).await;
    reserved(store, name, ann).await;
    let service = registered(store, name, "svc", ann).await;
    done(store, Mutation::PutSecrets(vec![secret(ann, "one", 1), secret(ann, "two", 2)])).await;
    done(store, Mutation::PutConsent(consent(ann, "one", service, "f"))).await;
    ann
}

fn set_password(user: UserId, byte: u8, by_self: bool) -> Mutation {
    Mutation::SetPassword { user, password: password(byte), by_self, replaces: None, at: at(20) }
}

async fn a_password_set_by_somebody_else_deletes_secrets_and_consents(store: &dyn Store) {
    let (ann, bob) = (with_secrets(store, "ann").await, with_secrets(store, "bob").await);
    let before = *store.revisions().borrow();
    done(store, set_password(ann, 1, false)).await;
    let (_, changed) = since(store, before).await;
    for key in [
        Key::Secret(ann, "one".to_owned()),
        Key::Secret(ann, "two".to_owned()),
        Key::Consent(ann, "one".to_owned(), "f".to_owned()),
    ] {
        assert!(changed.contains(&Item::Gone(key.clone())), "{key:?}");
    }
    assert_eq!(known(store, ann).await.tokens_dead_until, Some(at(20)));
    assert_eq!(store.password(ann).await.unwrap(), Some(password(1)));
    let left = |item: &Item| matches!(item, Item::Secret(secret) if secret.user == bob);
    assert_eq!(items(store).await.iter().filter(|item| left(item)).count(), 2);
}

async fn a_reset_ends_the_password_and_the_tokens_and_keeps_secrets(store: &dyn Store) {
    let ann = with_secrets(store, "ann").await;
    let reset = || Mutation::ResetPassword { user: ann, at: at(30) };
    misses(store, "password of", reset()).await;
    done(store, set_password(ann, 1, true)).await;
    done(store, reset()).await;
    idle(store, reset()).await;
    assert_eq!(store.password(ann).await.unwrap(), Some(Password { reset: true, ..password(1) }));
    assert_eq!(known(store, ann).await.tokens_dead_until, Some(at(30)));
    assert!(items(store).await.iter().any(|item| matches!(item, Item::Secret(_))));
    done(store, set_password(ann, 2, true)).await;
    assert_eq!(store.password(ann).await.unwrap(), Some(password(2)));
}

async fn a_password_set_by_its_user_keeps_secrets(store: &dyn Store) {
    let ann = with_secrets(store, "ann").await;
    done(store, set_password(ann, 1, true)).await;
    done(store, set_password(ann, 2, true)).await;
    let kept = items(store).await.iter().filter(|item| matches!(item, Item::Secret(_) | Item::Consent(_))).count();
    assert_eq!(kept, 3);
    assert_eq!(known(store, ann).await.tokens_dead_until, Some(at(21)));
    assert_eq!(store.passwords().await.unwrap(), [(ann, password(2))]);
}

fn linked(link: Link, by_self: bool) -> Mutation {
    Mutation::Link { link, by_self }
}

async fn a_link_made_by_somebody_else_deletes_secrets_and_consents(store: &dyn Store) {
    let (ann, bob) = (with_secrets(store, "ann").await, with_secrets(store, "bob").await);
    let of = |user: UserId| {
        move |item: &Item| match item {
            Item::Secret(secret) => secret.user == user,
            Item::Consent(consent) => consent.user == user,
            _ => false,
        }
    };
    done(store, linked(link("https://i", "1", ann), true)).await;
    assert_eq!(items(store).await.iter().filter(|item| of(ann)(item)).count(), 3);
    idle(store, linked(link("https://i", "1", ann), false)).await;
    let before = *store.revisions().borrow();
    done(store, linked(link("https://i", "2", ann), false)).await;
    let (_, changed) = since(store, before).await;
    assert!(changed.contains(&Item::Gone(Key::Secret(ann, "one".to_owned()))), "{changed:?}");
    assert!(!items(store).await.iter().any(of(ann)));
    assert_eq!(items(store).await.iter().filter(|item| of(bob)(item)).count(), 3);
}

async fn the_platforms_namespace_is_made_with_the_first_administrator_and_stays_theirs(store: &dyn Store) {
    let (ann, bob) = (user("ann"), User { administrator: true, ..user("bob") });
    done(store, new(&ann)).await;
    assert_eq!(store.namespace_named("carta").await.unwrap(), None);
    let standing = |user, administrator| Mutation::SetAdministrator { user, administrator };
    idle(store, standing(ann.id, false)).await;
    let before = *store.revisions().borrow();
    done(store, standing(ann.id, true)).await;
    let (_, changed) = since(store, before).await;
    let platform = store.namespace_named("carta").await.unwrap().unwrap();
    assert_eq!(platform.owner, Some(ann.id));
    assert!(changed.contains(&Item::Namespace(platform.clone())), "{changed:?}");
    done(store, new(&bob)).await;
    assert_eq!(store.namespace_named("carta").await.unwrap(), Some(platform));
}

async fn a_role_takes_the_place_of_the_one_before(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let role = |user, role: &str| Mutation::SetRole { user, role: role.to_owned() };
    idle(store, role(ann, "Guest")).await;
    done(store, role(ann, "Analyst")).await;
    assert_eq!(known(store, ann).await.role, "Analyst");
    misses(store, "user", role(UserId(Uuid::new_v4()), "Analyst")).await;
}

async fn the_last_administrator_who_can_sign_in_stays_one(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let set = |user, administrator| Mutation::SetAdministrator { user, administrator };
    idle(store, set(ann, false)).await;
    done(store, set(ann, true)).await;
    refused(store, "no administrator", set(ann, false)).await;
    done(store, set(bob, true)).await;
    done(store, Mutation::DisableUser { user: bob, disabled: true, at: at(7) }).await;
    refused(store, "no administrator", set(ann, false)).await;
    done(store, Mutation::DisableUser { user: bob, disabled: false, at: at(8) }).await;
    done(store, set(ann, false)).await;
    refused(store, "no administrator", set(bob, false)).await;
    misses(store, "user", set(UserId(Uuid::new_v4()), true)).await;
}

async fn a_link_is_given_once(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    done(store, linked(link("https://i", "1", ann), true)).await;
    idle(store, linked(link("https://i", "1", ann), true)).await;
    clashes(store, "link", linked(link("https://i", "1", bob), true)).await;
    misses(store, "user", linked(link("https://i", "2", UserId(Uuid::new_v4())), true)).await;
    assert!(items(store).await.contains(&Item::Link(link("https://i", "1", ann))));
}

async fn membership_is_part_of_the_user(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let (one, two) = (made_group(store, "Org:All").await, made_group(store, "All").await);
    let named = Group { id: GroupId(Uuid::new_v4()), name: "All".to_owned(), owner: None };
    clashes(store, "group", Mutation::CreateGroup(named)).await;
    let before = *store.revisions().borrow();
    for group in [one, two] {
        done(store, Mutation::AddMember(group, ann)).await;
        idle(store, Mutation::AddMember(group, ann)).await;
    }
    let mut groups = vec![one, two];
    groups.sort();
    let user = Box::new(known(store, ann).await);
    let (_, changed) = since(store, before).await;
    assert_eq!(changed, [Item::User(user.clone(), groups.clone())]);
    let all = items(store).await;
    assert!(all.contains(&Item::User(user.clone(), groups)));
    assert!(all.contains(&Item::User(Box::new(known(store, bob).await), vec![])));
    done(store, Mutation::RemoveMember(one, ann)).await;
    idle(store, Mutation::RemoveMember(one, ann)).await;
    assert_eq!(store.item(Key::User(ann)).await.unwrap(), Item::User(user, vec![two]));
    misses(store, "group", Mutation::AddMember(GroupId(Uuid::new_v4()), ann)).await;
    misses(store, "user", Mutation::AddMember(one, UserId(Uuid::new_v4()))).await;
}

async fn the_groups_of_one_user_end_somewhere_and_an_administrators_do_not(store: &dyn Store) {
    let (ann, olga) = (user("ann"), User { administrator: true, ..user("olga") });
    done(store, Mutation::Batch(vec![new(&ann), new(&olga)])).await;
    let groups = |owner: &User, count: u32| {
        let group = |number| {
            let (id, name) = (GroupId(Uuid::new_v4()), format!("{}-{number}-{count}", owner.name));
            Mutation::CreateGroup(Group { id, name, owner: Some(owner.id) })
        };
        Mutation::Batch((0..count).map(group).collect())
    };
    done(store, groups(&ann, MOST_GROUPS)).await;
    refused(store, "more than 1000 groups", groups(&ann, 1)).await;
    done(store, groups(&olga, MOST_GROUPS + 1)).await;
}

async fn of_two_who_replace_the_same_password_one_is_told_that_theirs_holds(store: &dyn Store) {
    let ann = made(store, "ann").await;
    done(store, set_password(ann, 1, false)).await;
    let replacing = |byte: u8| Mutation::SetPassword {
        user: ann,
        password: password(byte),
        by_self: true,
        replaces: Some(password(1)),
        at: at(21),
    };
    let dead_until = known(store, ann).await.tokens_dead_until;
    done(store, replacing(2)).await;
    assert_ne!(known(store, ann).await.tokens_dead_until, dead_until);
    refused(store, "changed meanwhile", replacing(3)).await;
    assert_eq!(store.password(ann).await.unwrap(), Some(password(2)));
}
