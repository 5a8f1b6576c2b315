//! The context of a value as bytes that no other context has: every part with its length in front.

use super::Context;

/// Room on the stack for the bytes; only names far longer than people write need the heap.
const INLINE: usize = 160;

/// Calls `with` with the associated data of a value: the `domain`, which tells the ciphers apart, then the context.
pub(super) fn associated<R>(domain: &[u8], context: Context<'_>, with: impl FnOnce(&[u8]) -> R) -> R {
    match context {
        Context::Secret(user, name) => joined([domain, b"secret", user.0.as_bytes(), name.as_bytes()], with),
        Context::Password(user) => joined([domain, b"password", user.0.as_bytes(), b""], with),
        Context::SigningKey(kid) => joined([domain, b"signing-key", kid.as_bytes(), b""], with),
        Context::Check => joined([domain, b"check", b"", b""], with),
        Context::AuditKeys => joined([domain, b"audit-keys", b"", b""], with),
    }
}

fn joined<R>(parts: [&[u8]; 4], with: impl FnOnce(&[u8]) -> R) -> R {
    let mut inline = [0; INLINE];
    let mut used = 0;
    for part in parts {
        let length = (part.len() as u64).to_be_bytes();
        let Some(room) = inline.get_mut(used..used + length.len() + part.len()) else {
            return with(&joined_on_the_heap(parts));
        };
        let (front, back) = room.split_at_mut(length.len());
        front.copy_from_slice(&length);
        back.copy_from_slice(part);
        used += length.len() + part.len();
    }
    with(inline.get(..used).unwrap_or_default())
}

#[cold]
fn joined_on_the_heap(parts: [&[u8]; 4]) -> Vec<u8> {
    parts.into_iter().flat_map(|part| [&(part.len() as u64).to_be_bytes(), part].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::UserId;
    use uuid::Uuid;

    fn bytes(domain: &[u8], context: Context<'_>) -> Vec<u8> {
        associated(domain, context, <[u8]>::to_vec)
    }

    #[test]
    fn no_two_contexts_have_the_same_bytes() {
        let (one, two) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let long = "x".repeat(500);
        let all = [
            bytes(b"a", Context::Secret(one, "")),
            bytes(b"b", Context::Secret(one, "")),
            bytes(b"as", Context::Secret(one, "")),
            bytes(b"a", Context::Secret(one, "k")),
            bytes(b"a", Context::Secret(two, "k")),
            bytes(b"a", Context::Secret(one, &long)),
            bytes(b"a", Context::Secret(two, &long)),
            bytes(b"a", Context::Password(one)),
            bytes(b"a", Context::SigningKey("k")),
            bytes(b"a", Context::SigningKey("")),
            bytes(b"a", Context::Check),
            bytes(b"a", Context::AuditKeys),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_long_name_reads_the_same_on_the_heap_as_on_the_stack() {
        let parts: [&[u8]; 4] = [b"domain", b"secret", b"user", b"name"];
        assert_eq!(joined(parts, <[u8]>::to_vec), joined_on_the_heap(parts));
    }
}
