//! The ClientHello, as far as it decides which server answers (RFC 8446 section 4.1.2).
//!
//! Nothing is decided about validity here: BoringSSL reads the same bytes again.

use crate::plan::stream::is_mesh_protocol;

/// What a ClientHello says about whom it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hello {
    /// Lower-case, without a trailing dot.
    pub server_name: Option<Box<str>>,
    /// Whether an ECDSA certificate can be used.
    pub takes_ecdsa: bool,
    /// Whether a protocol of Istio's mutual TLS is offered.
    pub offers_mesh: bool,
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Done(Hello),
    More,
    NotTls,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const PROTOCOLS: u16 = 16;

/// Suites that need an ECDSA certificate, up to TLS 1.2 (RFC 8422, 5289, 7905).
const ECDSA_SUITES: [u16; 7] = [0xC009, 0xC00A, 0xC023, 0xC024, 0xC02B, 0xC02C, 0xCCA9];
/// Those of TLS 1.3, which say nothing about certificates.
const SUITES_OF_1_3: [u16; 3] = [0x1301, 0x1302, 0x1303];
/// `ecdsa_secp256r1_sha256`, `ecdsa_secp384r1_sha384`, `ecdsa_secp521r1_sha512`.
const ECDSA_SIGNATURES: [u16; 3] = [0x0403, 0x0503, 0x0603];

/// Reads the first bytes of a connection.
pub(super) fn read(bytes: &[u8]) -> Reading {
    let mut records = Bytes(bytes);
    let mut message = Vec::with_capacity(bytes.len());
    loop {
        if let [CLIENT_HELLO, a, b, c, body @ ..] = message.as_slice() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if let Some(body) = body.get(..length) {
                return match hello(body) {
                    Some(hello) => Reading::Done(hello),
                    None => Reading::NotTls,
                };
            }
        } else if !matches!(message.first(), None | Some(&CLIENT_HELLO)) {
            return Reading::NotTls;
        }
        match records.0 {
            [] => return Reading::More,
            [HANDSHAKE] | [HANDSHAKE, 3] => return Reading::More,
            [HANDSHAKE, 3, ..] => {}
            _ => return Reading::NotTls,
        }
        let (Some(_), Some(length)) = (records.take(3), records.u16()) else {
            return Reading::More;
        };
        // RFC 8446 section 5.1: at most 2^14, and never empty for a handshake.
        if length == 0 || length > 1 << 14 {
            return Reading::NotTls;
        }
        let present = records.0.len().min(usize::from(length));
        message.extend_from_slice(records.take(present).unwrap_or_default());
    }
}

fn hello(body: &[u8]) -> Option<Hello> {
    let mut body = Bytes(body);
    // Version and random.
    body.take(34)?;
    body.vector8()?;
    let suites = body.vector16()?;
    body.vector8()?;
    let mut hello = Hello::default();
    let mut signs_ecdsa = false;
    // A client of SSL 3 days may send no extensions at all.
    let mut extensions = body.vector16().unwrap_or_default();
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut content = extensions.vector16()?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(content),
            SIGNATURE_ALGORITHMS => {
                signs_ecdsa = content.vector16()?.any_u16(&ECDSA_SIGNATURES);
            }
            PROTOCOLS => hello.offers_mesh = offers_mesh(content),
            _ => {}
        }
    }
    let suits = Bytes(suites.0).any_u16(&SUITES_OF_1_3) || suites.any_u16(&ECDSA_SUITES);
    hello.takes_ecdsa = signs_ecdsa && suits;
    Some(hello)
}

/// The first host name of the list (RFC 6066 section 3).
fn server_name(mut content: Bytes<'_>) -> Option<Box<str>> {
    let mut names = content.vector16()?;
    let kind = names.take(1)?;
    let name = names.vector16()?.0;
    let text = std::str::from_utf8(name).ok()?;
    let text = text.strip_suffix('.').unwrap_or(text);
    (kind == [0] && !text.is_empty()).then(|| text.to_ascii_lowercase().into())
}

/// Whether a list of protocols (RFC 7301) has one of the mesh.
fn offers_mesh(mut content: Bytes<'_>) -> bool {
    let mut names = content.vector16().unwrap_or_default();
    std::iter::from_fn(|| names.vector8()).any(|name| is_mesh_protocol(name.0))
}

/// A cursor that never reads past its end.
#[derive(Clone, Copy, Default)]
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*taken))
    }

    fn vector8(&mut self) -> Option<Bytes<'b>> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length)).map(Bytes)
    }

    fn vector16(&mut self) -> Option<Bytes<'b>> {
        let length = self.u16()?;
        self.take(usize::from(length)).map(Bytes)
    }

    fn any_u16(mut self, wanted: &[u16]) -> bool {
        std::iter::from_fn(|| self.u16()).any(|found| wanted.contains(&found))
    }
}

#[cfg(test)]
mod tests;
