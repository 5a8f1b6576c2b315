//! A request as it goes to an upstream, but for its body and what the endpoint says: method, target, header lines.
//!
//! The lines stand in one piece of memory, as HTTP/1.1 writes them. Whoever passes a request on goes over the caller's
//! headers once and writes down what travels on; nothing is built that has to be taken apart again.

use std::cell::{Cell, RefCell};

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use super::h1::Length;
use crate::wiped::Buffer;

/// The longest target, in bytes.
const LONGEST: usize = 65_534;

/// What ends a line.
const END: &[u8] = b"\r\n";

/// How many heads a thread keeps for the next calls, and of what size at most, in bytes.
const KEPT: (usize, usize) = (256, 16 * 1024);

/// The largest map that is kept for a response, in header names, and in lines that it held.
const MOST_ROOM: usize = 64;

/// Method, target and header lines of a request. Wiped when dropped: some of it may be secret.
#[derive(Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte as they are sent.
    target: Buffer,
    /// The header lines, but for `Host`, `Content-Length` and `Transfer-Encoding`.
    pub lines: Lines,
    /// Whether a change of protocol is asked for, by `Connection` and `Upgrade`.
    pub upgrade: bool,
    /// Whether the body waits for `100 Continue` (RFC 9110 §10.1.1).
    pub held: bool,
    /// What the lines of `Content-Length` say.
    pub(super) length: Length,
    /// Whether the body goes by chunks though its length may be known.
    pub(super) chunked: bool,
    /// What the headers of the response are put into.
    room: Cell<Option<HeaderMap>>,
}

impl RequestHead {
    /// Sets the target: path and query (RFC 9112 §3.2.1) in these pieces. False, and there is none, where it is longer than
    /// 65,534 bytes or holds what no target does.
    #[must_use]
    pub fn aim(&mut self, pieces: &[&[u8]]) -> bool {
        self.target.clear();
        self.target.reserve(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().filter(|piece| !piece.is_empty()).for_each(|piece| self.target.push(piece));
        let fits = self.target.len() <= LONGEST && is_target(self.target.bytes());
        if !fits {
            self.target.clear();
        }
        fits
    }

    /// The target.
    pub(super) fn target(&self) -> &[u8] {
        self.target.bytes()
    }

    /// Notes what a line of `Content-Length` says. Framing is written anew: once, and only what holds.
    pub fn note_length(&mut self, value: &HeaderValue) {
        self.length.add(value);
    }

    /// Forgets what the lines of `Content-Length` said.
    pub fn forget_length(&mut self) {
        self.length = Length::default();
    }

    /// Gives it a map that is of no more use, of which the response takes the memory.
    pub fn make_room(&self, mut map: HeaderMap) {
        if map.capacity() <= MOST_ROOM && map.len() <= MOST_ROOM {
            map.clear();
            self.room.set(Some(map));
        }
    }

    /// An empty map for the headers of a response, if there is one.
    pub(super) fn room(&self) -> Option<HeaderMap> {
        self.room.take()
    }

    fn clear(&mut self) {
        self.target.clear();
        self.lines.clear();
        (self.upgrade, self.held, self.chunked) = (false, false, false);
        self.room.take();
        self.forget_length();
    }

    fn capacity(&self) -> usize {
        self.target.capacity() + self.lines.text.capacity() + self.lines.sensitive.capacity() * size_of::<usize>()
    }
}

/// Without the target.
impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHead").field("method", &self.method).field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl From<&Parts> for RequestHead {
    /// The head of such a request. `Host` is the endpoint's.
    fn from(parts: &Parts) -> Self {
        let mut head = Self { method: parts.method.clone(), ..Self::default() };
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        // A URI's is one.
        let _is_one = head.aim(&[target.as_bytes()]);
        for (name, value) in &parts.headers {
            match *name {
                CONTENT_LENGTH => head.note_length(value),
                TRANSFER_ENCODING => head.chunked = true,
                HOST => {}
                _ => head.lines.add(name, value),
            }
        }
        head.upgrade = parts.headers.contains_key(UPGRADE);
        let expectation = parts.headers.get(EXPECT);
        head.held = expectation.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        head
    }
}

