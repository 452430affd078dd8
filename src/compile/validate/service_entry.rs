//! What Istio refuses in a ServiceEntry or a WorkloadEntry.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::base::{Code, Finding, Findings};
use crate::model::istio::{ServiceEntry, WorkloadEntry};
use crate::model::{FieldPath, Object};

use super::fault;
use super::name::{self, check_export_to, is_label};

/// Istio's resolutions.
const RESOLUTIONS: [&str; 5] = ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"];

/// Port protocols Istio knows.
const PROTOCOLS: [&str; 12] = [
    "HTTP",
    "HTTPS",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "TCP",
    "TLS",
    "MONGO",
    "REDIS",
    "MYSQL",
    "UDP",
    "HTTP_PROXY",
];

/// Checks a ServiceEntry.
pub(super) fn check(object: &Object, spec: &ServiceEntry, findings: &mut Findings) {
    let path = FieldPath::spec();
    check_hosts(object, spec, findings);
    check_ports(object, spec, findings);
    let resolution = spec.resolution.as_deref().unwrap_or("NONE");
    if !RESOLUTIONS.contains(&resolution) {
        let message = format!("`{resolution}` is not a resolution");
        let hint = format!("one of {}", RESOLUTIONS.join(", "));
        findings.push(fault(object, &path.field("resolution"), message, hint));
    }
    let known = |location: &str| matches!(location, "MESH_EXTERNAL" | "MESH_INTERNAL");
    if let Some(location) = spec.location.as_deref().filter(|location| !known(location)) {
        let message = format!("`{location}` is not a location");
        let hint = "MESH_EXTERNAL or MESH_INTERNAL";
        findings.push(fault(object, &path.field("location"), message, hint));
    }
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        let message = "endpoints and workloadSelector exclude each other";
        findings.push(fault(
            object,
            &path.field("workloadSelector"),
            message,
            "keep one of them",
        ));
    }
    let is_dns = matches!(resolution, "DNS" | "DNS_ROUND_ROBIN");
    for (index, address) in spec.addresses.iter().enumerate() {
        if is_dns && address.contains('/') {
            let path = path.field("addresses").index(index);
            let message = format!("the range `{address}` cannot be resolved by DNS");
            let hint = "ranges go with resolution NONE or STATIC";
            findings.push(fault(object, &path, message, hint));
        }
    }
    check_export_to(object, &spec.export_to, findings);
    check_endpoints(object, spec, resolution, findings);
}

/// Checks a WorkloadEntry of its own.
pub(super) fn check_workload(object: &Object, spec: &WorkloadEntry, findings: &mut Findings) {
    check_workload_at(object, &FieldPath::spec(), spec, findings);
}

fn check_hosts(object: &Object, spec: &ServiceEntry, findings: &mut Findings) {
    let path = FieldPath::spec().field("hosts");
    if spec.hosts.is_empty() {
        findings.push(fault(
            object,
            &path,
            "a ServiceEntry needs a host",
            "add one to spec.hosts",
        ));
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let refusal = match host.as_str() {
            "*" => Err("`*` is every host".to_owned()),
            host => name::host(host),
        };
        if let Err(message) = refusal {
            let hint = "write a DNS name, or `*.` and a DNS name";
            findings.push(fault(object, &path.index(index), message, hint));
        }
    }
}

