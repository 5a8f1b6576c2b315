//! What is shipped beside the code: the image's recipe, the documents, the scripts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

use std::fs;
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
fn scripts_can_be_run_and_stop_at_errors() {
    use std::os::unix::fs::PermissionsExt;
    for script in ["scripts/test", "scripts/audit", ".ci/run"] {
        let path: &Path = &root().join(script);
        assert_ne!(fs::metadata(path).unwrap().permissions().mode() & 0o111, 0, "{script} is not executable");
        assert!(read(script).starts_with("#!/usr/bin/env bash\n"), "{script}");
    }
}
