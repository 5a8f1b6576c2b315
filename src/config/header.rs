//! What the headers of a request are for, where not everybody may set them: one list, by which a configuration is read
//! and by which a service is compiled.

/// What a header is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderUse {
    /// Says who calls.
    Identity,
    /// Says how the call came.
    Forwarding,
    /// Belongs to one connection, or to the body and its framing, which are the caller's.
    Framing,
    /// Makes some upstreams serve another method or path than the one that was judged.
    Override,
    /// The gateway sets it itself.
    Gateway,
    /// Cookies: joined from the caller's and the service's.
    Cookie,
    /// Anything else. `Authorization` is the usual place for an upstream's credential.
    Free,
}

/// What the header of this lower-case name is for, in whatever spelling.
#[must_use]
pub fn header_use(name: &str) -> HeaderUse {
    let name = spelling(name);
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match name.as_str() {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authorization"
        | "proxy-authenticate"
        | "te"
        | "trailer"
        | "trailers"
        | "transfer-encoding"
        | "upgrade"
        | "content-encoding"
        | "content-length"
        | "content-range"
        | "content-type"
        | "expect"
        | "http2-settings" => HeaderUse::Framing,
        _ if starts(&["sec-websocket-"]) => HeaderUse::Framing,
        "x-http-method" | "x-http-method-override" | "x-method-override" | "x-rewrite-url" => HeaderUse::Override,
        _ if starts(&["x-original-"]) => HeaderUse::Override,
        "host" | "x-request-id" | "traceparent" | "tracestate" => HeaderUse::Gateway,
        _ if starts(&["x-carta-", "carta-", "secret-"]) || name == "x-carta" => HeaderUse::Gateway,
        "x-forwarded-user"
        | "x-forwarded-email"
        | "x-forwarded-groups"
        | "x-forwarded-access-token"
        | "x-forwarded-preferred-username" => HeaderUse::Identity,
        _ if starts(&["x-auth-request-"]) => HeaderUse::Identity,
        "forwarded"
        | "via"
        | "x-real-ip"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "true-client-ip"
        | "cf-connecting-ip" => HeaderUse::Forwarding,
        _ if starts(&["x-forwarded-"]) || name == "x-forwarded" => HeaderUse::Forwarding,
        "cookie" => HeaderUse::Cookie,
        _ => HeaderUse::Free,
    }
}

/// The lower-case name as others are compared with it: many frameworks read `X_Carta.User` as `X-Carta-User`, so
/// whatever is no letter or digit stands for `-`.
#[must_use]
pub(super) fn spelling(name: &str) -> String {
    name.chars().map(|found| if found.is_ascii_alphanumeric() { found } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_injection_may_set_no_identity_forwarding_framing_or_hop_by_hop_header() {
        for name in [
            "host",
            "x-carta-user",
            "x_carta_token",
            "x-forwarded-for",
            "forwarded",
            "content-length",
            "content-type",
            "content_encoding",
            "content.range",
            "x-http-method",
            "x-http-method-override",
            "x_method_override",
            "x-original-url",
            "x-rewrite-url",
            "transfer-encoding",
            "connection",
            "te",
            "upgrade",
            "expect",
            "x-request-id",
            "traceparent",
            "cookie",
            "secret-a",
            "x-real-ip",
            "x!real~ip",
            "trailer",
        ] {
            assert_ne!(header_use(name), HeaderUse::Free, "{name}");
        }
        for name in ["authorization", "x-api-key", "apikey", "x-requested-by", "accept"] {
            assert_eq!(header_use(name), HeaderUse::Free, "{name}");
        }
    }
}
