//! `policy diff` as its users meet it: two files in, gains and losses out, an exit code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop on the spot")]

use std::process::Command;

const PEOPLE: &str = "[[user]]\nname = \"ann\"\nrole = \"Ops\"\n[[user]]\nname = \"bob\"\n[[user]]\nname = \"olga\"\n\
                      [[owner]]\nresource = \"m\"\nuser = \"olga\"\n";

fn grant(subject: &str, resource: &str, levels: &str) -> String {
    format!("[[grant]]\nsubject = \"{subject}\"\nresource = \"{resource}\"\nlevels = \"{levels}\"\n")
}

fn diff(old: &str, new: &str) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("old.toml", old), ("new.toml", new)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_carta-gateway"));
    let ran = command.current_dir(directory.path()).args(["policy", "diff", "old.toml", "new.toml"]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn policies_that_decide_the_same_have_no_difference() {
    let old = format!("{PEOPLE}{}{}", grant("user:ann", "m.x", "read"), grant("role:Ops", "m", "none"));
    let new = format!("{PEOPLE}{}{}", grant("role:Ops", "m", "none"), grant("user:ann", "m.x", "r"));
    assert_eq!(diff(&old, &new), (Some(0), String::new(), String::new()));
}

#[test]
fn gains_and_losses_are_told_of_everybody_whom_a_grant_concerns() {
    let old = format!("{PEOPLE}{}", grant("role:Ops", "m.x", "read,update"));
    let new = format!("{PEOPLE}{}{}", grant("role:Ops", "m.x", "read,execute"), grant("user:bob", "m.x", "read"));
    let (code, out, err) = diff(&old, &new);
    let mut lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        (code, lines.pop(), err.as_str()),
        (Some(1), Some("3 gains, 2 losses, 0 calls need something else"), "")
    );
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "+ ann on m.x: execute (was read,update, is read,execute)",
            "+ anybody of role:Ops on m.x: execute (was read,update, is read,execute)",
            "+ bob on m.x: read (was none, is read)",
            "- ann on m.x: update (was read,update, is read,execute)",
            "- anybody of role:Ops on m.x: update (was read,update, is read,execute)",
        ]
    );
}

#[test]
fn a_row_that_makes_another_row_answer_shows_where_they_meet() {
    let old = format!("{PEOPLE}{}{}", grant("user:bob", "a.b", "u"), grant("user:bob", "a.*.c", "d"));
    let new = format!("{old}{}", grant("user:bob", "a", "r"));
    let (code, out, _) = diff(&old, &new);
    assert_eq!(code, Some(1));
    assert!(out.contains("- bob on a.b.c: delete (was delete, is update)"), "{out}");
}

#[test]
fn a_call_that_needs_something_else_and_a_new_owner_are_differences() {
    let service = |level: &str| {
        format!(
            "[[service]]\nnamespace = \"m\"\nname = \"s\"\nowner = \"olga\"\n[[service.operation]]\nname = \"tag\"\nmatch = \
             \"POST /tags/{{id}}\"\nlevel = \"{level}\"\nresource = \"{{namespace}}.{{service}}.tag.{{id}}\"\n"
        )
    };
    let (old, new) = (format!("{PEOPLE}{}", service("create")), format!("{PEOPLE}{}", service("update")));
    let (code, out, err) = diff(&old, &new);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.contains("~ m/s tag: needs update on m.s.tag.* (was create on m.s.tag.*)"), "{out}");
    let other = PEOPLE.replace("user = \"olga\"", "user = \"bob\"");
    let (code, out, _) = diff(PEOPLE, &other);
    assert_eq!(code, Some(1));
    assert!(out.contains("- olga on m: ") && out.contains("+ bob on m: "), "{out}");
}

#[test]
fn a_file_with_a_fault_is_named_and_nothing_is_compared() {
    let (code, out, err) = diff(PEOPLE, "[[grants]]\n");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("new.toml:1") && err.contains("nothing was compared"), "{err}");
}
