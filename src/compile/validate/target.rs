//! What is wrong with the target of one of our policies.

use crate::base::Findings;
use crate::model::own::PolicyTarget;
use crate::model::{FieldPath, Object};

use super::fault;

/// Checks `spec.targetRef`.
pub(super) fn check(object: &Object, target: &PolicyTarget, findings: &mut Findings) {
    let path = FieldPath::spec().field("targetRef");
    let mut wrong = |field: &str, message: String, hint: &str| {
        findings.push(fault(object, &path.field(field), message, hint));
    };
    let kind = target.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "Gateway" | "VirtualService") {
        let message = match kind {
            "" => "the target has no kind".to_owned(),
            kind => format!("`{kind}` is no kind of target"),
        };
        wrong("kind", message, "one of Gateway, VirtualService");
    }
    if target.name.is_empty() {
        let hint = "write whose requests are meant";
        wrong("name", "the target has no name".into(), hint);
    }
    if kind == "Gateway" && target.section_name.is_some() {
        let message = "a Gateway has no rules to name".into();
        let hint = "remove it, or name the rule's VirtualService";
        wrong("sectionName", message, hint);
    } else if target.section_name.as_deref() == Some("") {
        let hint = "write the name of an http rule, or remove it";
        wrong("sectionName", "the section has no name".into(), hint);
    }
}
