//! Fields of a VirtualService that Istio knows and this gateway does not honour yet.
//!
//! Each gives one finding; the rule serves without the field. Called once for every
//! VirtualService that takes part in routing.

use crate::base::{Code, Finding, Findings, Position};
use crate::model::Object;
use crate::model::istio::VirtualService;
use crate::model::istio::virtual_service::{HttpRoute, Retry};

/// Reports every unsupported field of a VirtualService.
pub(crate) fn report(object: &Object, spec: &VirtualService, findings: &mut Findings) {
    let mut add = |position: Position, path: String, message: String, hint: &str| {
        let finding = Finding::new(Code::UNSUPPORTED, message);
        findings.push(
            finding
                .at(&object.origin.at(position))
                .of(&object.key)
                .path(path)
                .hint(hint),
        );
    };
    for (index, slot) in spec.http.iter().enumerate() {
        let Some(rule) = slot.good() else { continue };
        for field in fields(rule) {
            let message = format!("`{field}` is not supported yet; the rule is served without it");
            add(
                slot.position,
                format!("spec.http[{index}].{field}"),
                message,
                "remove it to accept this",
            );
        }
    }
    for (index, slot) in spec.tls.iter().enumerate() {
        let message = "routing of passed-through TLS is not supported yet; this rule is not served"
            .to_owned();
        add(slot.position, format!("spec.tls[{index}]"), message, "");
    }
    for (index, slot) in spec.tcp.iter().enumerate() {
        let message = "TCP routing is not supported yet; this rule is not served".to_owned();
        add(slot.position, format!("spec.tcp[{index}]"), message, "");
    }
}

fn fields(rule: &HttpRoute) -> impl Iterator<Item = &'static str> {
    // `attempts: 0` asks for what is done anyway: no retries.
    let asks_for_retries = |retry: &Retry| retry.attempts != Some(0);
    [
        (
            "retries",
            rule.retries.as_deref().is_some_and(asks_for_retries),
        ),
        ("fault", rule.fault.is_some()),
        ("mirror", rule.mirror.is_some()),
        ("mirrors", !rule.mirrors.is_empty()),
        ("corsPolicy", rule.cors_policy.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, is_set)| is_set.then_some(field))
}
