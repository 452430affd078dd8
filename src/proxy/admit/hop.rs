//! Fields that concern one hop: `Connection`, `Upgrade`, `Expect`.
//!
//! Pingora strips them before the origin; here is decided what they may mean. Only a plain
//! WebSocket handshake upgrades. Pingora alone would tunnel whatever says `Upgrade`.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::head::is_token;
use super::{Refusal, bad};
use crate::base::CauseKind;
use crate::proxy::context::Context;

/// Nominations are bounded: each is looked up.
const MOST_NOMINATIONS: usize = 9;

/// Reads `Connection` and `Upgrade` of an HTTP/1 request.
///
/// # Errors
/// A nomination that would strip what origins rely on.
pub(super) fn connection(session: &mut Session, ctx: &mut Context) -> Result<(), Refusal> {
    let request = session.req_header();
    let mut upgrade = false;
    let mut count = 0;
    let tokens = request
        .headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty());
    for token in tokens {
        count += 1;
        if count > MOST_NOMINATIONS {
            return Err(bad("Connection names too many fields"));
        }
        if !is_token(token) || is_protected(token) {
            return Err(bad("Connection names a field that must not be removed"));
        }
        upgrade |= token.eq_ignore_ascii_case(b"upgrade");
    }
    if request.headers.contains_key(UPGRADE) {
        ctx.upgrade = upgrade && is_websocket(request);
        if !ctx.upgrade {
            // Ignored, as RFC 9110 section 7.8 allows: it is served as an ordinary request.
            session.req_header_mut().remove_header(&UPGRADE);
        }
    }
    Ok(())
}

/// Reads `Expect`. The answer to it is ours, so origins do not see it.
///
/// # Errors
/// Anything but `100-continue` (RFC 9110 section 10.1.1).
pub(super) fn expectation(session: &mut Session, ctx: &mut Context) -> Result<(), Refusal> {
    let Some(value) = session.req_header_mut().remove_header(&EXPECT) else {
        return Ok(());
    };
    if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(Refusal::new(
            CauseKind::ExpectationFailed,
            "Expect is not 100-continue",
        ));
    }
    ctx.expects_continue = session.req_header().version == Version::HTTP_11;
    Ok(())
}

fn is_websocket(request: &RequestHeader) -> bool {
    let mut upgrades = request.headers.get_all(UPGRADE).iter();
    let first = upgrades.next();
    first.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && upgrades.next().is_none()
        && request.method == Method::GET
        && request.version == Version::HTTP_11
        && !request.headers.contains_key(TRANSFER_ENCODING)
        && request
            .headers
            .get(CONTENT_LENGTH)
            .is_none_or(|length| length.as_bytes() == b"0")
}

/// Fields a client must not have removed by nominating them (edge-hardening section 3).
fn is_protected(token: &[u8]) -> bool {
    const PROTECTED: [&str; 9] = [
        "host",
        "content-length",
        "transfer-encoding",
        "authorization",
        "cookie",
        "content-type",
        "x-request-id",
        "x-real-ip",
        "forwarded",
    ];
    let begins = |prefix: &str| {
        token
            .get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    begins("x-forwarded-")
        || begins("x-envoy-")
        || PROTECTED
            .iter()
            .any(|name| token.eq_ignore_ascii_case(name.as_bytes()))
}
