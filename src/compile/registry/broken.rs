//! What is wrong with an object that has no earlier error-free version, and what that fences.
//!
//! Called when services and rules are indexed: traffic that a broken part concerns answers 503
//! rather than being served by half of what the user wrote (design 4.3).

use std::sync::Arc;

use crate::base::{Code, Finding, Findings, Origin, Severity};
use crate::compile::validate;
use crate::model::{FieldPath, Object};
use crate::plan::Fence;

/// The faults of one object. Empty for nearly every object.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

#[derive(Debug)]
struct Fault {
    path: String,
    message: String,
    origin: Origin,
}

/// Everything that could not be read in an object, and everything Istio would refuse in it.
pub(super) fn faults(object: &Object) -> Faults {
    let mut refused = Findings::new();
    validate::check(object, &mut refused);
    let unread = object.issues.iter().map(|issue| Fault {
        path: issue.path.to_string(),
        message: issue.message.clone(),
        origin: object.origin.at(issue.position),
    });
    let refused = refused
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error);
    let refused = refused.map(|finding| Fault {
        origin: finding.origin.unwrap_or_else(|| object.origin.clone()),
        path: finding.path,
        message: finding.message,
    });
    Faults(unread.chain(refused).collect())
}

impl Faults {
    /// A fence around what stands at or below a path, if anything there is wrong.
    pub(super) fn fence(
        &self,
        object: &Object,
        path: impl FnOnce() -> FieldPath,
    ) -> Option<Arc<Fence>> {
        if self.0.is_empty() {
            return None;
        }
        let path = path().to_string();
        self.fence_where(object, |fault| is_under(fault, &path))
    }

    /// A fence around the whole spec, if anything is wrong in it outside the elements of a list.
    pub(super) fn fence_beside(&self, object: &Object, list: &str) -> Option<Arc<Fence>> {
        let is_element = |fault: &str| {
            let rest = fault.strip_prefix(list);
            rest.is_some_and(|rest| rest.starts_with('['))
        };
        self.fence_where(object, |fault| {
            is_under(fault, "spec") && !is_element(fault)
        })
    }

    fn fence_where(
        &self,
        object: &Object,
        mut holds: impl FnMut(&str) -> bool,
    ) -> Option<Arc<Fence>> {
        let fault = self.0.iter().find(|fault| holds(&fault.path))?;
        let reason = format!(
            "{} is broken at {}: {}",
            object.key, fault.path, fault.message
        );
        Some(Arc::new(Fence {
            origin: fault.origin.clone(),
            reason: reason.into(),
        }))
    }
}

/// Says which traffic a fence holds back.
pub(super) fn report(fence: &Fence, object: &Object, traffic: &str, findings: &mut Findings) {
    findings.push(
        Finding::new(
            Code::FENCED,
            format!("{traffic} answers 503: {}", fence.reason),
        )
        .at(&fence.origin)
        .of(&object.key)
        .hint("correct the object; until then nothing of it is served half"),
    );
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
