//! The arrows between the rooms of `src/`, as `docs/ARCHITECTURE.md` draws them: none may point the wrong way.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may name. The order is the house's, ground floor first.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("telemetry", &[]),
    ("problem", &[]),
    ("shell", &[]),
    ("wiped", &[]),
    ("batch", &[]),
    ("config", &["policy"]),
    ("store", &["policy"]),
    ("vault", &["policy", "store", "config"]),
    ("identity", &["policy", "config", "store", "vault"]),
    ("upstream", &["policy", "config", "wiped", "batch"]),
    ("proxy", &["policy", "config", "vault", "identity", "upstream", "problem", "shell", "wiped"]),
    ("server", &["config", "problem", "wiped", "batch"]),
    ("api", &["policy", "config", "store", "vault", "identity", "proxy"]),
    ("ui", &["api"]),
];

/// What builds and drives the rooms may name them all.
const ABOVE_ALL: &[&str] = &["app", "refresh", "cli", "main", "lib"];

#[test]
fn no_arrow_between_the_rooms_points_the_wrong_way() {
    let rooms: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in sources() {
        let room = room_of(&file);
        if ABOVE_ALL.contains(&room.as_str()) {
            continue;
        }
        let allowed = rooms.get(room.as_str()).unwrap_or_else(|| panic!("`{room}` is a room that no table knows"));
        for (line, named) in rooms_named_in(&fs::read_to_string(&file).unwrap()) {
            let telemetry = named == "telemetry" && room != "policy";
            if named != room && !telemetry && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{}:{line}: `{room}` may not name `{named}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_itself_has_no_circle() {
    for (position, (room, allowed)) in MAY_IMPORT.iter().enumerate() {
        for named in *allowed {
            let below = MAY_IMPORT.iter().position(|(name, _)| name == named).unwrap();
            assert!(below < position, "`{room}` stands below `{named}` and names it");
        }
    }
}

#[test]
fn the_reader_sees_every_way_to_name_a_room() {
    let code = "use crate::policy::Levels;\n// use crate::store::X;\nuse crate::{config, vault::Context};\nlet x = \
                crate::proxy::walk();\npub(in crate::api) fn f() {}\nuse crate::{\n    identity::A,\n    server,\n};";
    let named: Vec<String> = rooms_named_in(code).into_iter().map(|(_, room)| room).collect();
    assert_eq!(named, ["policy", "config", "vault", "proxy", "api", "identity", "server"]);
}

#[test]
fn no_source_file_grows_beyond_what_one_sitting_reads() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > 600)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "about 400 lines to a file, tests included up to 600:\n{}", long.join("\n"));
}

/// Every Rust file below `src/`.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "no sources found");
    found
}

/// The first path component below `src/`, without `.rs`.
fn room_of(file: &Path) -> String {
    let below = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The room after each `crate::` outside comments, with its line; groups in braces are opened.
fn rooms_named_in(code: &str) -> Vec<(usize, String)> {
    let code: String = code.lines().map(|line| format!("{}\n", line.split("//").next().unwrap_or(""))).collect();
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            for member in split_group(group) {
                named.push((line, first_word(member)));
            }
        } else {
            named.push((line, first_word(rest)));
        }
    }
    named.retain(|(_, word)| MAY_IMPORT.iter().any(|(room, _)| room == word) || ABOVE_ALL.contains(&word.as_str()));
    named
}

/// The members of a brace group, at its own depth only.
fn split_group(text: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&text[start..at]);
                return members;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}
