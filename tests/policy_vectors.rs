//! The answers of the real libraries, by the pass rule of the vectors: what was intended where that differs from what the
//! library does, and the library's answer otherwise.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]

use std::collections::HashMap;

use carta_gateway::policy::{Change, Grant, Levels, Member, Pattern, PatternKey, Snapshot, Subject, UserId, dialect};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

const ME: UserId = UserId(Uuid::from_u128(1));

fn cases(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

#[test]
fn every_grainy_question_is_answered_as_intended() {
    let mut asked = 0;
    for case in cases(include_str!("vectors/grainy.jsonl")) {
        let rows = case["grants"].as_array().unwrap().iter().map(|row| {
            let levels = match &row[1] {
                Value::String(letters) => dialect::flags(letters),
                mask => Levels::from_bits(u8::try_from(mask.as_u64().unwrap()).unwrap()).unwrap(),
            };
            let pattern = dialect::pattern(row[0].as_str().unwrap()).unwrap();
            Change::Grant(Grant { subject: Subject::User(ME), pattern, levels, expires: None })
        });
        let snapshot = Snapshot::empty().patched(rows);
        for question in case["queries"].as_array().unwrap() {
            let explicit = question["explicit"].as_bool().unwrap();
            let name = question["resource"].as_str().unwrap();
            let held = dialect::levels(&snapshot, ME, name, explicit, Timestamp::UNIX_EPOCH);
            let allowed = held.has_any(dialect::flags(question["level"].as_str().unwrap()));
            let expected = question.get("intended").unwrap_or(&question["allowed"]);
            assert_eq!(allowed, expected.as_bool().unwrap(), "{}: {question}", case["id"]);
            // What `explicit` prints as its mask in the vectors is the plain one.
            if !explicit {
                let mask = question.get("intended_mask").unwrap_or(&question["mask"]);
                assert_eq!(u64::from(held.bits()), mask.as_u64().unwrap(), "{}: {question}", case["id"]);
            }
            asked += 1;
        }
    }
    assert_eq!(asked, 8188);
}

/// mara's one access, in ours.
const ACCESS: Levels = match Levels::from_bits(31) {
    Some(levels) => levels,
    None => Levels::NONE,
};

/// mara's users, roles and grants, as an import makes ours of them.
struct Mara {
    snapshot: Snapshot,
    users: HashMap<String, UserId>,
}

impl Mara {
    fn new(case: &Value) -> Self {
        let mut users = HashMap::new();
        let mut changes = Vec::new();
        let mut roles = HashMap::new();
        for (number, user) in case["users"].as_array().unwrap().iter().enumerate() {
            let (email, role) = (user[0].as_str().unwrap().to_lowercase(), user[1].as_str().unwrap());
            let id = UserId(Uuid::from_u128(number as u128 + 1));
            changes.push(Change::Member(Member { id, role: role.into(), groups: vec![] }));
            roles.insert(email.clone(), role);
            users.insert(email, id);
        }
        for grant in case["grants"].as_array().unwrap() {
            let (role, email) = (grant[0].as_str().unwrap(), grant[1].as_str());
            // Keys written past mara's own interface name nobody.
            if role == "raw" && grant[2].is_string() {
                continue;
            }
            let subject = match email {
                None => Subject::Role(role.into()),
                // A grant to a user in a role that the user does not have is dormant.
                Some(email) if roles.get(email) == Some(&role) => Subject::User(users[email]),
                Some(_) => continue,
            };
            let pattern = Pattern::literal(keys(&grant[2])).unwrap();
            changes.push(Change::Grant(Grant { subject, pattern, levels: ACCESS, expires: None }));
        }
        Self { snapshot: Snapshot::empty().patched(changes), users }
    }

    /// The user of this e-mail; an unknown one comes in with role `Guest`.
    fn user(&mut self, email: &str, role: &str) -> UserId {
        let new = UserId(Uuid::from_u128(1000 + self.users.len() as u128));
        let id = *self.users.entry(email.to_lowercase()).or_insert(new);
        if id == new {
            let member = Member { id, role: role.into(), groups: vec![] };
            self.snapshot = self.snapshot.patched([Change::Member(member)]);
        }
        id
    }
}

fn keys(path: &Value) -> Vec<&str> {
    path.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect()
}

#[test]
fn every_mara_check_is_answered_as_intended() {
    let mut asked = 0;
    for case in cases(include_str!("vectors/mara.jsonl")).filter(|case| case["kind"] == "check") {
        let mut mara = Mara::new(&case);
        for question in case["queries"].as_array().unwrap() {
            asked += 1;
            let expected = question.get("intended").map_or(!question["via"].is_null(), |intended| intended == true);
            // Not let in at all: there is no identity to ask about.
            let Some(role) = question["role"].as_str() else {
                assert!(!expected, "{}: {question}", case["id"]);
                continue;
            };
            let user = mara.user(question["user"].as_str().unwrap(), role);
            let resource = keys(&question["resource"]);
            let now = Timestamp::UNIX_EPOCH;
            let allowed = mara.snapshot.navigable(user, &resource, now);
            assert_eq!(allowed, expected, "{}: {question}", case["id"]);
            let levels = mara.snapshot.levels(user, &resource, now);
            let at_or_above = question.get("intended").is_none() && question["via"] == "at_or_above";
            assert_eq!(levels, if at_or_above { ACCESS } else { Levels::NONE }, "{}: {question}", case["id"]);
        }
    }
    assert_eq!(asked, 4768);
}

#[test]
fn the_examples_of_the_rules_hold() {
    for (rows, question, mask) in [
        ("a=r", "a.b.c", "r"),
        ("a.b.c=r", "a.b", ""),
        ("a=r a.b.c=u", "a.b", "r"),
        ("a=crud a.b=r", "a.b.x", "r"),
        ("a=crud a.b= a.b.c=r", "a.b.x", ""),
        ("a=crud a.b= a.b.c=r", "a.b.c.d", "r"),
        ("*=r a.b=u", "a", "r"),
        ("*=r a.b=u", "a.b.c", "u"),
        ("a=r *.b.c=u", "a.b.c", "r"),
        ("a.x=r *.b.c=u", "a.b.c", "u"),
        ("a=r a.b=u a.*.c=d", "a.b.c", "u"),
        ("a.b=u a.*.c=d", "a.b.c", "d"),
        ("a.b.c=u a.*.c=d", "a.b.c", "u"),
        ("a=r a.*.c= a.b.c.d=u", "a.b.c", ""),
        ("a=r a.b.*.y= a.b.x.q=u", "a.b.x.y", ""),
        // D3: the library answers r.
        ("a=r a.b.*.y= a.b.x.y.z=u", "a.b.x.y", ""),
        ("a=r a.b=r a.b.*.y= a.b.x.y.z=u", "a.b.x.y", ""),
        ("a.*.c=r", "a.*.c", "r"),
        ("a.b.c=r", "a.*.c", ""),
        ("ctl.web-1=r ctl.*.stop=u", "ctl.web-1.stop", "u"),
        ("a=r", "A", ""),
    ] {
        let changes = rows.split(' ').map(|row| {
            let (name, flags) = row.split_once('=').unwrap();
            let pattern = dialect::pattern(name).unwrap();
            Change::Grant(Grant { subject: Subject::User(ME), pattern, levels: dialect::flags(flags), expires: None })
        });
        let snapshot = Snapshot::empty().patched(changes);
        let keys: Vec<_> = dialect::keys(question).collect();
        assert_eq!(snapshot.levels(ME, &keys, Timestamp::UNIX_EPOCH), dialect::flags(mask), "{rows}: {question}");
    }
}

#[test]
fn the_root_covers_everything_and_a_star_no_resource_that_has_only_an_id() {
    let id = "@4be0643f-1d98-573b-97cd-ca98a65347dd";
    let grant = |keys: &[PatternKey]| {
        let pattern = Pattern::new(keys.iter().cloned()).unwrap();
        let grant = Grant { subject: Subject::Everyone, pattern, levels: Levels::READ, expires: None };
        Snapshot::empty().patched([Change::Grant(grant)])
    };
    let held = |snapshot: &Snapshot, keys: &[&str]| snapshot.levels(ME, keys, Timestamp::UNIX_EPOCH);
    for keys in [&[][..], &["a"], &["a", "b"], &[id], &[id, "x"]] {
        assert_eq!(held(&grant(&[]), keys), Levels::READ, "{keys:?}");
    }
    let star = grant(&[PatternKey::Any]);
    assert_eq!(held(&star, &["a", "b"]), Levels::READ);
    assert_eq!(held(&star, &["@", "b"]), Levels::READ);
    assert_eq!(held(&star, &[id]), Levels::NONE);
    assert_eq!(held(&star, &[]), Levels::NONE);
    // Deeper down a caller may choose the key: its spelling does not escape a `*`.
    let below = grant(&[PatternKey::Key("a".into()), PatternKey::Any]);
    assert_eq!(held(&below, &["a", id]), Levels::READ);
}
