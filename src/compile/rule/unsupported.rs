//! Rules of a VirtualService that Istio knows and this gateway does not serve yet.
//!
//! Each gives one finding. Called for every object that is translated.

use crate::base::{Code, Finding, Findings};
use crate::model::Object;
use crate::model::istio::VirtualService;

/// Reports the rules for connections.
pub(super) fn connections(object: &Object, spec: &VirtualService, findings: &mut Findings) {
    let tls = spec.tls.iter().enumerate().map(|(index, slot)| {
        let what = "routing of passed-through TLS is not supported yet";
        (slot.position, format!("spec.tls[{index}]"), what)
    });
    let tcp = spec.tcp.iter().enumerate().map(|(index, slot)| {
        let what = "TCP routing is not supported yet";
        (slot.position, format!("spec.tcp[{index}]"), what)
    });
    for (position, path, what) in tls.chain(tcp) {
        findings.push(
            Finding::new(
                Code::UNSUPPORTED,
                format!("{what}; this rule is not served"),
            )
            .at(&object.origin.at(position))
            .of(&object.key)
            .path(path),
        );
    }
}
