//! Lines of `policy eval`: whatever comes in, one JSON object with an id goes out, and nothing panics.
#![no_main]

use carta_gateway::cli::policy::eval::answer;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let answered = answer(line, Timestamp::UNIX_EPOCH);
    assert!(!answered.line.contains('\n'));
    let read: serde_json::Value = serde_json::from_str(&answered.line).expect("the answer is JSON");
    assert!(read.get("id").is_some());
    assert_eq!(read.get("error").is_some(), answered.malformed);
    assert_eq!(read.get("answers").is_some(), !answered.malformed);
});