/// One thread's heads that are of no more use, for the next calls.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept: a call holds one, and moves it as a pointer")]
pub struct Heads(RefCell<Vec<Box<RequestHead>>>);

impl Heads {
    /// An empty head.
    #[must_use]
    pub fn take(&self) -> Box<RequestHead> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Wipes the head and keeps its room for another, unless that is large.
    pub fn give_back(&self, mut head: Box<RequestHead>) {
        let (most, size) = KEPT;
        let mut kept = self.0.borrow_mut();
        if kept.len() < most && head.capacity() <= size {
            head.clear();
            kept.push(head);
        }
    }
}

/// Header lines as HTTP/1.1 writes them (RFC 9112 §5), each well-formed: so they can be told apart again by those few who
/// need that.
#[derive(Default)]
pub struct Lines {
    text: Buffer,
    /// Where those begin that are sensitive.
    sensitive: SmallVec<[usize; 2]>,
}

/// One line.
struct Line<'a> {
    name: &'a [u8],
    value: &'a [u8],
    is_sensitive: bool,
}

impl Lines {
    /// Adds a line.
    pub fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.put(name.as_str().as_bytes(), value.as_bytes(), value.is_sensitive());
    }

    /// Adds a line of text. False, and nothing is added, where it is no value of a header.
    pub fn add_text(&mut self, name: &HeaderName, text: &[u8]) -> bool {
        let fits = is_value(text);
        if fits {
            self.put(name.as_str().as_bytes(), text, false);
        }
        fits
    }

    /// Adds a line whose name is known beforehand, with its colon and blank, and whose value the caller knows for one.
    pub fn say<const N: usize>(&mut self, name: &'static [u8; N], value: &[u8]) {
        debug_assert!(name.ends_with(b": ") && is_value(value), "a line that is none");
        self.text.push_all([name, value, END]);
    }

    /// Adds a line whose value is written by `write`, behind what is there. False, and nothing is added, where that is no
    /// value of a header, or has blanks at its ends, which would be trimmed away. What is `sensitive` is never kept in
    /// HPACK's table (RFC 7541 §7.1.3).
    ///
    /// # Errors
    /// That of `write`; nothing is added.
    pub fn fill<E>(
        &mut self,
        name: &HeaderName,
        sensitive: bool,
        write: impl FnOnce(&mut Buffer) -> Result<(), E>,
    ) -> Result<bool, E> {
        let start = self.text.len();
        self.text.push_all([name.as_str().as_bytes(), b": "]);
        let value = self.text.len();
        let written = write(&mut self.text);
        let text = self.text.bytes().get(value..).unwrap_or_default();
        let fits = is_value(text) && text.trim_ascii().len() == text.len();
        if written.is_ok() && fits {
            self.text.push(END);
            self.mark(start, sensitive);
            return Ok(true);
        }
        self.text.truncate(start);
        written.map(|()| false)
    }

    /// Removes the lines of these names.
    pub fn remove(&mut self, names: &[HeaderName]) {
        let before = std::mem::take(self);
        for line in before.each() {
            if !names.iter().any(|removed| removed.as_str().as_bytes() == line.name) {
                self.put(line.name, line.value, line.is_sensitive);
            }
        }
    }

    /// The values of the lines of this name.
    pub fn values(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.each().filter(|line| line.name == name.as_str().as_bytes()).map(|line| line.value)
    }

    /// All lines as they are written.
    pub(super) fn text(&self) -> &[u8] {
        self.text.bytes()
    }

    /// The lines as a map.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in self.each() {
            // Both were a name and a value before.
            if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(line.name), HeaderValue::from_bytes(line.value))
            {
                value.set_sensitive(line.is_sensitive);
                map.append(name, value);
            }
        }
        map
    }

    /// The names that `Trailer` announces.
    pub(super) fn announced(&self) -> Vec<HeaderName> {
        let names = self.values(&TRAILER).flat_map(|value| value.split(|byte| *byte == b','));
        names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
    }

    fn put(&mut self, name: &[u8], value: &[u8], sensitive: bool) {
        self.mark(self.text.len(), sensitive);
        self.text.push_all([name, b": ", value, END]);
    }

    fn mark(&mut self, start: usize, sensitive: bool) {
        if sensitive {
            self.sensitive.push(start);
        }
    }

    fn each(&self) -> impl Iterator<Item = Line<'_>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = self.text.bytes().get(start..)?;
            // No name holds a colon, and no value a line's end.
            let colon = rest.iter().position(|byte| *byte == b':')?;
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let (name, value) = (rest.get(..colon)?, rest.get(colon + 2..end - 1)?);
            let is_sensitive = self.sensitive.contains(&start);
            start += end + 1;
            Some(Line { name, value, is_sensitive })
        })
    }

    fn clear(&mut self) {
        self.text.clear();
        self.sensitive.clear();
    }
}

