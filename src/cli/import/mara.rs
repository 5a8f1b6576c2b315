//! mara-acl: presence of a pair of keys is access; both keys are made of names that lost their punctuation.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Fate, NewGrant, NewUser, Plan};
use super::tables::{Tables, text};
use crate::cli::Failure;
use crate::policy::written::Written;
use crate::policy::{Levels, PatternKey};

/// What one access of mara's is here: create, read, update, delete, execute.
const ACCESS: Levels = match Levels::from_bits(31) {
    Some(levels) => levels,
    None => Levels::NONE,
};

/// The page of mara's on which roles and grants are changed.
const USERS_PAGE: &str = "Users";

/// A user of mara's.
struct Person {
    email: String,
    role: String,
    key: String,
}

/// Plans the import.
///
/// # Errors
/// [`Failure::Usage`] where the tables are not there.
pub(super) fn plan(tables: &Tables) -> Result<Plan, Failure> {
    for table in ["acl_user", "acl_permission"] {
        if !tables.has(table) {
            return Err(Failure::Usage(format!(
                "there is no table `{table}` in these files; there are: {}\nmara-acl keeps its users in acl_user and its \
                 grants in acl_permission",
                tables.names()
            )));
        }
    }
    let mut plan = Plan::default();
    let people = people(tables, &mut plan);
    let mut rows: BTreeSet<(String, String)> = BTreeSet::new();
    for row in tables.rows("acl_permission") {
        rows.insert((text(row, "user_key"), text(row, "resource_key")));
    }
    let mut subjects = BTreeMap::new();
    for (user_key, _) in &rows {
        if !subjects.contains_key(user_key) {
            subjects.insert(user_key.clone(), subject(user_key, &people));
        }
    }
    for (user_key, resource_key) in &rows {
        let row = format!("{user_key} on {resource_key}");
        let who = match subjects.get(user_key) {
            Some(Ok(who)) => who,
            Some(Err((quirk, what))) => {
                plan.drop(quirk, row, what.clone());
                continue;
            }
            None => continue,
        };
        match resource(resource_key) {
            Ok(keys) => {
                report_grant(&mut plan, who, &keys, &row);
                let keys = keys.iter().map(|key| PatternKey::Key((*key).into())).collect();
                plan.grants.push(NewGrant { who: who.clone(), keys, levels: ACCESS, row });
            }
            Err((quirk, what)) => plan.drop(quirk, row, what),
        }
    }
    report_matches(&mut plan, &rows, &subjects, &people);
    if people.iter().any(|person| person.role == "Admin") {
        let what = "the role `Admin` has the grants of its rows here and no other power; who may manage users is said by \
                    `carta-gateway user add --admin`";
        plan.remark("B8", Fate::Note, "role Admin", what);
    }
    Ok(plan)
}

fn people(tables: &Tables, plan: &mut Plan) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::new();
    for row in tables.rows("acl_user") {
        let (written, role) = (text(row, "email"), text(row, "role"));
        let email = written.to_lowercase();
        let label = format!("user {written}");
        if crate::identity::email(&email).as_deref() != Some(email.as_str()) {
            plan.drop("3.1", label, "this is no address, so nobody can prove to be it");
        } else if written != email {
            plan.drop("B7", label, "mara looks for addresses in lower case only, so this one never came in");
        } else if role.is_empty() {
            plan.drop("3.1", label, "the user has no role");
        } else {
            plan.users.push(NewUser {
                name: email.clone(),
                email: Some(email.clone()),
                first_name: None,
                last_name: None,
                role: role.clone(),
                disabled: false,
            });
            people.push(Person { key: format!("user__{}__{}", escape(&role), escape(&email)), email, role });
        }
    }
    people
}

type Why = (&'static str, String);

/// Whom a key means: the one user, or the one role, whose key it is.
fn subject(key: &str, people: &[Person]) -> Result<Written, Why> {
    let Some(rest) = key.strip_prefix("user__").filter(|rest| !rest.is_empty()) else {
        return Err(("B3", "no interface of mara's writes this; it named everybody whose key it matches".to_owned()));
    };
    let exactly: Vec<&Person> = people.iter().filter(|person| person.key == key).collect();
    match exactly.as_slice() {
        [person] => return Ok(Written::User(person.email.clone())),
        [] => {}
        several => {
            let names: Vec<&str> = several.iter().map(|person| person.email.as_str()).collect();
            return Err((
                "B4",
                format!("the key is that of {} alike: grant it by hand to who is meant", names.join(" and ")),
            ));
        }
    }
    let roles: BTreeSet<&str> =
        people.iter().map(|person| person.role.as_str()).filter(|role| escape(role) == rest).collect();
    let roles: Vec<&str> = roles.into_iter().collect();
    match roles.as_slice() {
        [role] => return Ok(Written::Role((*role).to_owned())),
        [] => {}
        several => {
            return Err((
                "B4",
                format!("the key is that of the roles {} alike: grant it by hand", several.join(" and ")),
            ));
        }
    }
    let dormant = people.iter().find(|person| rest.ends_with(&format!("__{}", escape(&person.email))));
    if let Some(person) = dormant {
        let what = format!(
            "dormant: given to {} in another role than {}; in mara it would have come back with the role",
            person.email, person.role
        );
        return Err(("dormant", what));
    }
    if rest.contains("__") {
        return Err((
            "dormant",
            "given to a user who is not there any more; in mara a return would have revived it".to_owned(),
        ));
    }
    Ok(Written::Role(rest.to_owned()))
}

/// The keys of a resource, as far as mara kept them apart.
fn resource(key: &str) -> Result<Vec<&str>, Why> {
    let Some(rest) = key.strip_prefix("resource__All") else {
        return Err(("B3", "no interface of mara's writes this; it named everything whose key it matches".to_owned()));
    };
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = rest.strip_prefix("__") else {
        return Err(("B3", "no interface of mara's writes this; it named everything whose key it matches".to_owned()));
    };
    let keys: Vec<&str> = rest.split("__").collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(("B4", "a name is empty, or ends with `_`: what is meant cannot be told".to_owned()));
    }
    if keys.len() > crate::policy::MAX_KEYS {
        return Err(("B4", "the tree is too deep".to_owned()));
    }
    Ok(keys)
}

