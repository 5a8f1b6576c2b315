//! Memory for what may be secret.

use std::hint::black_box;

use zeroize::Zeroize;

/// The least room that is made, in bytes.
const LEAST: usize = 256;

/// Bytes that may be secret: wiped when they are cleared, dropped, or moved to a larger place. What is beyond the length
/// was never written or is wiped, so that wiping costs what was held and not what could be.
#[derive(Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Wipes all, and keeps the room.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Wipes what is beyond so many bytes.
    pub fn truncate(&mut self, length: usize) {
        let Some(gone) = self.0.get_mut(length..) else { return };
        wipe(gone);
        self.0.truncate(length);
    }

    /// Makes room for so many more bytes.
    #[inline]
    pub fn reserve(&mut self, more: usize) {
        if more > self.0.capacity() - self.0.len() {
            self.grow(self.0.len() + more);
        }
    }

    /// Adds bytes.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Adds pieces, one after the other.
    #[inline]
    pub fn push_all<const N: usize>(&mut self, pieces: [&[u8]; N]) {
        self.reserve(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            self.0.extend_from_slice(piece);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let mut larger = Vec::with_capacity(needed.next_power_of_two().max(LEAST));
        larger.extend_from_slice(&self.0);
        // The old place is wiped as it is dropped.
        drop(Self(std::mem::replace(&mut self.0, larger)));
    }
}

fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Somebody might look: else the compiler may leave out what nobody reads before the memory is given back.
    black_box(bytes);
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

/// Without the bytes.
impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buffer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cleared_is_gone_and_the_room_stays() {
        let mut buffer = Buffer::default();
        buffer.push(b"secret");
        let place = buffer.0.as_ptr();
        buffer.truncate(2);
        assert_eq!(buffer.bytes(), b"se");
        buffer.clear();
        assert!(buffer.is_empty() && buffer.capacity() >= LEAST);
        buffer.push(b"other");
        assert_eq!(buffer.0.as_ptr(), place);
        wipe(&mut buffer.0);
        assert_eq!(buffer.bytes(), [0; 5]);
    }

    #[test]
    fn a_buffer_grows_and_shows_nothing_of_what_it_holds() {
        let mut buffer = Buffer::default();
        for _ in 0..100 {
            buffer.push(b"0123456789");
        }
        assert_eq!((buffer.len(), buffer.bytes().get(990..)), (1000, Some(&b"0123456789"[..])));
        assert_eq!(format!("{buffer:?}"), "Buffer(…)");
    }
}
