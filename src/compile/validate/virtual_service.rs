//! What Istio refuses in a VirtualService.

use std::collections::HashSet;

use crate::base::{Findings, HostPattern};
use crate::compile::pattern::Patterns;
use crate::model::istio::VirtualService;
use crate::model::istio::virtual_service::TcpDestination;
use crate::model::{FieldPath, Object};

use super::{fault, name, route};

pub(super) fn check(
    object: &Object,
    spec: &VirtualService,
    patterns: &Patterns,
    findings: &mut Findings,
) {
    let unreadable = |field: &str| {
        !object.issues.is_empty()
            && object
                .issues_under(&FieldPath::spec().field(field))
                .next()
                .is_some()
    };
    let is_delegate = spec.hosts.is_empty() && !unreadable("hosts");
    if is_delegate {
        for (field, is_set) in [
            ("gateways", !spec.gateways.is_empty()),
            ("tls", !spec.tls.is_empty()),
            ("tcp", !spec.tcp.is_empty()),
        ] {
            if is_set {
                let message = format!(
                    "a VirtualService without hosts is a delegate and cannot have `{field}`"
                );
                findings.push(fault(
                    object,
                    &FieldPath::spec().field(field),
                    message,
                    "add `hosts`, or remove this",
                ));
            }
        }
    }
    check_hosts(object, spec, findings);
    name::check_gateways(
        object,
        &spec.gateways,
        || FieldPath::spec().field("gateways"),
        findings,
    );
    name::check_export_to(object, &spec.export_to, findings);
    let is_empty = spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty();
    if is_empty && !["http", "tls", "tcp"].into_iter().any(unreadable) {
        let message = "a VirtualService needs `http`, `tls` or `tcp` rules";
        findings.push(fault(
            object,
            &FieldPath::spec(),
            message,
            "add a rule to `spec.http`",
        ));
    }
    for (index, slot) in spec.http.iter().enumerate() {
        if let Some(rule) = slot.good() {
            route::Check {
                object,
                index,
                rule,
                is_delegate,
                patterns,
                findings,
            }
            .run();
        }
    }
    check_tls(object, spec, findings);
    for (index, slot) in spec.tcp.iter().enumerate() {
        let Some(rule) = slot.good() else { continue };
        let path = FieldPath::spec().field("tcp").index(index).field("route");
        check_connections(object, &rule.route, &path, findings);
    }
}

fn check_hosts(object: &Object, spec: &VirtualService, findings: &mut Findings) {
    let path = |index: usize| FieldPath::spec().field("hosts").index(index);
    let on_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|name| name == "mesh");
    let mut all_valid = true;
    for (index, host) in spec.hosts.iter().enumerate() {
        if let Err(message) = name::host(host) {
            all_valid = false;
            findings.push(fault(
                object,
                &path(index),
                message,
                "write a DNS name, `*`, or `*.` before a DNS name",
            ));
        } else if on_mesh && host == "*" {
            all_valid = false;
            let message = "the host `*` is not allowed for sidecars (the gateway `mesh`)";
            findings.push(fault(
                object,
                &path(index),
                message,
                "name only Gateways in `spec.gateways`",
            ));
        }
    }
    if spec.hosts.len() < 2 || !all_valid {
        return;
    }
    let patterns: Vec<Option<HostPattern>> = spec
        .hosts
        .iter()
        .map(|host| HostPattern::parse(host))
        .collect();
    let mut known: HashSet<&HostPattern> = HashSet::new();
    let wildcards: HashSet<&HostPattern> = patterns
        .iter()
        .flatten()
        .filter(|host| host.is_wildcard())
        .collect();
    for (index, pattern) in patterns.iter().enumerate() {
        let Some(pattern) = pattern else { continue };
        let covering = (!known.insert(pattern))
            .then(|| pattern.clone())
            .or_else(|| wider(pattern, &wildcards));
        if let Some(covering) = covering {
            let message = format!("the hosts `{pattern}` and `{covering}` of this object overlap");
            findings.push(fault(
                object,
                &path(index),
                message,
                "keep one of them, or split the object",
            ));
        }
    }
}

/// A wildcard other than the pattern itself that covers it.
fn wider(pattern: &HostPattern, wildcards: &HashSet<&HostPattern>) -> Option<HostPattern> {
    let text = match pattern {
        HostPattern::Exact(text) | HostPattern::Suffix(text) => text,
        HostPattern::Any => return None,
    };
    let suffixes = text
        .match_indices('.')
        .filter_map(|(at, _)| text.get(at..))
        .filter(|suffix| suffix.len() < text.len());
    let mut wider = suffixes
        .map(|suffix| HostPattern::Suffix(suffix.into()))
        .chain([HostPattern::Any]);
    wider.find(|wildcard| wildcards.contains(wildcard))
}

fn check_tls(object: &Object, spec: &VirtualService, findings: &mut Findings) {
    let hosts: Vec<HostPattern> = match spec.tls.is_empty() {
        true => Vec::new(),
        false => spec
            .hosts
            .iter()
            .filter_map(|host| HostPattern::parse(host))
            .collect(),
    };
    for (index, slot) in spec.tls.iter().enumerate() {
        let Some(rule) = slot.good() else { continue };
        let path = FieldPath::spec().field("tls").index(index);
        if rule.matches.is_empty() {
            let message = "a TLS rule needs a match with `sniHosts`";
            findings.push(fault(
                object,
                &path.field("match"),
                message,
                "add `match: [{sniHosts: [...]}]`",
            ));
        }
        for (number, slot) in rule.matches.iter().enumerate() {
            let Some(matched) = slot.good() else { continue };
            let path = path.field("match").index(number).field("sniHosts");
            if matched.sni_hosts.is_empty() {
                findings.push(fault(
                    object,
                    &path,
                    "a TLS match needs `sniHosts`",
                    "list the server names",
                ));
            }
            for (number, text) in matched.sni_hosts.iter().enumerate() {
                let is_inside = HostPattern::parse(text)
                    .is_some_and(|sni| hosts.iter().any(|host| host.covers(&sni)));
                if !is_inside {
                    let message =
                        format!("the server name `{text}` is not within the hosts of this object");
                    findings.push(fault(
                        object,
                        &path.index(number),
                        message,
                        "add it to `spec.hosts`",
                    ));
                }
            }
        }
        check_connections(object, &rule.route, &path.field("route"), findings);
    }
}

fn check_connections(
    object: &Object,
    destinations: &[crate::model::At<crate::model::Slot<TcpDestination>>],
    path: &FieldPath,
    findings: &mut Findings,
) {
    if destinations.is_empty() && object.issues_under(path).next().is_none() {
        findings.push(fault(
            object,
            path,
            "a rule needs a destination",
            "add an entry to `route`",
        ));
    }
    let good: Vec<&TcpDestination> = destinations.iter().filter_map(|slot| slot.good()).collect();
    let weights = || {
        good.iter()
            .map(|destination| destination.weight.unwrap_or(0))
    };
    if weights().any(|weight| weight < 0) {
        findings.push(fault(
            object,
            path,
            "a weight is negative",
            "write weights of zero or more",
        ));
    } else if good.len() > 1 && weights().all(|weight| weight == 0) {
        findings.push(fault(
            object,
            path,
            "all weights are zero",
            "give at least one destination a weight",
        ));
    }
}
