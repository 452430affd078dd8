//! One access log line while it is written: bytes on the stack, escaped so that no client can
//! forge a line or a field.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smallvec::SmallVec;

/// Lines are seldom longer than this, so that writing one allocates nothing.
const USUAL: usize = 1024;

/// The line's bytes so far.
#[derive(Debug, Default)]
pub(super) struct Line(SmallVec<[u8; USUAL]>);

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
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends bytes that need no escaping.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.raw(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Appends text a client may have chosen.
    pub(super) fn text(&mut self, text: &str, escape: Escape) {
        let bytes = text.as_bytes();
        let mut plain = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let next = bytes.get(at + 1).copied();
            if !must_escape(byte, next, escape) {
                continue;
            }
            self.raw(bytes.get(plain..at).unwrap_or_default());
            match (byte, escape) {
                (b'"' | b'\\', _) => self.raw(&[b'\\', byte]),
                // The first byte of a C1 control; the second is what is shown.
                (0xc2, _) => {
                    self.code(next.unwrap_or_default(), escape);
                    plain = at + 2;
                    continue;
                }
                _ => self.code(byte, escape),
            }
            plain = at + 1;
        }
        self.raw(bytes.get(plain..).unwrap_or_default());
    }

    /// `2016-04-15T20:17:00.310Z`.
    pub(super) fn time(&mut self, since_epoch: Duration) {
        let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
        let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let at = jiff::tz::Offset::UTC.to_datetime(at);
        self.digits(u64::from(at.year().unsigned_abs()), 4);
        self.raw(b"-");
        self.digits(u64::from(at.month().unsigned_abs()), 2);
        self.raw(b"-");
        self.digits(u64::from(at.day().unsigned_abs()), 2);
        self.raw(b"T");
        self.digits(u64::from(at.hour().unsigned_abs()), 2);
        self.raw(b":");
        self.digits(u64::from(at.minute().unsigned_abs()), 2);
        self.raw(b":");
        self.digits(u64::from(at.second().unsigned_abs()), 2);
        self.raw(b".");
        self.digits(u64::from(since_epoch.subsec_millis()), 3);
        self.raw(b"Z");
    }

    pub(super) fn address(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                self.ip(IpAddr::V4(*v4.ip()));
                self.raw(b":");
                self.number(u64::from(v4.port()));
            }
            SocketAddr::V6(_) => self.shown(&address),
        }
    }

    pub(super) fn ip(&mut self, ip: IpAddr) {
        match ip {
            // By hand: the formatter costs several times as much, and a line has four addresses.
            IpAddr::V4(v4) => {
                for (index, octet) in v4.octets().into_iter().enumerate() {
                    if index > 0 {
                        self.raw(b".");
                    }
                    self.number(u64::from(octet));
                }
            }
            IpAddr::V6(v6) => self.shown(&v6),
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

    fn digits(&mut self, number: u64, width: u32) {
        for place in (0..width).rev() {
            let digit = (number / 10_u64.pow(place) % 10) as u8;
            self.0.push(b'0' + digit);
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.raw(text.as_bytes());
        Ok(())
    }
}

fn must_escape(byte: u8, next: Option<u8>, escape: Escape) -> bool {
    match byte {
        b'"' | b'\\' | 0..=0x1f | 0x7f => true,
        b' ' => escape == Escape::Word,
        // U+0080 to U+009F: terminals take some of them as commands.
        0xc2 => matches!(next, Some(0x80..=0x9f)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::default();
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
