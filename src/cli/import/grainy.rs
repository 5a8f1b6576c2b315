//! django-grainy: a mask for a user or a group on a namespace, all of a user's merged into one set.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::plan::{Fate, NewGrant, NewUser, Plan, shown};
use super::tables::{Row, Tables, text, truth};
use crate::cli::Failure;
use crate::policy::effects::meet;
use crate::policy::written::Written;
use crate::policy::{Change, Grant, GroupId, Levels, Member, Pattern, PatternKey, Snapshot, Subject, UserId, dialect};

/// How many answers are compared at most; enough for a population that people look after.
const MOST_COMPARED: usize = 500_000;

/// How many names are looked at where two rows of one user meet.
const MOST_MET: usize = 10_000;

/// What one user or group has, by the namespace as it is written, with the row for people.
type Held = BTreeMap<String, (i128, String)>;

/// The tables, by their names here.
struct Places<'a> {
    users: &'a str,
    members: &'a str,
    user_id: &'a str,
}

/// Plans the import.
///
/// # Errors
/// [`Failure::Usage`] where the tables are not there.
pub(super) fn plan(tables: &Tables) -> Result<Plan, Failure> {
    let (of_users, of_groups) = ("django_grainy_userpermission", "django_grainy_grouppermission");
    if !tables.has(of_users) && !tables.has(of_groups) {
        return Err(Failure::Usage(format!(
            "there is neither `{of_users}` nor `{of_groups}` in these files; there are: {}",
            tables.names()
        )));
    }
    let mut plan = Plan::default();
    let places = places(tables)?;
    let users = users(tables, &places, &mut plan);
    let groups: BTreeMap<String, String> =
        tables.rows("auth_group").iter().map(|row| (text(row, "id"), text(row, "name"))).collect();
    let members = members(tables, &places, &users, &groups);
    for (id, name) in &groups {
        let of = members.iter().filter(|(_, groups)| groups.contains(id)).filter_map(|(user, _)| users.get(user));
        plan.groups.push((name.clone(), of.cloned().collect()));
    }

    let user_rows = rows(tables.rows(of_users), "user", &users, &mut plan);
    let group_rows = rows(tables.rows(of_groups), "group", &groups, &mut plan);
    for (id, written) in &user_rows {
        let Some(name) = users.get(id) else { continue };
        grants(written, &Written::User(name.clone()), &mut plan);
    }
    for (id, written) in &group_rows {
        let Some(name) = groups.get(id) else { continue };
        grants(written, &Written::Group(name.clone()), &mut plan);
    }
    compare(&users, &members, &user_rows, &group_rows, &mut plan);
    Ok(plan)
}

/// Django's own users, or those of a project that has its own.
fn places(tables: &Tables) -> Result<Places<'_>, Failure> {
    if tables.has("auth_user") {
        return Ok(Places { users: "auth_user", members: "auth_user_groups", user_id: "user_id" });
    }
    let users = tables.having(&["id", "username"]).or_else(|| tables.having(&["id", "email", "is_superuser"]));
    let Some(users) = users else {
        return Err(Failure::Usage(format!(
            "there is no table of users, such as `auth_user`, in these files; there are: {}",
            tables.names()
        )));
    };
    let members = tables.having(&["user_id", "group_id"]).unwrap_or("auth_user_groups");
    Ok(Places { users, members, user_id: "user_id" })
}

fn users(tables: &Tables, places: &Places<'_>, plan: &mut Plan) -> BTreeMap<String, String> {
    let mut users = BTreeMap::new();
    let some = |row: &Row, column: &str| Some(text(row, column)).filter(|text| !text.is_empty());
    for row in tables.rows(places.users) {
        let Some(name) = some(row, "username").or_else(|| some(row, "email")) else { continue };
        if truth(row, "is_superuser") {
            let what = "a superuser: django-grainy lets them do everything; here they have their grants and no more";
            plan.remark("superuser", Fate::Note, format!("user {name}"), what);
        }
        plan.users.push(NewUser {
            name: name.clone(),
            email: some(row, "email")
                .and_then(|email| crate::identity::email(&email).map(std::borrow::Cow::into_owned)),
            first_name: some(row, "first_name"),
            last_name: some(row, "last_name"),
            role: "User".to_owned(),
            disabled: row.contains_key("is_active") && !truth(row, "is_active"),
        });
        users.insert(text(row, "id"), name);
    }
    users
}

fn members(
    tables: &Tables,
    places: &Places<'_>,
    users: &BTreeMap<String, String>,
    groups: &BTreeMap<String, String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in tables.rows(places.members) {
        let (user, group) = (text(row, places.user_id), text(row, "group_id"));
        if users.contains_key(&user) && groups.contains_key(&group) {
            members.entry(user).or_default().insert(group);
        }
    }
    members
}

/// The rows by whom they are for, as the library keeps them: of two with one text the later counts.
fn rows(table: &[Row], kind: &str, known: &BTreeMap<String, String>, plan: &mut Plan) -> BTreeMap<String, Held> {
    let mut all: BTreeMap<String, Held> = BTreeMap::new();
    for row in table {
        let (id, namespace, permission) =
            (text(row, &format!("{kind}_id")), text(row, "namespace"), text(row, "permission"));
        let Some(name) = known.get(&id) else {
            plan.drop("orphan", format!("{kind} {id}: {namespace}"), format!("there is no {kind} with this id"));
            continue;
        };
        let label = format!("{kind} {name}: {namespace} = {permission}");
        let Some(mask) = mask(&permission, &label, plan) else { continue };
        if let Some((_, earlier)) = all.entry(id).or_default().insert(namespace, (mask, label.clone())) {
            plan.drop("1.3", earlier, format!("replaced by a later row of the same namespace: {label}"));
        }
    }
    all
}

