//! `policy test` as its users meet it: files in, a report, an exit code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

use std::path::Path;
use std::process::Command;

struct Ran {
    out: String,
    err: String,
    code: Option<i32>,
}

/// Runs the command on these texts, as files of a directory of their own.
fn test(texts: &[&str]) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_carta-gateway"));
    command.current_dir(directory.path()).args(["policy", "test"]);
    for (number, text) in texts.iter().enumerate() {
        let name = format!("{number}.toml");
        std::fs::write(directory.path().join(&name), text).unwrap();
        command.arg(name);
    }
    let ran = command.output().unwrap();
    Ran {
        out: String::from_utf8(ran.stdout).unwrap(),
        err: String::from_utf8(ran.stderr).unwrap(),
        code: ran.status.code(),
    }
}

const PEOPLE: &str = "[[user]]\nname = \"ann\"\nrole = \"Ops\"\n[[user]]\nname = \"bob\"\ngroups = [\"Lab:Chem\"]\n\
                      [[user]]\nname = \"olga\"\n[[owner]]\nresource = \"m\"\nuser = \"olga\"\n";

#[test]
fn the_documented_example_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/policy.toml");
    let ran = test(&[&std::fs::read_to_string(path).unwrap()]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("TAP version 14\n1..6\n# 0.toml\nok 1 - chemists call the service\n"), "{}", ran.out);
    assert!(ran.out.ends_with("# 6 of 6 hold\n"), "{}", ran.out);
}

#[test]
fn what_does_not_hold_says_what_was_expected_what_came_and_what_would_change_it() {
    let text = format!(
        "{PEOPLE}[[grant]]\nsubject = \"role:Ops\"\nresource = \"m.*\"\nlevels = \"read\"\n[[grant]]\nsubject = \
         \"everyone\"\nresource = \"m\"\nlevels = \"none\"\n[[grant]]\nsubject = \"user:ann\"\nresource = \"m.x\"\nlevels = \
         \"r\"\n[[assert]]\nname = \"bob reads # all\"\nuser = \"bob\"\nresource = \"m.x.y\"\nlevel = \"read\"\nexpect = \
         \"allow\"\n[[assert]]\nuser = \"ann\"\nresource = \"m.x.y\"\nlevel = \"read\"\nexpect = \"deny\"\nby = \"everyone on \
         m\"\n[[assert]]\nuser = \"olga\"\nresource = \"m.x.y\"\nlevel = \"read\"\nexpect = \"allow\"\nby = \"owner\"\n"
    );
    let ran = test(&[&text, &text]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("\n1..6\n"), "{}", ran.out);
    let first: Vec<&str> = ran.out.lines().skip(3).take(13).collect();
    assert_eq!(
        first,
        [
            "not ok 1 - bob reads \\# all",
            "  ---",
            "  at: \"0.toml:24:1\"",
            "  asked: \"bob: read on m.x.y\"",
            "  expected: \"allow\"",
            "  got: \"deny: a deny binds, and no deeper grant gives what is needed\"",
            "  needs: \"read on m.x.y\"",
            "  holds: \"none\"",
            "  decides:",
            "    - \"everyone is denied everything on m\"",
            "  would-change-it: \"carta-gateway grant user:bob m.x.y read\"",
            "  ...",
            "not ok 2 - ann: read on m.x.y",
        ],
        "{}",
        ran.out
    );
    for line in [
        "  expected: \"deny, by the grant of everyone on m\"",
        "  got: \"allow: grants give what is needed\"",
        "    - \"user ann has read on m.x\"",
        "    - \"everyone is denied everything on m (something deeper counts)\"",
        "  would-change-it: \"carta-gateway grant user:ann m.x.y none\"",
        "ok 3 - olga: read on m.x.y",
        "not ok 4 - bob reads \\# all",
        "ok 6 - olga: read on m.x.y",
        "# 2 of 6 hold",
    ] {
        assert!(ran.out.lines().any(|said| said == line), "{line}\n{}", ran.out);
    }
}

#[test]
fn a_right_decision_by_a_wrong_grant_does_not_hold() {
    let text = format!(
        "{PEOPLE}[[grant]]\nsubject = \"user:bob\"\nresource = \"m.x\"\nlevels = \"read\"\n[[grant]]\nsubject = \
         \"group:Lab:Chem\"\nresource = \"m\"\nlevels = \"read\"\n[[assert]]\nuser = \"bob\"\nresource = \"m.x\"\nlevel = \
         \"r\"\nexpect = \"allow\"\nby = \"BY\"\n"
    );
    for (by, holds) in [
        ("user:bob on m.x", true),
        ("user:bob on m.x.*", true),
        ("group:Lab:Chem on m", true),
        ("user:bob on m", false),
        ("group:Lab:Chem on m.x", false),
        ("everyone on m.x", false),
        ("owner", false),
        ("nothing", false),
    ] {
        let ran = test(&[&text.replace("BY", by)]);
        assert_eq!(ran.code, Some(i32::from(!holds)), "{by}\n{}{}", ran.out, ran.err);
    }
}