/// Without the values.
impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.each().map(|line| String::from_utf8_lossy(line.name))).finish()
    }
}

/// Whether this may stand as a header's value (RFC 9110 §5.5).
fn is_value(bytes: &[u8]) -> bool {
    is_free_of_controls(bytes) || bytes.iter().all(|byte| (*byte >= 32 && *byte != 127) || *byte == b'\t')
}

/// Whether no byte is below 32, or 127; by eight at a time, as this is asked of all that is added.
#[must_use]
pub fn is_free_of_controls(bytes: &[u8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    // Some byte of `word` is below `least`, up to 128: a loan from the byte above shows in a high bit that was not set.
    let below = |word: u64, least: u64| word.wrapping_sub(EACH * least) & !word & HIGH;
    let controls = |word: u64| below(word, 32) | below(word ^ (EACH * 127), 1);
    // All are looked at before anything is asked, and the last eight together, some of them again.
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().all(|byte| *byte >= 32 && *byte != 127);
    };
    let (words, _) = bytes.as_chunks::<8>();
    let found = words.iter().fold(0, |found, word| found | controls(u64::from_ne_bytes(*word)));
    found | controls(u64::from_ne_bytes(*last)) == 0
}

/// Whether these bytes can stand as a target: no blank ends it, and no line.
fn is_target(bytes: &[u8]) -> bool {
    is_free_of_controls(bytes) && !bytes.contains(&b' ')
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const X: HeaderName = HeaderName::from_static("x-a");
    const Y: HeaderName = HeaderName::from_static("y");

    #[test]
    fn lines_are_written_as_they_were_added_and_read_back() {
        let mut lines = Lines::default();
        lines.add(&X, &HeaderValue::from_static("1"));
        assert!(lines.add_text(&Y, b"two"));
        let mut secret = HeaderValue::from_static("3");
        secret.set_sensitive(true);
        lines.add(&X, &secret);
        assert_eq!(lines.text(), b"x-a: 1\r\ny: two\r\nx-a: 3\r\n");
        let map = lines.to_map();
        assert_eq!(map.get_all("x-a").iter().map(HeaderValue::is_sensitive).collect::<Vec<_>>(), [false, true]);
        assert_eq!(lines.values(&X).collect::<Vec<_>>(), [b"1", b"3"]);
        lines.remove(&[Y, HeaderName::from_static("z")]);
        assert_eq!(lines.text(), b"x-a: 1\r\nx-a: 3\r\n");
        assert!(lines.to_map().get_all("x-a").iter().next_back().unwrap().is_sensitive());
        assert!(!format!("{lines:?}").contains('3'));
    }

    #[test]
    fn a_target_that_would_end_early_is_none() {
        let mut head = RequestHead::default();
        assert!(head.aim(&[b"/a", b"?", b"b=\xc3\xa4"]));
        assert_eq!(head.target(), b"/a?b=\xc3\xa4");
        for bad in [&b"/a b"[..], b"/a\r\n", b"/\0", b"/\x7f", &[b'a'; LONGEST + 1]] {
            assert!(!head.aim(&[bad]) && head.target().is_empty());
        }
    }

    #[test]
    fn what_would_break_a_line_leaves_nothing_of_it() {
        let mut lines = Lines::default();
        lines.add_text(&Y, b"kept");
        for bad in [&b"a\r\nx: y"[..], b"a\0", b"a\x7f", b"\n"] {
            assert!(!lines.add_text(&X, bad));
        }
        for bad in [&b"a\nb"[..], b" a", b"a ", b"\ta"] {
            let filled = lines.fill(&X, true, |out| {
                out.push(bad);
                Ok::<_, ()>(())
            });
            assert_eq!(filled, Ok(false));
        }
        let failed = lines.fill(&X, true, |out| {
            out.push(b"some of it");
            Err("no more")
        });
        assert_eq!((failed, lines.text()), (Err("no more"), &b"y: kept\r\n"[..]));
    }

    #[test]
    fn framing_and_host_are_no_lines() {
        let request = Request::post("/a?b")
            .header("host", "h")
            .header("content-length", "3")
            .header("transfer-encoding", "chunked")
            .header("expect", "100-Continue")
            .header("x-a", "1");
        let head = RequestHead::from(&request.body(()).unwrap().into_parts().0);
        assert_eq!((head.lines.text(), head.target()), (&b"expect: 100-Continue\r\nx-a: 1\r\n"[..], &b"/a?b"[..]));
        assert!(head.chunked && head.held && !head.upgrade && head.length == Length::Said(3));
    }

    #[test]
    fn a_head_that_was_given_back_is_empty() {
        let heads = Heads::default();
        let mut head = heads.take();
        head.lines.add_text(&X, b"secret");
        assert!(head.aim(&[b"/a"]));
        (head.upgrade, head.held, head.length) = (true, true, Length::Garbled);
        head.make_room(HeaderMap::from_iter([(X, HeaderValue::from_static("secret"))]));
        heads.give_back(head);
        let head = heads.take();
        assert!(head.target().is_empty() && head.lines.text().is_empty() && head.lines.to_map().is_empty());
        assert!(!head.upgrade && !head.held && head.length == Length::Unsaid);
        assert!(head.room().is_none());
        let mut large = heads.take();
        assert!(large.aim(&[&[b'a'; KEPT.1 + 1]]));
        heads.give_back(large);
        assert!(heads.0.borrow().is_empty());
    }

    #[test]
    fn the_room_for_a_response_is_empty_taken_once_and_not_large() {
        let map = |lines: usize| HeaderMap::from_iter((0..lines).map(|_| (X, HeaderValue::from_static("secret"))));
        let head = RequestHead::default();
        head.make_room(map(3));
        let room = head.room().unwrap();
        assert!(room.is_empty() && room.capacity() > 0);
        assert!(head.room().is_none(), "it went with the first");
        for large in [map(MOST_ROOM + 1), HeaderMap::with_capacity(MOST_ROOM + 1)] {
            head.make_room(large);
            assert!(head.room().is_none());
        }
    }

    proptest! {
        #[test]
        fn a_value_is_what_the_library_takes_for_one(
            mut bytes in prop::collection::vec(32..127_u8, 0..80),
            odd in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            for (place, byte) in odd {
                if let Some(at) = bytes.len().checked_sub(1).map(|_| place.index(bytes.len())) {
                    bytes[at] = byte;
                }
            }
            prop_assert_eq!(is_value(&bytes), HeaderValue::from_bytes(&bytes).is_ok());
            prop_assert_eq!(is_target(&bytes), bytes.iter().all(|byte| *byte > 32 && *byte != 127));
        }

        #[test]
        fn lines_and_map_say_the_same(
            added in prop::collection::vec((0..3_usize, "[ -~]{0,12}", any::<bool>()), 0..12),
            removed in 0..3_usize,
        ) {
            let names = [X, Y, HeaderName::from_static("accept")];
            let (mut lines, mut map) = (Lines::default(), HeaderMap::new());
            for (name, text, sensitive) in &added {
                let mut value = HeaderValue::from_str(text).unwrap();
                value.set_sensitive(*sensitive);
                lines.add(&names[*name], &value);
                map.append(&names[*name], value);
            }
            prop_assert_eq!(lines.to_map(), map.clone());
            lines.remove(&names[removed..=removed]);
            map.remove(&names[removed]);
            prop_assert_eq!(&lines.to_map(), &map);
            for name in &names {
                let marks = |map: &HeaderMap| map.get_all(name).iter().map(HeaderValue::is_sensitive).collect::<Vec<_>>();
                prop_assert_eq!(marks(&lines.to_map()), marks(&map));
            }
        }
    }
}
