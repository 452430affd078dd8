//! One access log line while it is written, escaped so that no client can forge a line or a field.
//!
//! A line has some fifty parts, so what counts is how few appends it takes and how little each
//! costs: numbers, times and addresses are put together on the stack, and text is scanned for
//! something to escape in one pass that the compiler vectorises.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Lines are seldom longer, so that writing one allocates once.
const USUAL: usize = 768;

/// `255.255.255.255` with the separator after it.
const LONGEST_V4: usize = 16;

/// The digits of every octet, and how many they are.
const OCTETS: [([u8; 3], usize); 256] = {
    let mut table = [([b'0'; 3], 1); 256];
    let mut octet = 0;
    while octet < table.len() {
        let [hundreds, tens, ones] = [
            (octet / 100) as u8,
            (octet / 10 % 10) as u8,
            (octet % 10) as u8,
        ];
        table[octet] = match octet {
            100.. => ([b'0' + hundreds, b'0' + tens, b'0' + ones], 3),
            10.. => ([b'0' + tens, b'0' + ones, b'.'], 2),
            _ => ([b'0' + ones, b'.', b'.'], 1),
        };
        octet += 1;
    }
    table
};

/// The line's bytes so far.
#[derive(Debug)]
pub(super) struct Line(Vec<u8>);

/// How text is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// `\"`, `\\` and `\xNN`.
    Text,
    /// As `Text`, and a space becomes `\x20`: for fields that stand without quotes.
    Word,
    /// `\"`, `\\` and `\u00NN`.
    Json,
}

impl Line {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(USUAL))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends bytes that need no escaping.
    #[inline]
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.raw(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Appends text a client may have chosen.
    #[inline]
    pub(super) fn text(&mut self, text: &str, escape: Escape) {
        let bytes = text.as_bytes();
        if may_need_escape(bytes, escape) {
            self.escaped(bytes, escape);
        } else {
            self.raw(bytes);
        }
    }

    fn escaped(&mut self, bytes: &[u8], escape: Escape) {
        let mut rest = bytes.iter().copied().peekable();
        while let Some(byte) = rest.next() {
            match byte {
                b'"' | b'\\' => self.raw(&[b'\\', byte]),
                // U+0080 to U+009F: terminals take some of them as commands. The second byte
                // is the code.
                0xc2 => match rest.next_if(|next| matches!(next, 0x80..=0x9f)) {
                    Some(code) => self.code(code, escape),
                    None => self.raw(&[byte]),
                },
                _ if must_be_code(byte, escape) => self.code(byte, escape),
                _ => self.raw(&[byte]),
            }
        }
    }

    /// `2016-04-15T20:17:00.310Z`.
    pub(super) fn time(&mut self, since_epoch: Duration) {
        let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
        let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let at = jiff::tz::Offset::UTC.to_datetime(at);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |end: usize, number: u32| {
            let mut number = number;
            for digit in text.iter_mut().take(end).rev() {
                // Stops at the separator before the number.
                if !digit.is_ascii_digit() {
                    break;
                }
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        put(4, u32::from(at.year().unsigned_abs()));
        put(7, u32::from(at.month().unsigned_abs()));
        put(10, u32::from(at.day().unsigned_abs()));
        put(13, u32::from(at.hour().unsigned_abs()));
        put(16, u32::from(at.minute().unsigned_abs()));
        put(19, u32::from(at.second().unsigned_abs()));
        put(23, since_epoch.subsec_millis());
        self.raw(&text);
    }

    pub(super) fn address(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(v4) => self.v4(*v4.ip(), Some(v4.port())),
            SocketAddr::V6(_) => self.shown(&address),
        }
    }

    pub(super) fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => self.v4(v4, None),
            IpAddr::V6(v6) => self.shown(&v6),
        }
    }

    /// From a table: the formatter costs several times as much, and a line has four addresses.
    fn v4(&mut self, ip: Ipv4Addr, port: Option<u16>) {
        let mut text = [b'.'; LONGEST_V4];
        let mut end = 0;
        for octet in ip.octets() {
            let (digits, length) = OCTETS.get(usize::from(octet)).copied().unwrap_or_default();
            if let Some(place) = text.get_mut(end..end + 3) {
                place.copy_from_slice(&digits);
            }
            // The separator: a dot stands after every octet until the next is put there.
            if let Some(place) = text.get_mut(end + length) {
                *place = b'.';
            }
            end += length + 1;
        }
        match port {
            None => self.raw(text.get(..end - 1).unwrap_or_default()),
            Some(port) => {
                if let Some(place) = text.get_mut(end - 1) {
                    *place = b':';
                }
                self.raw(text.get(..end).unwrap_or_default());
                self.number(u64::from(port));
            }
        }
    }

    /// Appends what a trusted value prints as.
    fn shown(&mut self, value: &dyn std::fmt::Display) {
        // Writing to memory cannot fail.
        let _ = write!(self, "{value}");
    }

    fn code(&mut self, byte: u8, escape: Escape) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'?');
        self.raw(if escape == Escape::Json {
            b"\\u00"
        } else {
            b"\\x"
        });
        self.raw(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.raw(text.as_bytes());
        Ok(())
    }
}

