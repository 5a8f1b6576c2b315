//! Any bytes as a configuration, and as a registered service: read or refused with faults that have their place, never
//! a panic.
#![no_main]

use std::path::Path;

use carta_gateway::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A directory that is not there, so that `file:` finds nothing unless it names a path from the root.
    let path = Path::new("/nonexistent/gateway.toml");
    let env = |name: &str| (name.len() == 1).then(|| "value".to_owned());
    if let Err(faults) = config::parse(text, path, &env) {
        assert!(!faults.is_empty());
        for fault in faults.iter() {
            let place = fault.place.as_ref().expect("a file's fault has a place");
            assert!(place.line <= text.matches('\n').count() + 1);
            assert!(!fault.instead.is_empty());
        }
        let _ = faults.to_string();
    }
    if let Ok(table) = serde_json::from_str(text) {
        if let Err(faults) = config::parse_service("a", "b", &table) {
            assert!(!faults.is_empty());
        }
    }
});
