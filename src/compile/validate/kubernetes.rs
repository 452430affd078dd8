//! What a cluster would refuse in a Service or in a record of its endpoints.
//!
//! An export of a cluster never has these faults; a manifest written by hand may.

use std::net::IpAddr;

use crate::base::tls_material::Credential;
use crate::base::{Code, Finding, Findings, Kind};
use crate::model::kube::{EndpointSlice, Endpoints, Service};
use crate::model::{FieldPath, Object};

use super::fault;

/// Checks a Service.
pub(super) fn check_service(object: &Object, spec: &Service, findings: &mut Findings) {
    let path = FieldPath::spec();
    let target = spec.external_name.as_deref().unwrap_or_default();
    if spec.service_type.as_deref() == Some("ExternalName") && target.is_empty() {
        let message = "a Service of type ExternalName needs an externalName";
        let path = path.field("externalName");
        findings.push(fault(
            object,
            &path,
            message,
            "write the host it stands for",
        ));
    }
    for (index, slot) in spec.ports.iter().enumerate() {
        if slot
            .good()
            .is_some_and(|port| port.port.unwrap_or_default() == 0)
        {
            let path = path.field("ports").index(index).field("port");
            findings.push(fault(
                object,
                &path,
                "the port has no number",
                "from 1 to 65535",
            ));
        }
    }
}

/// Checks an EndpointSlice.
pub(super) fn check_slice(object: &Object, slice: &EndpointSlice, findings: &mut Findings) {
    if slice.address_type.as_deref() == Some("FQDN") {
        return;
    }
    for (index, slot) in slice.endpoints.iter().enumerate() {
        let addresses = slot.good().map(|endpoint| endpoint.addresses.as_slice());
        for (position, address) in addresses.unwrap_or_default().iter().enumerate() {
            if !is_address(address) {
                let path = FieldPath::default().field("endpoints").index(index);
                let path = path.field("addresses").index(position);
                findings.push(not_an_address(object, &path, address));
            }
        }
    }
}

/// Checks an Endpoints object.
pub(super) fn check_endpoints(object: &Object, record: &Endpoints, findings: &mut Findings) {
    for (index, slot) in record.subsets.iter().enumerate() {
        let addresses = slot.good().map(|subset| subset.addresses.as_slice());
        for (position, slot) in addresses.unwrap_or_default().iter().enumerate() {
            let ip = slot.good().and_then(|address| address.ip.as_deref());
            if let Some(ip) = ip.filter(|ip| !is_address(ip)) {
                let path = FieldPath::default().field("subsets").index(index);
                let path = path.field("addresses").index(position).field("ip");
                findings.push(not_an_address(object, &path, ip));
            }
        }
    }
}

/// Checks what a Secret or ConfigMap holds for TLS. Anything else in it is not looked at.
pub(super) fn check_secret(object: &Object, credential: &Credential, findings: &mut Findings) {
    let pair = credential
        .pair
        .iter()
        .filter_map(|pair| pair.as_ref().err());
    let authorities = credential.authorities.iter();
    let revocations = credential.revocations.iter();
    let problems = pair
        .chain(authorities.filter_map(|read| read.as_ref().err()))
        .chain(revocations.filter_map(|read| read.as_ref().err()));
    for problem in problems {
        findings.push(match object.key.kind {
            Kind::TlsFiles => Finding::new(Code::UNREADABLE_FILE, problem.to_string())
                .at(&object.origin)
                .of(&object.key)
                .hint("mend the file; it is read again at once"),
            _ => {
                let path = FieldPath::default().field("data");
                let hint = format!("mend the {}", object.key.kind);
                fault(object, &path, problem.to_string(), hint)
            }
        });
    }
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn not_an_address(object: &Object, path: &FieldPath, text: &str) -> Finding {
    fault(
        object,
        path,
        format!("`{text}` is not an IP address"),
        "write an IP address",
    )
}