#[test]
fn calls_are_judged_as_the_gateway_judges_them() {
    let call = |method: &str, path: &str, user: &str, expect: &str, more: &str| {
        format!(
            "[[assert]]\nuser = \"{user}\"\nmethod = \"{method}\"\npath = \"{path}\"\nexpect = \"{expect}\"\n{more}\n"
        )
    };
    let service = "[[service]]\nnamespace = \"a\"\nname = \"b\"\nowner = \"olga\"\nbase_url = \
                   \"https://x.example/{secret:s}\"\npublic = [\"/health\"]\ninject = { headers = { X-Key = \
                   \"${NOT_SET}\" } }\n[[service.operation]]\nname = \"item\"\nmatch = \"GET /x/{id}\"\nlevel = \
                   \"read\"\nresource = \"{namespace}.{service}.item.{id}\"\n[[grant]]\nsubject = \
                   \"group:Lab:Chem\"\nresource = \"a.b.item.7\"\nlevels = \"Guest\"\n";
    let asserts = [
        call("GET", "/a/b/x/7", "bob", "allow", "level = \"read\""),
        call("HEAD", "/a/b/x/7?q=1", "bob", "allow", "by = \"group:Lab:Chem on a.b.item.7\""),
        call("GET", "/a/b/x/8", "bob", "deny", "by = \"nothing\""),
        call("POST", "/a/b/x/7", "bob", "deny", ""),
        call("GET", "/a/b/health", "ann", "allow", ""),
        call("POST", "/a/b/health", "ann", "deny", ""),
        call("GET", "/a/b/x/../x/7", "bob", "deny", ""),
        call("GET", "/a/b/x/%2e%2e/7", "bob", "deny", ""),
        call("GET", "/a/b/x/7", "olga", "allow", "by = \"owner\""),
        "[[assert]]\nuser = \"olga\"\nresource = \"a\"\nlevel = \"admin\"\nexpect = \"allow\"\nby = \"owner\"\n"
            .to_owned(),
    ];
    let ran = test(&[&format!("{PEOPLE}{service}{}", asserts.concat())]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    // What the call needs is not what is said.
    let wrong = call("GET", "/a/b/x/7", "bob", "allow", "level = \"execute\"");
    let ran = test(&[&format!("{PEOPLE}{service}{wrong}")]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("the call needs read on a.b.item.7"), "{}", ran.out);
}

#[test]
fn every_fault_of_every_file_is_said_with_its_place_and_nothing_is_run() {
    let fine = format!("{PEOPLE}[[assert]]\nuser = \"ann\"\nresource = \"m\"\nlevel = \"r\"\nexpect = \"deny\"\n");
    let faulty = "[[user]]\nname = \"ann\"\nrole = \"Ops\"\n[[user]]\nname = \"ann\"\n[[owner]]\nresource = \"m\"\nuser = \
                  \"ane\"\n[[grant]]\nsubject = \"role:Opps\"\nresource = \"m/x\"\nlevels = \"raed\"\n[[grant]]\nsubject = \
                  \"holders:read:m\"\nresource = \"x\"\nlevels = \"none\"\n[[assert]]\nuser = \"ann\"\nresource = \
                  \"m\"\nexpect = \"maybe\"\n[[assert]]\nuser = \"ann\"\nmethod = \"get\"\npath = \"/m/n\"\nexpect = \
                  \"allow\"\nby = \"ann\"\nnow = \"soon\"\nexplict = true\n";
    let ran = test(&[&fine, faulty]);
    assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
    assert!(ran.out.is_empty(), "{}", ran.out);
    for fault in [
        "1.toml:5:8: user[1].name: the user `ann` is there twice",
        "1.toml:8:8: owner[0].user: there is no user `ane` in this file\n  did you mean `ann`?",
        "1.toml:10:11: grant[0].subject: there is no role `Opps` in this file\n  did you mean `Ops`?",
        "1.toml:11:12: grant[0].resource: `m/x` is a path\n  write the resource's name with dots, `m.x`",
        "1.toml:12:10: grant[0].levels: unknown level `raed`\n  did you mean `read`?",
        "1.toml:16:10: grant[1].levels: holders of another resource take no deny",
        "1.toml:20:10: assert[0].expect: ",
        "1.toml:23:10: assert[1].method: `get` is no method",
        "1.toml:24:8: assert[1].path: there is no service `m/n` in this file",
        "1.toml:26:6: assert[1].by: `ann` names no grant",
        "1.toml:27:7: assert[1].now: `soon` is no time",
        "1.toml:28:1: assert[1].explict: unknown key",
    ] {
        assert!(ran.err.contains(fault), "{fault}\n---\n{}", ran.err);
    }
    for (text, said) in [("", "is missing"), ("x", "0.toml:1:"), ("[[assert]]\n[[assert\n", "0.toml:2:")] {
        let ran = test(&[text]);
        assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_carta-gateway")).args(["policy", "test", "nowhere.toml"]).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("nowhere.toml: cannot read the file"));
}
