//! `policy eval` as another program meets it: JSON lines into the real command, JSON lines out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What the command answered, line by line, and its exit code.
fn eval(input: &[u8]) -> (Vec<Value>, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carta-gateway"));
    let piped = command.args(["policy", "eval"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let ended = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), ended.status.code())
}

fn lines(cases: &[Value]) -> Vec<u8> {
    cases.iter().map(|case| format!("{case}\n")).collect::<String>().into_bytes()
}

/// The answers to one line that is well-formed.
fn answers(case: &Value) -> Vec<Value> {
    let (mut answered, code) = eval(&lines(std::slice::from_ref(case)));
    assert_eq!(code, Some(0), "{answered:?}");
    answered.remove(0)["answers"].as_array().unwrap().clone()
}

fn masks(case: &Value) -> Vec<i64> {
    answers(case).iter().map(|answer| answer["mask"].as_i64().unwrap()).collect()
}

fn vectors(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_grainy_vector_is_answered_as_intended() {
    let cases = vectors(include_str!("vectors/grainy.jsonl"));
    let asked: Vec<Value> = cases
        .iter()
        .map(|case| {
            let grants = case["grants"].as_array().unwrap().iter();
            let queries = case["queries"].as_array().unwrap().iter();
            json!({
                "id": case["id"],
                "dialect": "grainy",
                "users": [{"name": "me"}],
                "grants": grants
                    .map(|row| json!({"subject": "user:me", "resource": row[0], "levels": row[1]}))
                    .collect::<Vec<_>>(),
                "queries": queries
                    .map(|query| {
                        json!({"user": "me", "resource": query["resource"], "level": query["level"],
                               "explicit": query["explicit"]})
                    })
                    .collect::<Vec<_>>(),
            })
        })
        .collect();
    let (answered, code) = eval(&lines(&asked));
    assert_eq!((answered.len(), code), (cases.len(), Some(0)));
    let mut count = 0;
    for (case, answered) in cases.iter().zip(&answered) {
        assert_eq!(case["id"], answered["id"]);
        let queries = case["queries"].as_array().unwrap();
        let answers = answered["answers"].as_array().unwrap();
        assert_eq!(queries.len(), answers.len());
        for (query, answer) in queries.iter().zip(answers) {
            let allowed = query.get("intended").unwrap_or(&query["allowed"]);
            assert_eq!(&answer["allowed"], allowed, "{}: {query}: {answer}", case["id"]);
            let mask = query.get("intended_mask").unwrap_or(&query["mask"]);
            if query["explicit"] != true || !query["resource"].as_str().unwrap().contains('?') {
                assert_eq!(&answer["mask"], mask, "{}: {query}: {answer}", case["id"]);
            }
            count += 1;
        }
    }
    assert_eq!(count, 8188);
}

#[test]
fn every_mara_check_is_answered_as_intended() {
    let cases: Vec<_> =
        vectors(include_str!("vectors/mara.jsonl")).into_iter().filter(|case| case["kind"] == "check").collect();
    let (mut asked, mut expected) = (Vec::new(), Vec::new());
    for case in &cases {
        // A question of somebody who is not let in is none.
        let let_in = |query: &&Value| !query["role"].is_null();
        let queries: Vec<&Value> = case["queries"].as_array().unwrap().iter().filter(let_in).collect();
        asked.push(mara(case, &queries));
        expected.push(queries);
    }
    let (answered, code) = eval(&lines(&asked));
    assert_eq!((answered.len(), code), (cases.len(), Some(0)));
    for (answered, queries) in answered.iter().zip(&expected) {
        for (query, answer) in queries.iter().zip(answered["answers"].as_array().unwrap()) {
            let expected = query.get("intended").map_or(!query["via"].is_null(), |intended| intended == true);
            assert_eq!(answer["navigable"], expected, "{}: {query}: {answer}", answered["id"]);
            let at_or_above = query.get("intended").is_none() && query["via"] == "at_or_above";
            assert_eq!(answer["allowed"], at_or_above, "{}: {query}: {answer}", answered["id"]);
        }
    }
}

/// A case of mara's in our words: what is dormant, or written past its interface, is no grant.
fn mara(case: &Value, queries: &[&Value]) -> Value {
    let lower = |email: &Value| email.as_str().unwrap().to_lowercase();
    let mut users: Vec<(String, String)> = Vec::new();
    let known = case["users"].as_array().unwrap().iter().map(|user| (lower(&user[0]), &user[1]));
    for (email, role) in known.chain(queries.iter().map(|query| (lower(&query["user"]), &query["role"]))) {
        if !users.iter().any(|(known, _)| *known == email) {
            users.push((email, role.as_str().unwrap().to_owned()));
        }
    }
    let stored = case["users"].as_array().unwrap();
    let held =
        |email: &Value, role: &Value| stored.iter().any(|user| lower(&user[0]) == lower(email) && user[1] == *role);
    let levels = json!(["read", "write", "execute"]);
    let grants: Vec<Value> = case["grants"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|grant| grant[2].is_array() && (grant[1].is_null() || held(&grant[1], &grant[0])))
        .map(|grant| {
            let subject = match &grant[1] {
                Value::Null => format!("role:{}", grant[0].as_str().unwrap()),
                email => format!("user:{}", lower(email)),
            };
            json!({"subject": subject, "resource": grant[2], "levels": levels})
        })
        .collect();
    json!({
        "id": case["id"],
        "users": users.iter().map(|(name, role)| json!({"name": name, "role": role})).collect::<Vec<_>>(),
        "grants": grants,
        "queries": queries
            .iter()
            .map(|query| json!({"user": lower(&query["user"]), "resource": query["resource"], "level": "execute"}))
            .collect::<Vec<_>>(),
    })
}

#[test]
fn a_malformed_line_has_an_error_and_the_run_goes_on() {
    let fine = json!({"id": "fine", "grants": [], "queries": []});
    for (line, id, said) in [
        (&b"nonsense"[..], Value::Null, "line 1"),
        (b"", Value::Null, "EOF"),
        (b"[]", Value::Null, ""),
        (b"{\"queries\": []}", Value::Null, "`id`"),
        (b"{\"id\": 7}", json!(7), "`queries`"),
        (b"{\"id\": {\"a\": [1]}, \"queries\": 1}", json!({"a": [1]}), "invalid type"),
        (b"{\"id\": \"\xff\", \"queries\": []}", Value::Null, "UTF-8"),
        (b"{\"id\": 1, \"id\": 2, \"queries\": []}", Value::Null, "`id`"),
        (b"{\"id\": 1, \"dialect\": \"mara\", \"queries\": []}", json!(1), "`mara`"),
        (b"{\"id\": 1, \"now\": \"soon\", \"queries\": []}", json!(1), "`soon`"),
        (b"{\"id\": 1, \"users\": [{\"name\": \"a\"}, {\"name\": \"a\"}], \"queries\": []}", json!(1), "twice"),
        (b"{\"id\": 1, \"owners\": [[\"a\", \"x\"], [\"b\", \"x.*\"]], \"queries\": []}", json!(1), "two owners"),
    ] {
        let (answered, code) = eval(&[line, b"\n", &lines(std::slice::from_ref(&fine))].concat());
        assert_eq!((answered.len(), code), (2, Some(1)), "{answered:?}");
        assert_eq!(answered[0]["id"], id);
        assert!(answered[0].get("answers").is_none());
        assert!(answered[0]["error"].as_str().unwrap().contains(said), "{}", answered[0]);
        assert_eq!(answered[1], json!({"id": "fine", "answers": []}));
    }
    assert_eq!(eval(b""), (vec![], Some(0)));
    // A last line needs no end.
    assert_eq!(eval(fine.to_string().as_bytes()).1, Some(0));
}

#[test]
fn what_is_no_subject_level_or_name_is_an_error() {
    let grant = |subject: &str, resource: Value, levels: Value| json!({"id": 1, "grants": [{"subject": subject, "resource": resource, "levels": levels}], "queries": []});
    let level = |level: Value| json!({"id": 1, "queries": [{"user": "a", "resource": "a", "level": level}]});
    let cases = [
        grant("ann", json!("a"), json!("r")),
        grant("user:", json!("a"), json!("r")),
        grant("team:x", json!("a"), json!("r")),
        grant("holders:read", json!("a"), json!("r")),
        grant("holders::a", json!("a"), json!("r")),
        grant("holders:fly:a", json!("a"), json!("r")),
        grant("user:a", json!(7), json!("r")),
        grant("user:a", json!(vec!["x"; 65]), json!("r")),
        grant("user:a", json!(vec!["a.b"; 33].join(".")), json!("r")),
        grant("user:a", json!("a"), json!("deny")),
        grant("user:a", json!("a"), json!("R")),
        grant("user:a", json!("a"), json!(["read", "fly"])),
        grant("user:a", json!("a"), json!([1])),
        grant("user:a", json!("a"), json!(128)),
        grant("user:a", json!("a"), json!(-1)),
        grant("user:a", json!("a"), json!(1.5)),
        grant("user:a", json!("a"), json!(true)),
        grant("user:a", json!("a"), json!(null)),
        grant("user:a", json!("a"), json!({})),
        level(json!("x")),
        level(json!(200)),
    ];
    let (answered, code) = eval(&lines(&cases));
    assert_eq!(code, Some(1));
    for (case, answered) in cases.iter().zip(&answered) {
        assert_eq!(answered["id"], 1, "{case}");
        assert!(answered["error"].is_string(), "{case}: {answered}");
    }
}

#[test]
fn a_line_without_end_is_not_held_in_memory() {
    let mut input = vec![b' '; 64 * 1024 * 1024 + 2];
    input.push(b'\n');
    input.extend(lines(&[json!({"id": 2, "queries": []})]));
    let (answered, code) = eval(&input);
    assert_eq!((answered.len(), code), (2, Some(1)));
    assert!(answered[0]["error"].as_str().unwrap().contains("longer"), "{}", answered[0]);
    assert_eq!(answered[1]["id"], 2);
}

#[test]
fn letters_are_strict_unless_the_dialect_is_grainys() {
    let case = |levels: Value, level: Value| {
        json!({"id": 1, "dialect": "grainy",
               "grants": [{"subject": "user:a", "resource": "x", "levels": levels}],
               "queries": [{"user": "a", "resource": "x", "level": level}]})
    };
    for (levels, level, mask, allowed) in [
        (json!("deny"), json!("d"), json!(8), true),
        (json!("read"), json!("d"), json!(9), true),
        (json!("CRUD"), json!("r"), json!(0), false),
        (json!(["read"]), json!("d"), json!(1), false),
        (json!(16), json!(16), json!(16), true),
        (json!(128), json!(128), json!(128), true),
        (json!(128), json!(256), json!(128), false),
        (json!(-1), json!("c"), json!(-1), true),
        (json!(-8), json!("r"), json!(-8), false),
        (json!(-8), json!(1024), json!(-8), true),
        (json!(i64::MIN), json!(-1), json!(i64::MIN), true),
        (json!(u64::MAX), json!(1), json!(u64::MAX), true),
        (json!(0), json!(-1), json!(0), false),
    ] {
        let answer = answers(&case(levels.clone(), level.clone())).remove(0);
        assert_eq!((&answer["mask"], &answer["allowed"]), (&mask, &json!(allowed)), "{levels} {level}: {answer}");
    }
    // A row that has only bits of no level is no deny, and covers what is below.
    let rows = json!({"id": 1, "dialect": "grainy",
        "grants": [{"subject": "user:a", "resource": "x", "levels": 15}, {"subject": "user:a", "resource": "x.y", "levels": 256},
                   {"subject": "everyone", "resource": "x", "levels": 1}],
        "queries": [{"user": "a", "resource": "x.y.z", "level": "u"}]});
    assert_eq!(masks(&rows), [257]);
}

#[test]
fn numbers_beyond_64_bits_keep_their_bits_too() {
    let line = br#"{"id":1,"dialect":"grainy","grants":[{"subject":"user:a","resource":"x","levels":36893488147419103233}],"queries":[{"user":"a","resource":"x","level":36893488147419103232}]}
"#;
    let mut command = Command::new(env!("CARGO_BIN_EXE_carta-gateway"));
    let mut child = command.args(["policy", "eval"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(line).unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.contains(r#""allowed":true,"levels":["read"],"mask":36893488147419103233,"#), "{text}");
}

#[test]
fn lists_are_opaque_keys_and_texts_are_cut() {
    let case = json!({"id": 1,
    "grants": [{"subject": "user:a", "resource": ["x.y", "*"], "levels": "r"},
               {"subject": "user:b", "resource": "p.**", "levels": "u"},
               {"subject": "user:c", "resource": [], "levels": "c"},
               {"subject": "user:d", "resource": "", "levels": "d"},
               {"subject": "user:e", "resource": "a%2Eb", "levels": "r"}],
    "queries": [
        {"user": "a", "resource": ["x.y", "*"], "level": "r"},
        {"user": "a", "resource": ["x.y", "*", "z"], "level": "r"},
        {"user": "a", "resource": ["x.y", "z"], "level": "r"},
        {"user": "a", "resource": "x.y.*", "level": "r"},
        {"user": "a", "resource": ["x.y", "?"], "level": "r"},
        {"user": "b", "resource": "p", "level": "u"},
        {"user": "b", "resource": ["p", "q"], "level": "u"},
        {"user": "c", "resource": [], "level": "c"},
        {"user": "c", "resource": "any.thing", "level": "c"},
        {"user": "d", "resource": [], "level": "d"},
        {"user": "d", "resource": "any.thing", "level": "d"},
        {"user": "e", "resource": "a%2Eb", "level": "r"},
        {"user": "e", "resource": ["a.b"], "level": "r"},
    ]});
    assert_eq!(masks(&case), [1, 1, 0, 0, 0, 2, 2, 4, 4, 0, 8, 1, 0]);
}

#[test]
fn owners_roles_groups_holders_and_expiry_decide_as_the_rules_say() {
    let case = json!({"id": 1, "now": "2027-01-01T12:00:00Z",
    "users": [{"name": "ann", "role": "Ops", "groups": ["Lab:Chem", "Staff"]}, {"name": "bob"}],
    "owners": [["olga", "m"], ["ann", ["m", "own"]]],
    "grants": [
        {"subject": "role:Ops", "resource": "m.ops", "levels": "r"},
        {"subject": "group:Lab:Chem", "resource": "m.chem", "levels": ["read", "execute"]},
        {"subject": "everyone", "resource": "m.all", "levels": "read"},
        {"subject": "holders:read:m.chem", "resource": "m.shared", "levels": "u"},
        {"subject": "user:bob", "resource": "m.soon", "levels": "r", "expires": "2027-01-01T12:00:01"},
        {"subject": "user:bob", "resource": "m.late", "levels": "r", "expires": "2027-01-01T12:00:00.9Z"},
        {"subject": "everyone", "resource": "m.chem", "levels": ""},
        {"subject": "everyone", "resource": "m.chem", "levels": "c"}],
    "queries": [
        {"user": "ann", "resource": "m.ops", "level": "r"},
        {"user": "ann", "resource": "m.chem.x", "level": ["read", "execute"], "all": true},
        {"user": "ann", "resource": "m.chem.x", "level": ["read", "admin"]},
        {"user": "ann", "resource": "m.chem.x", "level": ["read", "admin"], "all": true},
        {"user": "ann", "resource": "m.shared", "level": "u"},
        {"user": "ann", "resource": "m.own.x", "level": 127, "all": true},
        {"user": "olga", "resource": "m.own.x", "level": "r"},
        {"user": "olga", "resource": "m.ops", "level": "admin"},
        {"user": "bob", "resource": "m.soon", "level": "r"},
        {"user": "bob", "resource": "m.late", "level": "r"},
        {"user": "nobody", "resource": "m.chem", "level": "c"},
        {"user": "nobody", "resource": "m", "level": "c"},
        {"user": "nobody", "resource": "m.all", "level": ""},
    ]});
    let answered = answers(&case);
    let allowed: Vec<bool> = answered.iter().map(|answer| answer["allowed"].as_bool().unwrap()).collect();
    let (t, f) = (true, false);
    assert_eq!(allowed, [t, t, t, f, t, t, f, t, t, f, t, f, f]);
    assert_eq!(answered[1]["levels"], json!(["create", "read", "execute"]));
    assert_eq!(answered[5]["mask"], 127);
    assert_eq!(answered[11]["navigable"], true);
    for (position, word) in [
        (0, "decides: role Ops has read on m.ops"),
        (1, "group Lab:Chem has read, execute on m.chem"),
        (3, "only"),
        (4, "whoever holds read on m.chem has update on m.shared"),
        (5, "ann owns it"),
        (9, "no grant covers it for bob"),
        (12, "level of nothing"),
    ] {
        let because = answered[position]["because"].as_str().unwrap();
        assert!(because.contains(word), "{position}: {because}");
    }
}

#[test]
fn a_question_mark_asks_for_any_name_that_is_known() {
    let case = json!({"id": 1,
        "users": [{"name": "me", "groups": ["G"]}],
        "grants": [{"subject": "user:me", "resource": "a", "levels": "r"},
                   {"subject": "user:me", "resource": "a.b.c", "levels": ""},
                   {"subject": "group:G", "resource": "x.y", "levels": "r"},
                   {"subject": "group:G", "resource": "x.z", "levels": "u"}],
        "queries": [{"user": "me", "resource": "a.?.c", "level": "r"},
                    {"user": "me", "resource": "x.?", "level": "u"},
                    {"user": "me", "resource": "x.?", "level": "ru", "all": true},
                    {"user": "me", "resource": "q.?", "level": "r"}]});
    let answered = answers(&case);
    let allowed: Vec<bool> = answered.iter().map(|answer| answer["allowed"].as_bool().unwrap()).collect();
    // No single name below x has both levels.
    assert_eq!(allowed, [false, true, false, false]);
    assert_eq!(answered[2]["mask"], 3);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_comes_in_one_object_with_an_id_goes_out(
        changes in proptest::collection::vec((0_usize..400, proptest::prelude::any::<u8>()), 0..4)
    ) {
        let mut line = br#"{"id":"x","dialect":"grainy","now":"2027-01-01","users":[{"name":"a","role":"R","groups":["O:G"]}],"owners":[["a","m.*"]],"grants":[{"subject":"holders:read:m","resource":["a","*"],"levels":-1,"expires":"2027-01-01T00:00:01Z"},{"subject":"everyone","resource":"*.b","levels":["read"]}],"queries":[{"user":"a","resource":"?.b","level":"crud","explicit":true,"all":false}]}"#.to_vec();
        for (place, byte) in changes {
            let length = line.len();
            line[place % length] = byte;
        }
        let answered = carta_gateway::cli::policy::eval::answer(&line, jiff::Timestamp::UNIX_EPOCH);
        let read: Value = serde_json::from_str(&answered.line).unwrap();
        proptest::prop_assert!(!answered.line.contains('\n') && read.get("id").is_some());
        proptest::prop_assert_eq!(read.get("error").is_some(), answered.malformed);
        proptest::prop_assert_eq!(read.get("answers").is_some(), !answered.malformed);
    }
}

/// The rows of the tables between two headings that show rows, a question and an answer.
fn examples() -> Vec<[String; 3]> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PERMISSIONS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("## How decisions come").nth(1).unwrap().split("\n## ").next().unwrap();
    let cells = section.lines().filter(|line| line.starts_with("| ") && line.contains('`')).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        [cells[1], cells[2], cells[3]].map(str::to_owned)
    });
    cells.collect()
}

#[test]
fn the_examples_of_the_documents_hold() {
    let levels = |text: &str| if text == "deny" { String::new() } else { text.to_owned() };
    let examples = examples();
    assert!(examples.len() >= 16, "{}", examples.len());
    for [rows, asked, answer] in &examples {
        let mut grants = Vec::new();
        // `a=r a.b=u` is one subject's; `ann: …, her group: …` are several.
        for part in rows.split(", ") {
            let (who, written) = part.rsplit_once(": ").unwrap_or(("ann", part));
            let who = who.trim_matches('`');
            let written = written.trim_matches('`');
            if let Some(name) = part.strip_prefix("ann reads ") {
                grants.push(json!({"subject": "user:ann", "resource": name.trim_matches('`'), "levels": "r"}));
                continue;
            }
            let subject = match who {
                "ann" => "user:ann",
                "her group" => "group:Hers",
                other => other,
            };
            for row in written.split(' ') {
                let (name, flags) = row.split_once('=').unwrap();
                grants.push(json!({"subject": subject, "resource": name, "levels": levels(flags)}));
            }
        }
        let case = json!({"id": 1, "users": [{"name": "ann", "groups": ["Hers"]}], "grants": grants,
            "queries": [{"user": "ann", "resource": asked, "level": "crud"}]});
        let held = answers(&case).remove(0)["mask"].as_u64().unwrap();
        let bit = |letter| match letter {
            'c' => 4,
            'r' => 1,
            'u' => 2,
            'd' => 8,
            other => panic!("`{other}`"),
        };
        let expected: u64 = if answer == "nothing" { 0 } else { answer.chars().map(bit).sum() };
        assert_eq!(held, expected, "{rows} | {asked} | {answer}");
    }
}
