//! Step 8: bodies on their way, in both directions.

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};

use super::context::Context;
use crate::base::CauseKind;

/// A part of the request body arrived.
pub(super) fn from_client(ctx: &mut Context, data: Option<&Bytes>, end: bool) {
    // Pingora asks for the body only once the head is written.
    ctx.head_sent = true;
    for copy in ctx.copies.iter_mut().flatten() {
        copy.pass(data, end);
    }
    if end {
        ctx.request_complete();
    }
}

/// A part of the response body arrived. The route's timeout bounds the complete response.
///
/// # Errors
/// The timeout has passed.
pub(super) fn from_origin(ctx: &mut Context, end: bool) -> Result<()> {
    if let Some(pick) = &mut ctx.pick {
        pick.received(end);
    }
    if !ctx.is_late() {
        return Ok(());
    }
    ctx.note(
        CauseKind::UpstreamTimeout,
        "the route's timeout passed within the response",
    );
    Err(Error::explain(ErrorType::ReadTimedout, "route timeout").into_up())
}
