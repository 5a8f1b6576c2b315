//! Names of namespaces and services, and the words that stand in their place.

/// Whether the text may name a namespace or a service: `[a-z0-9][a-z0-9_-]{0,62}`.
#[must_use]
pub fn valid_name(text: &str) -> bool {
    let ordinary = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match text.as_bytes() {
        [first, rest @ ..] => {
            ordinary(*first)
                && rest.len() <= 62
                && rest.iter().all(|byte| ordinary(*byte) || matches!(byte, b'_' | b'-'))
        }
        [] => false,
    }
}

/// Whether no user may reserve a namespace of this name: the API uses the word in that place, or it is `carta`, which
/// is there from the start.
#[must_use]
pub fn reserved_name(name: &str) -> bool {
    RESERVED.binary_search(&name).is_ok()
}

/// Whether the API itself answers at this service's place, `/service/carta/websocket`.
#[must_use]
pub fn reserved_service(namespace: &str, name: &str) -> bool {
    namespace == "carta" && name == "websocket"
}

/// First path segments of the API, the verbs that follow its `/service/`, and `carta`; sorted.
const RESERVED: [&str; 29] = [
    "api",
    "audit",
    "auth",
    "carta",
    "cognito",
    "config",
    "details",
    "docs",
    "explain",
    "files",
    "grants",
    "login",
    "logout",
    "metrics",
    "permissions",
    "project",
    "register",
    "remove",
    "rename",
    "reserve",
    "secret",
    "secrets",
    "service",
    "service-tunnel",
    "session",
    "ui",
    "user",
    "v2",
    "workspace",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_contract() {
        for name in ["a", "0", "materials", "a_b-c", &"x".repeat(63)] {
            assert!(valid_name(name), "{name}");
        }
        for name in ["", "_a", "-a", "A", "a.b", "a/b", "ä", "a b", "a\n", &"x".repeat(64)] {
            assert!(!valid_name(name), "{name}");
        }
    }

    #[test]
    fn the_words_of_the_api_are_reserved() {
        assert!(RESERVED.is_sorted(), "the search needs them sorted");
        for name in ["carta", "register", "v2", "service", "user", "secrets"] {
            assert!(reserved_name(name), "{name}");
        }
        assert!(!reserved_name("materials"));
        assert!(reserved_service("carta", "websocket") && !reserved_service("materials", "websocket"));
    }
}
