//! Any text as a file of policy tests: read, or refused with faults that have their place and say what to write instead.
#![no_main]

use std::path::Path;

use carta_gateway::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match config::parse_scenario(text, Path::new("policy.toml")) {
        Ok(scenario) => {
            for grant in &scenario.grants {
                assert!(grant.pattern.keys().len() <= carta_gateway::policy::MAX_KEYS);
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults.iter() {
                let place = fault.place.as_ref().expect("a file's fault has a place");
                assert!(place.line <= text.matches('\n').count() + 1);
                assert!(!fault.instead.is_empty());
            }
        }
    }
});
