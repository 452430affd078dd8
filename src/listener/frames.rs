//! Tells from the bytes of an HTTP/2 connection whether a header block is still arriving, so that
//! heads have a total deadline there too.
//!
//! A header block is one HEADERS frame and the CONTINUATION frames after it, with nothing in
//! between (RFC 9113 section 4.3), so frame headers are enough; fields are not decoded.

use super::head::PREFACE;

const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

pub(super) struct Frames {
    header: [u8; FRAME_HEADER],
    have: usize,
    payload_left: usize,
    /// The frame at hand belongs to a header block.
    in_block: bool,
    /// It is the last one of its block.
    last_of_block: bool,
}

impl Frames {
    /// The state before the client's preface, which is skipped like a payload.
    pub fn new() -> Self {
        Self {
            header: [0; FRAME_HEADER],
            have: 0,
            payload_left: PREFACE.len(),
            in_block: false,
            last_of_block: false,
        }
    }

    /// Follows the frames in `bytes`. True if they end within a header block.
    pub fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                let wanted = (FRAME_HEADER - self.have).min(bytes.len());
                let (part, rest) = bytes.split_at(wanted);
                if let Some(space) = self.header.get_mut(self.have..self.have + wanted) {
                    space.copy_from_slice(part);
                }
                self.have += wanted;
                bytes = rest;
                if self.have == FRAME_HEADER {
                    self.enter();
                }
            }
        }
        self.in_block && !(self.last_of_block && self.payload_left == 0)
    }

    fn enter(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.have = 0;
        self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.in_block = matches!(kind, HEADERS | CONTINUATION);
        self.last_of_block = flags & END_HEADERS != 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        bytes.extend(payload);
        bytes
    }

    fn started() -> Frames {
        let mut frames = Frames::new();
        assert!(!frames.follow(PREFACE));
        frames
    }

    #[test]
    fn a_header_block_is_open_from_its_frame_header_to_its_last_byte() {
        let block = frame(HEADERS, END_HEADERS, b"abc");
        let mut frames = started();
        for (at, byte) in block.iter().enumerate() {
            let open = frames.follow(&[*byte]);
            assert_eq!(open, (8..block.len() - 1).contains(&at), "after byte {at}");
        }
        assert!(!frames.follow(&frame(0, 0, b"data")));
    }

    #[test]
    fn a_block_without_end_headers_stays_open_until_its_last_continuation() {
        let mut frames = started();
        assert!(frames.follow(&frame(HEADERS, 0, b"abc")));
        assert!(frames.follow(&frame(CONTINUATION, 0, b"")));
        assert!(!frames.follow(&frame(CONTINUATION, END_HEADERS, b"def")));
    }

    #[test]
    fn other_frames_are_never_a_header_block() {
        let mut frames = started();
        let mut bytes = frame(4, 0, b"settings");
        bytes.extend(frame(0, END_HEADERS, &[9; 200]));
        assert!(!frames.follow(&bytes[..bytes.len() - 50]));
    }
}