fn mask(permission: &str, label: &str, plan: &mut Plan) -> Option<i128> {
    if permission.is_empty() {
        plan.drop("1.3", label, "no mask at all counts as no row");
        return None;
    }
    if let Ok(mask) = permission.parse() {
        return Some(mask);
    }
    let read = dialect::flags(permission);
    if permission.parse() != Ok(read) {
        let what = format!("to grainy these letters are {read}; that is what is imported");
        plan.change("G1", label, what);
    }
    Some(read.bits().into())
}

/// The grants of what one has: of two namespaces with one meaning the text that sorts last counts.
fn grants(written: &Held, who: &Written, plan: &mut Plan) {
    let mut by_name: BTreeMap<Pattern, (i128, &str)> = BTreeMap::new();
    for (namespace, (mask, label)) in written {
        let Ok(pattern) = dialect::pattern(namespace) else {
            plan.drop("G6", label, format!("more than {} keys", crate::policy::MAX_KEYS));
            continue;
        };
        if let Some((_, other)) = by_name.insert(pattern, (*mask, label)) {
            plan.drop("1.3", other, format!("never counted: {label} means the same name and sorts after it"));
        }
    }
    for (pattern, (mask, label)) in by_name {
        let levels = levels(mask);
        if !(0..=15).contains(&mask) {
            let lost = if levels.is_empty() { "what is left is a deny" } else { "they are left out" };
            plan.change(
                "bits",
                label,
                format!("the mask has bits that are no flag of grainy's, and would be levels here; {lost}"),
            );
        }
        let keys: Vec<PatternKey> = pattern.keys().to_vec();
        let literal = || keys.iter().filter_map(PatternKey::literal);
        if literal().any(|key| key == "__" || key == "__implicit") {
            plan.change("G5", label, "grainy fails on a question that meets this key; here it is a key like any other");
        }
        if literal().any(str::is_empty) {
            plan.change(
                "G4",
                label,
                "grainy fails on a question with `?` that meets the empty key; here it is a key like any other",
            );
        }
        plan.grants.push(NewGrant { who: who.clone(), keys, levels, row: label.to_owned() });
    }
}

fn levels(mask: i128) -> Levels {
    u8::try_from(mask & 15).ok().and_then(Levels::from_bits).unwrap_or_default()
}

/// Says where the answers differ because the rows of a user and of the user's groups are kept apart here: asked of the
/// engine itself, with the rows merged as django-grainy merges them, and as they are imported.
fn compare(
    users: &BTreeMap<String, String>,
    members: &BTreeMap<String, BTreeSet<String>>,
    user_rows: &BTreeMap<String, Held>,
    group_rows: &BTreeMap<String, Held>,
    plan: &mut Plan,
) {
    let me = UserId(Uuid::from_u128(1));
    let none = Held::new();
    let mut compared = 0;
    for (id, groups) in members {
        let own = user_rows.get(id).unwrap_or(&none);
        let of_groups: Vec<&Held> = groups.iter().filter_map(|group| group_rows.get(group)).collect();
        let mut merged = own.clone();
        for (namespace, row) in of_groups.iter().flat_map(|written| written.iter()) {
            merged.entry(namespace.clone()).or_insert_with(|| row.clone());
        }
        let (mut apart, mut ids) = (changes(own, &Subject::User(me)), Vec::new());
        for (number, written) in of_groups.iter().enumerate() {
            let group = GroupId(Uuid::from_u128(number as u128 + 1));
            apart.extend(changes(written, &Subject::Group(group)));
            ids.push(group);
        }
        apart.push(Change::Member(Member { id: me, role: "".into(), groups: ids }));
        let theirs = Snapshot::empty().patched(changes(&merged, &Subject::User(me)));
        let ours = Snapshot::empty().patched(apart);
        let name = users.get(id).map_or(id.as_str(), String::as_str);
        for keys in questions(&merged) {
            compared += 1;
            if compared > MOST_COMPARED {
                let what = format!("only the first {MOST_COMPARED} answers were compared");
                plan.remark("D1", Fate::Note, "users and their groups", what);
                return;
            }
            let asked: Vec<&str> = keys.iter().map(|key| key.literal().unwrap_or("any-other")).collect();
            let answer = |policy: &Snapshot| policy.levels(me, &asked, Timestamp::UNIX_EPOCH);
            let (before, after) = (answer(&theirs), answer(&ours));
            if before != after {
                let row = format!("user {name}: {}", shown(&keys));
                plan.change("D1", row, format!("django-grainy gives {before}; here it is {after}"));
            }
        }
    }
}

fn changes(written: &Held, subject: &Subject) -> Vec<Change> {
    let grant = |(namespace, (mask, _)): (&String, &(i128, String))| {
        let pattern = dialect::pattern(namespace).ok()?;
        Some(Change::Grant(Grant { subject: subject.clone(), pattern, levels: levels(*mask), expires: None }))
    };
    written.iter().filter_map(grant).collect()
}

/// The names of the rows, and those where two of them meet: by `*` a row has a say on names that it does not spell.
fn questions(written: &Held) -> BTreeSet<Vec<PatternKey>> {
    let names: BTreeSet<Pattern> = written.keys().filter_map(|namespace| dialect::pattern(namespace).ok()).collect();
    let wild = names.iter().filter(|name| !name.is_literal());
    let met = wild.flat_map(|one| names.iter().filter_map(move |other| meet(one, other)));
    let met: BTreeSet<Pattern> = met.take(MOST_MET).collect();
    names.iter().chain(&met).map(|name| name.keys().to_vec()).collect()
}
