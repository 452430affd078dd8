//! What is known of the HTTP/1 request head being received: when it began, how it begins, and
//! which bytes of it were read before the session asked for them.
//!
//! Lives inside each socket and allocates nothing.

use std::time::Instant;

use tokio::io::ReadBuf;

/// Bytes of a head that are kept: enough for a request line worth logging.
const KEPT: usize = 256;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const END: &[u8] = b"\r\n\r\n";

pub(super) struct Head {
    kept: [u8; KEPT],
    filled: usize,
    /// How much of `kept` the session has; the rest was read ahead and goes out first.
    delivered: usize,
    start: Option<Start>,
    /// Whether the session has got any of this head.
    begun: bool,
    beyond: bool,
}

/// The moment of the first byte, with the connection's byte counts just before it.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub at: Instant,
    pub received: u64,
    pub sent: u64,
}

/// Whether the bytes read ahead open an HTTP/2 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Http1,
    Http2,
    /// Too few bytes to say.
    Undecided,
}

impl Head {
    pub fn new() -> Self {
        Self {
            kept: [0; KEPT],
            filled: 0,
            delivered: 0,
            start: None,
            begun: false,
            beyond: false,
        }
    }

    /// Forgets the last head; bytes read ahead by then belong to none.
    pub fn clear(&mut self) {
        (self.filled, self.delivered) = (0, 0);
        (self.start, self.begun, self.beyond) = (None, false, false);
    }

    pub fn begin(&mut self, start: Start) {
        self.start = Some(start);
    }

    pub fn end(&mut self) {
        self.start = None;
    }

    pub fn start(&self) -> Option<Start> {
        self.start
    }

    /// Space for bytes read ahead; [`Self::read_ahead`] says how many came.
    pub fn space(&mut self) -> &mut [u8] {
        self.kept.get_mut(self.filled..).unwrap_or_default()
    }

    pub fn read_ahead(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(KEPT);
    }

    /// What the bytes so far say about the protocol.
    pub fn opening(&self) -> Opening {
        let bytes = self.kept.get(..self.filled).unwrap_or_default();
        if bytes.starts_with(PREFACE) {
            Opening::Http2
        } else if PREFACE.starts_with(bytes) {
            Opening::Undecided
        } else {
            Opening::Http1
        }
    }

    /// Moves bytes that were read ahead to the session. True if the socket may hold more of them.
    pub fn deliver(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let ahead = self
            .kept
            .get(self.delivered..self.filled)
            .unwrap_or_default();
        let count = ahead.len().min(buffer.remaining());
        buffer.put_slice(ahead.get(..count).unwrap_or_default());
        self.delivered += count;
        self.filled == KEPT && buffer.remaining() > 0
    }

    pub fn has_ahead(&self) -> bool {
        self.delivered < self.filled
    }

    /// Keeps a copy of bytes that go straight to the session, as far as there is room.
    pub fn keep(&mut self, bytes: &[u8]) {
        let space = self.space();
        let count = bytes.len().min(space.len());
        if let (Some(to), Some(from)) = (space.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.filled += count;
        self.delivered = self.filled;
    }

    /// Notes one read of the session while the head is not whole.
    pub fn delivered_chunk(&mut self, bytes: &[u8]) {
        self.beyond |= self.begun || end_of_head(bytes) != Some(bytes.len());
        self.begun = true;
    }

    /// Notes that the session read a body, or whatever follows the head.
    pub fn delivered_more(&mut self) {
        self.beyond = true;
    }

    /// Whether the session may hold bytes past the head: false only if it surely does not.
    pub fn may_have_more(&self) -> bool {
        self.beyond
    }

    /// The first line, with what is not printable ASCII escaped, in at most 256 bytes.
    pub fn request_line(&self) -> String {
        let kept = self.kept.get(..self.filled).unwrap_or_default();
        let line = kept
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            // RFC 9112 section 2.2: empty lines before the request line are skipped.
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        let mut text = line.escape_ascii().to_string();
        text.truncate(KEPT);
        text
    }
}

/// Where the first empty line ends, looking at every fourth byte where it can.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut at = END.len() - 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'\n' if bytes.get(..=at).is_some_and(|head| head.ends_with(END)) => {
                return Some(at + 1);
            }
            b'\n' => 2,
            b'\r' => 1,
            _ => END.len(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(bytes: &[u8]) -> Head {
        let mut head = Head::new();
        head.keep(bytes);
        head
    }

    #[test]
    fn the_preface_is_told_from_http1_at_the_first_differing_byte() {
        assert_eq!(head_of(PREFACE).opening(), Opening::Http2);
        for partial in [&b"P"[..], b"PRI * HTTP/2.0\r\n\r\nSM"] {
            assert_eq!(head_of(partial).opening(), Opening::Undecided);
        }
        for http1 in [&b"G"[..], b"PO", b"PROPFIND / ", b"PRI * HTTP/1.1\r\n"] {
            assert_eq!(head_of(http1).opening(), Opening::Http1);
        }
    }

    #[test]
    fn a_request_line_is_bounded_escaped_and_skips_leading_empty_lines() {
        assert_eq!(
            head_of(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a").request_line(),
            "GET / HTTP/1.1"
        );
        assert_eq!(
            head_of(b"GET /\x1b[2J\xff").request_line(),
            "GET /\\x1b[2J\\xff"
        );
        assert_eq!(head_of(&[0; 4000]).request_line().len(), 256);
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_it_lies() {
        for filler in 0..40 {
            let mut bytes = b"GET / HTTP/1.1\r\nA: b\r\nX: ".to_vec();
            bytes.extend(std::iter::repeat_n(b'y', filler));
            bytes.extend(END);
            let end = bytes.len();
            assert_eq!(end_of_head(&bytes), Some(end));
            assert_eq!(end_of_head(&bytes[..end - 1]), None);
            bytes.extend(b"GET / HTTP/1.1\r\n\r\n");
            assert_eq!(end_of_head(&bytes), Some(end));
        }
    }

    #[test]
    fn only_a_head_read_whole_and_alone_surely_has_nothing_after_it() {
        let mut head = Head::new();
        head.delivered_chunk(b"GET / HTTP/1.1\r\n\r\n");
        assert!(!head.may_have_more());
        for chunks in [
            &[&b"GET / "[..], b"HTTP/1.1\r\n\r\n"][..],
            &[b"GET / HTTP/1.1\r\n\r\nGET"],
        ] {
            let mut head = Head::new();
            chunks.iter().for_each(|chunk| head.delivered_chunk(chunk));
            assert!(head.may_have_more());
        }
    }
}
