//! Step 8: bodies on their way, in both directions.

use std::time::Duration;

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::context::Context;
use super::grpc_web;
use super::guard;
use crate::base::CauseKind;
use crate::upstream::Pick;

/// How long a kept body is held back behind its head.
const HOLD: Duration = Duration::from_millis(10);

/// A part of the request body arrived, or the one that was kept for this attempt.
///
/// # Errors
/// It is not what the head says it is, or larger than it may be.
pub(super) async fn from_client(
    ctx: &mut Context,
    data: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    // Pingora asks for the body only once the head is written.
    let is_first = !std::mem::replace(&mut ctx.head_sent, true);
    let length = data.as_ref().map_or(0, Bytes::len);
    guard::count_body(ctx, length, is_first)?;
    grpc_web::from_client(ctx, data, end, is_first)?;
    for copy in ctx.copies.iter_mut().flatten() {
        copy.pass(data.as_ref(), end);
    }
    if is_first && ctx.attempts > 1 && ctx.pick.as_ref().is_some_and(Pick::is_shared) {
        // An HTTP/2 origin refuses a stream by its head. Pingora hears that while we wait; once
        // the kept body is being written it would hear only that it cannot be.
        sleep(HOLD).await;
        yield_now().await;
    }
    if end {
        ctx.request_complete();
    }
    Ok(())
}

/// A part of the response body arrived. The route's timeout bounds the complete response.
///
/// # Errors
/// The timeout has passed.
pub(super) fn from_origin(ctx: &mut Context, data: &mut Option<Bytes>, end: bool) -> Result<()> {
    ctx.parts = ctx.parts.saturating_add(1);
    grpc_web::to_client(ctx, data, end);
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
