//! Fences around what a broken object without an earlier version would have defined.
//!
//! Called when services and rules are indexed: traffic that a broken part concerns answers 503
//! rather than being served by half of what the user wrote.

use std::sync::Arc;

use crate::base::{Code, Finding, Findings};
use crate::compile::damage::Fault;
use crate::model::Object;
use crate::plan::Fence;

/// The fence that a fault puts up; it names the object, which the traffic's own rule does not.
pub(super) fn fence(object: &Object, fault: &Fault) -> Arc<Fence> {
    let reason = format!(
        "{} is broken at {}: {}",
        object.key, fault.path, fault.message
    );
    Arc::new(Fence {
        origin: fault.origin.clone(),
        reason: reason.into(),
    })
}

/// Says which traffic a fence holds back.
pub(super) fn report(fence: &Fence, object: &Object, traffic: &str, findings: &mut Findings) {
    let message = format!("{traffic} answers 503: {}", fence.reason);
    findings.push(
        Finding::new(Code::FENCED, message)
            .at(&fence.origin)
            .of(&object.key)
            .hint("correct the object; until then nothing of it is served half"),
    );
}
