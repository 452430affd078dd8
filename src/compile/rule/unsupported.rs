//! Fields of a VirtualService that Istio knows and this gateway does not honour yet.
//!
//! Each gives one finding; the rule serves without the field. Called for every rule that is
//! translated.

use crate::base::{Code, Finding, Findings, Position};
use crate::model::Object;
use crate::model::istio::virtual_service::HttpRoute;

/// Reports the unsupported fields of one `http` rule.
pub(super) fn rule(
    object: &Object,
    index: usize,
    position: Position,
    rule: &HttpRoute,
    findings: &mut Findings,
) {
    let fields = [
        ("fault", rule.fault.is_some()),
        ("mirror", rule.mirror.is_some()),
        ("mirrors", !rule.mirrors.is_empty()),
        ("corsPolicy", rule.cors_policy.is_some()),
    ];
    for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
        let message = format!("`{field}` is not supported yet; the rule is served without it");
        findings.push(
            Finding::new(Code::UNSUPPORTED, message)
                .at(&object.origin.at(position))
                .of(&object.key)
                .path(format!("spec.http[{index}].{field}"))
                .hint("remove it to accept this"),
        );
    }
}
