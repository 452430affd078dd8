//! What a request waits for before it is served, for as long as its client is there: an injected
//! delay, a check by somebody else.

use std::future::Future;

use pingora::proxy::Session;
use pingora::{Error, Result};

use super::context::Context;
use super::limits::RETRY_BODY;
use crate::base::CauseKind;

/// Waits for something, unless the client leaves; it is dropped then. The request is being `done`
/// something to meanwhile.
///
/// # Errors
/// The client left.
pub(super) async fn attended<T>(
    session: &mut Session,
    ctx: &mut Context,
    done: &str,
    wait: impl Future<Output = T>,
) -> Result<T> {
    let failed = tokio::select! {
        biased;
        outcome = wait => return Ok(outcome),
        failed = client_leaves(session, ctx) => failed,
    };
    let mut message = format!("the client left while its request was {done}");
    if let Some(error) = failed {
        message += &format!(": {error}");
    }
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
