//! Step 3, injected faults: a delay that holds no thread, then perhaps an abort.

use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, Result};
use tokio::time::sleep;

use super::context::Context;
use super::limits::RETRY_BODY;
use super::reply::Reply;
use crate::base::CauseKind;
use crate::policy::fault::spec::{AbortStatus, Fault};

/// Injects a rule's fault. The answer, if the request is aborted.
///
/// # Errors
/// The client left while its request was delayed.
pub(super) async fn inject(
    session: &mut Session,
    ctx: &mut Context,
    fault: &Fault,
) -> Result<Option<Reply>> {
    let injected = fault.inject(|limit| fastrand::u32(..limit));
    if let Some(delay) = injected.delay {
        ctx.delayed = true;
        hold(session, ctx, delay).await?;
    }
    let Some(status) = injected.abort else {
        return Ok(None);
    };
    ctx.note(CauseKind::FaultAbort, "the rule's fault aborts the request");
    let reply = Reply::of(CauseKind::FaultAbort);
    Ok(Some(match status {
        AbortStatus::Http(status) => Reply { status, ..reply },
        AbortStatus::Grpc(code) => Reply {
            status: 200,
            grpc_status: Some(code),
            ..reply
        },
    }))
}

/// Waits, unless the client leaves.
async fn hold(session: &mut Session, ctx: &mut Context, delay: Duration) -> Result<()> {
    let failed = tokio::select! {
        () = sleep(delay) => return Ok(()),
        failed = client_leaves(session, ctx) => failed,
    };
    let message = match failed {
        Some(error) => format!("the client left while its request was delayed: {error}"),
        None => "the client left while its request was delayed".into(),
    };
    Err(ctx.fail(CauseKind::ClientDisconnect, message).into_down())
}

/// Ends when the client leaves. What is left of a short body is read meanwhile and kept to be
/// sent; behind a longer one nothing can be seen until it is read, so that is not waited for.
async fn client_leaves(session: &mut Session, ctx: &Context) -> Option<Box<Error>> {
    let client = session.as_downstream_mut();
    if !client.is_http2() && !client.is_body_done() {
        let length = client
            .req_header()
            .headers
            .get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if ctx.expects_continue || length.is_none_or(|length| length > RETRY_BODY) {
            return std::future::pending().await;
        }
        client.enable_retry_buffering();
        loop {
            match client.read_request_body().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Some(error),
            }
        }
    }
    client.read_body_or_idle(true).await.err()
}
