//! What the documents show works as it is shown.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::fs;
use std::path::Path;

use support::Gateway;
use support::tls::Authority;

#[test]
fn every_configuration_of_the_readme_is_one_without_a_fault() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let examples: Vec<&str> = readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 2, "the README shows configurations");
    let certificate = Authority::new().certify(&["gw.example.org"]);
    for example in examples {
        let gateway = Gateway::builder().environment("SITE_TOKEN", "site").user("alice", &[]).prepare();
        fs::create_dir(gateway.path("tls")).unwrap();
        fs::write(gateway.path("tls/cert.pem"), &certificate.chain).unwrap();
        fs::write(gateway.path("tls/key.pem"), &certificate.key).unwrap();
        fs::write(gateway.path("gateway.toml"), example).unwrap();
        let checked = gateway.run(&["check"]);
        assert_eq!(checked.code, Some(0), "{example}\n{}{}", checked.out, checked.err);
    }
}

#[test]
fn every_command_of_the_readme_is_one_that_the_binary_knows() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let gateway = Gateway::builder().prepare();
    let mut seen = 0;
    for line in readme.lines().filter_map(|line| line.strip_prefix("$ carta-gateway ")) {
        let command = line.split("&&").next().unwrap().split('#').next().unwrap().trim();
        let words: Vec<&str> = command.split_whitespace().collect();
        // With `--help` beside it a command is parsed and not run.
        let ran = gateway.run(&[&words[..], &["--help"]].concat());
        assert_eq!(ran.code, Some(0), "{command}\n{}{}", ran.out, ran.err);
        seen += 1;
    }
    assert!(seen >= 5, "{seen} commands");
}

#[test]
fn the_example_file_as_it_is_and_with_its_defaults_written_out_is_one_without_a_fault() {
    let example = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml.example")).unwrap();
    let gateway = Gateway::builder().prepare();
    fs::write(gateway.path("gateway.toml"), &example).unwrap();
    gateway.run(&["check"]).done();
}