/// Whether any byte may have to be escaped, eight at a time: most texts need nothing. Characters
/// beyond ASCII are left to the exact test.
#[inline]
fn may_need_escape(bytes: &[u8], escape: Escape) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    // The classic: a byte below `n` (at most 128) borrows into its highest bit.
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let any = |word: u64| {
        // Flipping bit 1 puts the quote (0x22) next to the control bytes and the space (0x20) away.
        let control_or_quote = below(word ^ (ONES * 2), 0x21);
        let delete_or_beyond = word.wrapping_add(ONES) | word;
        let space = if escape == Escape::Word {
            is(word, b' ')
        } else {
            0
        };
        (control_or_quote | is(word, b'\\') | delete_or_beyond | space) & HIGHS != 0
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().any(|word| any(u64::from_ne_bytes(*word)))
        || rest
            .iter()
            .any(|&byte| byte >= 0x80 || must_be_code(byte, escape) || matches!(byte, b'"' | b'\\'))
}

/// Whether a byte is written as its code.
fn must_be_code(byte: u8, escape: Escape) -> bool {
    byte < 0x20 || byte == 0x7f || (byte == b' ' && escape == Escape::Word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::new();
        write(&mut line);
        String::from_utf8(line.bytes().to_vec()).unwrap()
    }

    #[test]
    fn control_bytes_quotes_and_terminal_commands_are_escaped() {
        let hostile = "a\"b\\c\r\n\u{1b}[2J\u{7f}\u{9b}1m é";
        assert_eq!(
            written(|line| line.text(hostile, Escape::Text)),
            r#"a\"b\\c\x0d\x0a\x1b[2J\x7f\x9b1m é"#
        );
        let json = written(|line| line.text(hostile, Escape::Json));
        let back: String = serde_json::from_str(&format!("\"{json}\"")).unwrap();
        assert_eq!(back, hostile);
        assert_eq!(written(|line| line.text("a b", Escape::Word)), r"a\x20b");
    }

    #[test]
    fn every_byte_is_escaped_or_not_wherever_it_stands() {
        for escape in [Escape::Text, Escape::Word, Escape::Json] {
            for c in (0..0x250).filter_map(char::from_u32) {
                let alone = written(|line| line.text(c.encode_utf8(&mut [0; 4]), escape));
                let plain = match c {
                    '"' | '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}' => false,
                    ' ' => escape != Escape::Word,
                    _ => true,
                };
                assert_eq!(alone == c.to_string(), plain, "{c:?} {escape:?}");
                for at in 0..20 {
                    let text = format!("{}{c}{}", "a".repeat(at), "b".repeat(19 - at));
                    let expected = text.replace(c, &alone);
                    if !matches!(c, 'a' | 'b') {
                        assert_eq!(written(|line| line.text(&text, escape)), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_time_is_printed_to_the_millisecond_in_utc() {
        let at = Duration::new(1_460_751_420, 310_999_999);
        assert_eq!(written(|line| line.time(at)), "2016-04-15T20:17:00.310Z");
        assert_eq!(
            written(|line| line.time(Duration::ZERO)),
            "1970-01-01T00:00:00.000Z"
        );
        assert_eq!(
            written(|line| line.time(Duration::MAX)),
            "1970-01-01T00:00:00.999Z"
        );
    }

    #[test]
    fn addresses_are_printed_as_rust_prints_them() {
        for text in [
            "10.0.255.1:65535",
            "0.0.0.0:0",
            "[::1]:8080",
            "[2001:db8::ff]:1",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(written(|line| line.address(address)), text);
            assert_eq!(
                written(|line| line.ip(address.ip())),
                address.ip().to_string()
            );
        }
    }
}
