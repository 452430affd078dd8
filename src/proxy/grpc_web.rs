//! gRPC-Web: gRPC for browsers, which see no trailers and read text best. Where a listener
//! translates it, the origin is asked in plain gRPC (Envoy's `grpc_web` filter; the protocol is
//! gRPC's PROTOCOL-WEB.md).
//!
//! A body in text is base64; the answer's trailers become a last frame of its body. Both are
//! translated as they pass, so that a stream of messages stays one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use super::context::Context;
use super::reply::{self, Reply};
use crate::base::CauseKind;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

const GRPC: &str = "application/grpc";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

/// Of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// Flags and length of a frame.
const FRAME_HEAD: usize = 5;

const NOT_BASE64: &str = "Bad gRPC-web request, invalid base64 data.";

/// A request in gRPC-Web.
#[derive(Debug, Default)]
pub(super) struct GrpcWeb {
    /// The client writes text.
    writes_text: bool,
    /// The client asks for text.
    reads_text: bool,
    request: Decoder,
    response: Encoder,
    /// The origin's answer is no gRPC, and not passed on.
    is_foreign: bool,
}

/// Base64 that arrives in pieces, each padded or not.
#[derive(Debug, Default)]
struct Decoder {
    /// Less than four characters.
    rest: Vec<u8>,
}

/// Frames that leave as base64, each padded by itself as in Envoy, and none held back.
#[derive(Debug, Default)]
struct Encoder {
    head: Vec<u8>,
    /// Of the current frame's message.
    missing: usize,
    /// Less than three bytes.
    rest: Vec<u8>,
}

/// What a request's head says, if it is in gRPC-Web.
pub(super) fn read(request: &RequestHeader) -> Option<Box<GrpcWeb>> {
    let is_text = |name: HeaderName| {
        let value = request.headers.get(name)?.as_bytes();
        match value {
            b"application/grpc-web-text" | b"application/grpc-web-text+proto" => Some(true),
            b"application/grpc-web" | b"application/grpc-web+proto" => Some(false),
            _ => None,
        }
    };
    Some(Box::new(GrpcWeb {
        writes_text: is_text(CONTENT_TYPE)?,
        reads_text: is_text(ACCEPT) == Some(true),
        ..GrpcWeb::default()
    }))
}

