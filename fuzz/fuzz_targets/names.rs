//! Names, patterns, levels and subjects as people write them: nothing panics, and what is read is written as it was meant.
#![no_main]

use carta_gateway::policy::{Levels, MAX_KEYS, Pattern, PatternKey, Subject, dialect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pattern) = Pattern::parse(text) {
        assert!(pattern.keys().len() <= MAX_KEYS);
        // The text of a pattern that ends with `*` keys means a shorter one; no text is read as such a pattern.
        assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "{text:?}");
    }
    let literal = Pattern::literal(text.split('/')).ok();
    if let Some(name) = literal.filter(|name| name.keys().last() != Some(&PatternKey::Key("".into()))) {
        assert_eq!(Pattern::parse(&name.to_string()).as_ref(), Ok(&name), "{text:?}");
    }
    if let Ok(pattern) = dialect::pattern(text) {
        let keys = dialect::keys(text);
        let read = pattern.keys().iter().map(|key| key.literal().unwrap_or("*"));
        assert!(keys.eq(read), "{text:?}");
    }
    if let Ok(levels) = text.parse::<Levels>() {
        assert_eq!(levels.to_string().parse(), Ok(levels), "{text:?}");
    }
    if let Ok(subject) = text.parse::<Subject>() {
        assert_eq!(subject.to_string().parse(), Ok(subject), "{text:?}");
    }
});
