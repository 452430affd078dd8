//! How an operator's value is written: into text, into a JSON string, or as a JSON value.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::Origin;

use super::line::{Escape, Line};

/// Takes the one value an operator gives for a request. A trait and not an enum, so that each
/// format's writer is compiled into the match over the operators.
pub(super) trait Out {
    fn absent(&mut self);
    /// A text of ours: nothing to escape.
    fn plain(&mut self, text: &str);
    fn text(&mut self, text: &str);
    /// Stands without quotes in the default format: spaces must not split it.
    fn word(&mut self, text: &str);
    /// As a word, with spaces as underscores, as Envoy writes reasons.
    fn reason(&mut self, text: &str);
    fn number(&mut self, number: u64);
    /// A number that is a header's text: a string in JSON.
    fn number_text(&mut self, number: u64);
    fn address(&mut self, address: SocketAddr);
    fn ip(&mut self, ip: IpAddr);
    fn time(&mut self, since_epoch: Duration);
    fn origin(&mut self, origin: &Origin);
}

/// Writes a value into text, or into a JSON string: `-` if absent.
pub(super) struct TextOut<'l> {
    line: &'l mut Line,
    escape: Escape,
    word: Escape,
}

impl<'l> TextOut<'l> {
    pub(super) fn text(line: &'l mut Line) -> Self {
        Self {
            line,
            escape: Escape::Text,
            word: Escape::Word,
        }
    }

    pub(super) fn in_json(line: &'l mut Line) -> Self {
        Self {
            line,
            escape: Escape::Json,
            word: Escape::Json,
        }
    }
}

impl Out for TextOut<'_> {
    #[inline]
    fn absent(&mut self) {
        self.line.raw(b"-");
    }
    #[inline]
    fn plain(&mut self, text: &str) {
        self.line.raw(text.as_bytes());
    }
    #[inline]
    fn text(&mut self, text: &str) {
        self.line.text(text, self.escape);
    }
    #[inline]
    fn word(&mut self, text: &str) {
        self.line.text(text, self.word);
    }
    fn reason(&mut self, text: &str) {
        for (index, part) in text.split(' ').enumerate() {
            if index > 0 {
                self.line.raw(b"_");
            }
            self.line.text(part, self.escape);
        }
    }
    #[inline]
    fn number(&mut self, number: u64) {
        self.line.number(number);
    }
    #[inline]
    fn number_text(&mut self, number: u64) {
        self.line.number(number);
    }
    #[inline]
    fn address(&mut self, address: SocketAddr) {
        self.line.address(address);
    }
    fn ip(&mut self, ip: IpAddr) {
        self.line.ip(ip);
    }
    #[inline]
    fn time(&mut self, since_epoch: Duration) {
        self.line.time(since_epoch);
    }
    fn origin(&mut self, origin: &Origin) {
        self.line.text(&origin.file, self.escape);
        if origin.position.line > 0 {
            self.line.raw(b":");
            self.line.number(u64::from(origin.position.line));
        }
    }
}

/// Writes a whole JSON value: a number, a string, or `null` if absent.
pub(super) struct JsonOut<'l>(pub(super) &'l mut Line);

impl JsonOut<'_> {
    #[inline]
    fn string(&mut self, write: impl FnOnce(&mut TextOut<'_>)) {
        self.0.raw(b"\"");
        write(&mut TextOut::in_json(self.0));
        self.0.raw(b"\"");
    }
}

impl Out for JsonOut<'_> {
    #[inline]
    fn absent(&mut self) {
        self.0.raw(b"null");
    }
    #[inline]
    fn plain(&mut self, text: &str) {
        self.string(|out| out.plain(text));
    }
    #[inline]
    fn text(&mut self, text: &str) {
        self.string(|out| Out::text(out, text));
    }
    #[inline]
    fn word(&mut self, text: &str) {
        self.string(|out| out.word(text));
    }
    fn reason(&mut self, text: &str) {
        self.string(|out| out.reason(text));
    }
    #[inline]
    fn number(&mut self, number: u64) {
        self.0.number(number);
    }
    #[inline]
    fn number_text(&mut self, number: u64) {
        self.string(|out| out.number(number));
    }
    #[inline]
    fn address(&mut self, address: SocketAddr) {
        self.string(|out| out.address(address));
    }
    fn ip(&mut self, ip: IpAddr) {
        self.string(|out| out.ip(ip));
    }
    #[inline]
    fn time(&mut self, since_epoch: Duration) {
        self.string(|out| out.time(since_epoch));
    }
    fn origin(&mut self, origin: &Origin) {
        self.string(|out| out.origin(origin));
    }
}