/// Makes a request to the origin one in gRPC.
///
/// # Errors
/// None in practice; header insertion is fallible in Pingora's types.
pub(super) fn ask(ctx: &Context, request: &mut RequestHeader) -> Result<()> {
    let Some(web) = &ctx.grpc_web else {
        return Ok(());
    };
    request.insert_header(CONTENT_TYPE, GRPC)?;
    if !request.headers.contains_key(GRPC_ACCEPT_ENCODING) {
        request.insert_header(GRPC_ACCEPT_ENCODING, "identity")?;
    }
    if web.writes_text && request.remove_header(&CONTENT_LENGTH).is_some() {
        // It counted characters.
        if request.version != Version::HTTP_2 {
            request.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
    }
    Ok(())
}

/// Turns a part of the request's body into bytes of gRPC frames. `is_first` begins an attempt.
///
/// # Errors
/// It is no base64.
pub(super) fn from_client(
    ctx: &mut Context,
    body: &mut Option<Bytes>,
    end: bool,
    is_first: bool,
) -> Result<()> {
    let Some(web) = ctx.grpc_web.as_mut().filter(|web| web.writes_text) else {
        return Ok(());
    };
    if is_first {
        web.request = Decoder::default();
    }
    let text = body.as_deref().unwrap_or_default();
    let decoded = web.request.decode(text);
    let is_whole = !end || web.request.rest.is_empty();
    let Some(decoded) = decoded.filter(|_| is_whole) else {
        ctx.reply = Some(Reply {
            status: 400,
            body: Bytes::from_static(NOT_BASE64.as_bytes()),
            ..Reply::default()
        });
        return Err(ctx.fail(CauseKind::BadRequest, NOT_BASE64).into_down());
    };
    if body.is_some() {
        *body = Some(decoded);
    }
    Ok(())
}

/// Makes the final head of a response one in gRPC-Web. One that is no gRPC gets the gRPC status that
/// its own maps to, and no body.
///
/// # Errors
/// As [`ask`].
pub(super) fn answer(ctx: &mut Context, response: &mut ResponseHeader) -> Result<()> {
    let Some(web) = &mut ctx.grpc_web else {
        return Ok(());
    };
    let is_grpc = response.headers.contains_key(GRPC_STATUS)
        || (response.status == StatusCode::OK && is_grpc_type(&response.headers));
    response.insert_header(CONTENT_TYPE, web.content_type())?;
    if is_grpc {
        // Trailers are added to the body.
        if response.remove_header(&CONTENT_LENGTH).is_some() {
            response.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        return Ok(());
    }
    web.is_foreign = true;
    let status = reply::grpc_status(response.status.as_u16());
    response.insert_header(GRPC_STATUS, HeaderValue::from(status))?;
    response.remove_header(&TRANSFER_ENCODING);
    response.insert_header(CONTENT_LENGTH, "0")?;
    ctx.grpc_status = Some(status);
    Ok(())
}

/// Turns a part of the response's body into what the client asked for.
pub(super) fn to_client(ctx: &mut Context, body: &mut Option<Bytes>, end: bool) {
    let Some(web) = &mut ctx.grpc_web else {
        return;
    };
    if web.is_foreign {
        *body = None;
        return;
    }
    if !web.reads_text {
        return;
    }
    let mut text = web.response.encode(body.as_deref().unwrap_or_default());
    if end {
        web.response.finish(&mut text);
    }
    if !text.is_empty() || body.is_some() {
        *body = Some(text.into());
    }
}

/// The response's trailers as the last part of its body; nothing where they stay what they are.
pub(super) fn trailers(ctx: &mut Context, trailers: &HeaderMap) -> Option<Bytes> {
    let web = ctx.grpc_web.as_mut()?;
    if web.is_foreign {
        return None;
    }
    let mut block = BytesMut::new();
    for (name, value) in trailers {
        block.put_slice(name.as_str().as_bytes());
        block.put_u8(b':');
        block.put_slice(value.as_bytes());
        block.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + block.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(block.len()).ok()?);
    frame.put(block);
    if !web.reads_text {
        return Some(frame.freeze());
    }
    let mut text = String::new();
    web.response.finish(&mut text);
    STANDARD.encode_string(&frame, &mut text);
    Some(text.into())
}

impl GrpcWeb {
    /// Of its answers.
    pub(super) fn content_type(&self) -> &'static str {
        if self.reads_text { TEXT } else { BINARY }
    }
}

impl Decoder {
    /// `None` if it is no base64.
    fn decode(&mut self, text: &[u8]) -> Option<Bytes> {
        self.rest.extend_from_slice(text);
        let whole = self.rest.len() / 4 * 4;
        let rest = self.rest.split_off(whole);
        let text = std::mem::replace(&mut self.rest, rest);
        let mut out = Vec::with_capacity(whole / 4 * 3);
        let mut left = text.as_slice();
        while !left.is_empty() {
            // Padding may end any piece, not only the last.
            let padding = left.iter().position(|byte| *byte == b'=');
            let count = padding.map_or(left.len(), |position| position / 4 * 4 + 4);
            let (piece, after) = left.split_at_checked(count)?;
            STANDARD.decode_vec(piece, &mut out).ok()?;
            left = after;
        }
        Some(out.into())
    }
}

impl Encoder {
    fn encode(&mut self, mut bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4 + 4);
        while !bytes.is_empty() {
            let (part, after, ends) = self.part(bytes);
            self.rest.extend_from_slice(part);
            let count = match ends {
                true => self.rest.len(),
                false => self.rest.len() / 3 * 3,
            };
            let rest = self.rest.split_off(count);
            STANDARD.encode_string(&self.rest, &mut text);
            self.rest = rest;
            bytes = after;
        }
        text
    }

    /// What is left of a frame that was cut short.
    fn finish(&mut self, text: &mut String) {
        STANDARD.encode_string(std::mem::take(&mut self.rest), text);
    }

    /// The part of `bytes` that belongs to the current frame, what comes after it, and whether the
    /// frame ends with it.
    fn part<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], &'b [u8], bool) {
        let mut count = 0;
        while self.head.len() < FRAME_HEAD
            && let Some(byte) = bytes.get(count)
        {
            self.head.push(*byte);
            count += 1;
            if let [_, length @ ..] = self.head.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            }
        }
        let message = self.missing.min(bytes.len() - count);
        self.missing -= message;
        let ends = self.head.len() == FRAME_HEAD && self.missing == 0;
        if ends {
            self.head.clear();
        }
        let (part, after) = bytes.split_at(count + message);
        (part, after, ends)
    }
}

/// `application/grpc` and its kin, gRPC-Web among them.
fn is_grpc_type(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let rest = kind.as_bytes().strip_prefix(GRPC.as_bytes());
    rest.is_some_and(|rest| {
        let web = rest.strip_prefix(b"-web").unwrap_or(rest);
        matches!(web.first(), None | Some(b'+' | b';' | b' '))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[0], &length.to_be_bytes()[..], message].concat()
    }

    #[test]
    fn text_is_decoded_wherever_it_is_cut_and_padded() {
        let text = [
            STANDARD.encode(b"one"),
            STANDARD.encode(b"four"),
            STANDARD.encode(b"eleven"),
        ];
        let text = text.concat();
        for size in 1..=text.len() {
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                out.extend_from_slice(&decoder.decode(piece).unwrap());
            }
            assert_eq!(out, b"onefoureleven", "in pieces of {size}");
            assert!(decoder.rest.is_empty());
        }
        for bad in ["====", "ab=c", "a!bc", "Zm9=Zm9v"] {
            assert_eq!(Decoder::default().decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn each_frame_is_padded_by_itself_and_leaves_with_its_last_byte() {
        let frames = [frame(b""), frame(b"a"), frame(b"hello"), frame(&[7; 100])];
        let bytes = frames.concat();
        let expected: String = frames.iter().map(|frame| STANDARD.encode(frame)).collect();
        for size in 1..=bytes.len() {
            let mut encoder = Encoder::default();
            let text: String = bytes
                .chunks(size)
                .map(|piece| encoder.encode(piece))
                .collect();
            assert_eq!(text, expected, "in pieces of {size}");
            assert!(encoder.rest.is_empty());
        }
        let mut encoder = Encoder::default();
        let mut text = encoder.encode(&frame(b"cut short")[..7]);
        encoder.finish(&mut text);
        assert_eq!(STANDARD.decode(text).unwrap(), frame(b"cut short")[..7]);
    }

    #[test]
    fn types_of_grpc_are_told_from_others() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web+proto", true),
            ("application/grpc-web; charset=x", true),
            ("application/grpcx", false),
            ("application/grpc-website", false),
            ("text/html", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_grpc_type(&headers), expected, "{kind}");
        }
    }
}