fn check_ports(object: &Object, spec: &ServiceEntry, findings: &mut Findings) {
    let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
    for (index, slot) in spec.ports.iter().enumerate() {
        let Some(port) = slot.good() else { continue };
        let path = FieldPath::spec().field("ports").index(index);
        let number = port.number.unwrap_or_default();
        if !is_port(number) {
            let message = format!("{number} is not a port");
            findings.push(fault(
                object,
                &path.field("number"),
                message,
                "from 1 to 65535",
            ));
        } else if !numbers.insert(number) {
            let message = format!("the port {number} is given twice");
            findings.push(fault(
                object,
                &path.field("number"),
                message,
                "remove one of them",
            ));
        }
        let name = port.name.as_deref().unwrap_or_default();
        if !is_label(name) {
            let message = format!("`{name}` is not a port name");
            let hint = "letters, digits and inner hyphens, at most 63";
            findings.push(fault(object, &path.field("name"), message, hint));
        } else if !names.insert(name) {
            let message = format!("the port name `{name}` is given twice");
            findings.push(fault(
                object,
                &path.field("name"),
                message,
                "rename one of them",
            ));
        }
        if let Some(target) = port
            .target_port
            .filter(|target| !is_port(*target) && *target != 0)
        {
            let message = format!("{target} is not a port");
            findings.push(fault(
                object,
                &path.field("targetPort"),
                message,
                "from 1 to 65535",
            ));
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let known = PROTOCOLS
            .iter()
            .any(|known| protocol.eq_ignore_ascii_case(known));
        if !protocol.is_empty() && !known {
            let message = format!("`{protocol}` is not a protocol");
            let hint = format!("one of {}", PROTOCOLS.join(", "));
            findings.push(fault(object, &path.field("protocol"), message, hint));
        }
    }
}

fn check_endpoints(
    object: &Object,
    spec: &ServiceEntry,
    resolution: &str,
    findings: &mut Findings,
) {
    let path = FieldPath::spec().field("endpoints");
    let count = spec.endpoints.len();
    let dns = matches!(resolution, "DNS" | "DNS_ROUND_ROBIN");
    if matches!(resolution, "NONE" | "DYNAMIC_DNS") && count > 0 {
        let message = format!("resolution {resolution} takes no endpoints");
        findings.push(fault(
            object,
            &path,
            message,
            "set resolution to STATIC or DNS",
        ));
    }
    if resolution == "DNS_ROUND_ROBIN" && count > 1 {
        let message = "resolution DNS_ROUND_ROBIN takes at most one endpoint";
        findings.push(fault(object, &path, message, "set resolution to DNS"));
    }
    if dns && count == 0 && spec.workload_selector.is_none() {
        for (index, host) in spec
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.contains('*'))
        {
            let path = FieldPath::spec().field("hosts").index(index);
            let message = format!("`{host}` cannot be resolved by DNS");
            findings.push(fault(
                object,
                &path,
                message,
                "add endpoints, or write a full name",
            ));
        }
    }
    let names: HashSet<&str> = spec
        .ports
        .iter()
        .filter_map(|port| port.good()?.name.as_deref())
        .collect();
    for (index, slot) in spec.endpoints.iter().enumerate() {
        let Some(endpoint) = slot.good() else {
            continue;
        };
        let path = path.index(index);
        check_workload_at(object, &path, endpoint, findings);
        let address = endpoint.address.as_deref().unwrap_or_default();
        let is_name = !address.starts_with("unix:") && address.parse::<IpAddr>().is_err();
        if dns
            && is_name
            && !address.is_empty()
            && (name::host(address).is_err() || address.contains('*'))
        {
            let message = format!("`{address}` is neither an address nor a host name");
            let hint = "write an IP address or a full host name";
            findings.push(fault(object, &path.field("address"), message, hint));
        }
        for name in endpoint
            .ports
            .keys()
            .filter(|name| !names.contains(name.as_str()))
        {
            let message = format!("`{name}` is not a port of the ServiceEntry");
            let hint = "use a name from spec.ports";
            findings.push(fault(
                object,
                &path.field("ports").field(name),
                message,
                hint,
            ));
        }
    }
}

fn check_workload_at(
    object: &Object,
    path: &FieldPath,
    spec: &WorkloadEntry,
    findings: &mut Findings,
) {
    let address = spec.address.as_deref().unwrap_or_default();
    if address.is_empty() && spec.network.as_deref().unwrap_or_default().is_empty() {
        let message = "an endpoint needs an address";
        findings.push(fault(
            object,
            &path.field("address"),
            message,
            "write an IP address",
        ));
    }
    if !spec.network.as_deref().unwrap_or_default().is_empty() {
        let message = match address.is_empty() {
            true => {
                "an endpoint without an address lies behind its network's gateway, which is not looked up; it gets no traffic"
            }
            false => "`network` has no effect: the endpoint is reached at its address",
        };
        let finding = Finding::new(Code::INERT_FIELD, message);
        let path = path.field("network");
        findings.push(
            finding
                .at(&object.origin_of(&path))
                .of(&object.key)
                .path(path.to_string())
                .hint("write an address that this gateway can reach"),
        );
    }
    for (name, port) in spec.ports.iter().filter(|(_, port)| !is_port(**port)) {
        let message = format!("{port} is not a port");
        let path = path.field("ports").field(name);
        findings.push(fault(object, &path, message, "from 1 to 65535"));
    }
}

fn is_port(number: u32) -> bool {
    (1..=65535).contains(&number)
}

#[cfg(test)]
mod tests;
