//! Paths: whatever comes, an accepted one is kept byte for byte and leaves its service in no reading of an upstream's.
#![no_main]

use carta_gateway::proxy::target::{Door, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    let Ok(uri) = format!("/{path}").parse::<http::Uri>() else { return };
    for door in [Door::Proxy, Door::Api] {
        let Ok(target) = Target::parse(&uri, door) else { continue };
        assert_eq!(format!("{}{}", target.prefix(), target.remainder()), uri.path());
        assert!(!uri.path().contains('#'));
        for name in [target.namespace(), target.service()] {
            assert!(!name.contains(['/', '\\', '\0']));
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(uri.path()).collect();
        for part in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
            let part = part.split(|byte| matches!(byte, b';' | 0)).next().unwrap_or_default();
            assert!(part != b"." && part != b"..", "{}", uri.path());
        }
        for segment in target.segments() {
            assert!(segment.ambiguous || !segment.text.contains(['/', '\\', '\0']));
            assert!(segment.ambiguous || !segment.text.is_empty());
        }
    }
});
