//! Step 3, injected faults: a delay that holds no thread, then perhaps an abort.

use pingora::Result;
use pingora::proxy::Session;
use tokio::time::sleep;

use super::attended::attended;
use super::context::Context;
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
        attended(session, ctx, "delayed", sleep(delay)).await?;
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
