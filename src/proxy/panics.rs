//! A panic costs its own request and nothing else.
//!
//! Uncaught, it would end the connection's task without an answer, a log line or a count.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pingora::Result;

use super::context::Context;
use crate::base::CauseKind;

/// Runs a step. A panic in it becomes the cause of a 500.
pub(super) fn caught<T>(
    ctx: &mut Context,
    step: impl FnOnce(&mut Context) -> Result<T>,
) -> Result<T> {
    // The context is only read again to answer and record the failure; its fields are plain values.
    match catch_unwind(AssertUnwindSafe(|| step(ctx))) {
        Ok(result) => result,
        Err(_) => {
            ctx.panicked = true;
            ctx.cause = None;
            ctx.reply = None;
            Err(ctx.fail(CauseKind::Internal, "a step of the request panicked"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_step_becomes_an_internal_error_of_its_request() {
        let mut ctx = Context::new(Default::default());
        let result: Result<()> = caught(&mut ctx, |_| panic!("on purpose"));
        assert!(result.is_err());
        assert_eq!(ctx.cause.map(|cause| cause.kind), Some(CauseKind::Internal));
    }
}