/// What every grant of mara's means that ours does not.
fn report_grant(plan: &mut Plan, who: &Written, keys: &[&str], row: &str) {
    match keys {
        [] => {
            if *who == Written::Role("Guest".to_owned()) {
                plan.change(
                    "B9",
                    row,
                    "mara gives everybody who comes in everything by this; keep it only if that is meant",
                );
            }
            let what = format!(
                "it also opened the page `{USERS_PAGE}`, on which mara's roles and grants are changed; here it gives no admin"
            );
            plan.change("B6", row, what);
        }
        [USERS_PAGE, ..] => {
            let what = "it opened the page on which mara's roles and grants are changed; here it gives no admin";
            plan.change("B6", row, what);
        }
        [above @ .., _] => {
            let above = if above.is_empty() { "All".to_owned() } else { format!("All, {}", above.join(", ")) };
            plan.change(
                "B6",
                row,
                format!("it also opened what is above it ({above}); here that is only shown in menus"),
            );
        }
    }
}

/// Whom and what the keys matched beyond what they name.
fn report_matches(
    plan: &mut Plan,
    rows: &BTreeSet<(String, String)>,
    subjects: &BTreeMap<String, Result<Written, Why>>,
    people: &[Person],
) {
    for (key, who) in subjects {
        for person in people.iter().filter(|person| like(&person.key, key)) {
            let meant = match who {
                Ok(Written::User(email)) => *email == person.email,
                Ok(Written::Role(role)) => *role == person.role,
                _ => false,
            };
            if !meant {
                let what =
                    format!("it also matched {} (role {}), who gets nothing by it here", person.email, person.role);
                plan.change(if person.key.starts_with(key.as_str()) { "B1" } else { "B2" }, key, what);
            }
        }
    }
    let keys: BTreeSet<&str> = rows.iter().map(|(_, key)| key.as_str()).filter(|key| resource(key).is_ok()).collect();
    for key in &keys {
        for other in keys.iter().filter(|other| *other != key && (like(other, key) || like(key, other))) {
            let below = |low: &str, high: &str| low.strip_prefix(high).is_some_and(|rest| rest.starts_with("__"));
            if !below(other, key) && !below(key, other) {
                let quirk = if other.starts_with(key) || key.starts_with(other) { "B1" } else { "B2" };
                plan.change(quirk, *key, format!("it also opened {other}, and does not here"));
            }
        }
    }
}

/// SQL's `text LIKE pattern || '%'`, in which `_` is any one character and `%` any number.
fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().chain(['%']).collect());
    let (mut at, mut of) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(of), text.get(at)) {
            (Some('%'), _) => {
                retry = Some((at, of));
                of += 1;
            }
            (Some(wanted), Some(found)) if *wanted == '_' || wanted == found => (at, of) = (at + 1, of + 1),
            (None, None) => return true,
            _ => match retry {
                Some((from, star)) if from < text.len() => {
                    retry = Some((from + 1, star));
                    (at, of) = (from + 1, star + 1);
                }
                _ => return false,
            },
        }
    }
}

/// mara's way to make a key of a name: blanks and ASCII punctuation but `_` become `-`.
fn escape(name: &str) -> String {
    name.chars()
        .map(|found| if found == ' ' || (found.is_ascii_punctuation() && found != '_') { '-' } else { found })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_matches_as_sql_does() {
        for (text, pattern, matches) in [
            ("abc", "ab", true),
            ("ab", "abc", false),
            ("axc", "a_c", true),
            ("ac", "a_c", false),
            ("anything", "%", true),
            ("", "", true),
            ("a__b", "a_%b", true),
            ("xayb", "%a_b", true),
            ("user__A-B", "user__A", true),
        ] {
            assert_eq!(like(text, pattern), matches, "{text} {pattern}");
        }
    }

    #[test]
    fn keys_lose_their_punctuation() {
        assert_eq!(escape("R&D (new)_x.ä"), "R-D--new-_x-ä");
    }
}
