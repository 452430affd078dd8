//! Endpoints of a ServiceEntry's host, by its `resolution`.
//!
//! [`Query::answer`] is called once per cluster when the registry is finished, [`report`] once
//! per ServiceEntry when services are indexed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::base::{Code, Finding, Findings, Origin};
use crate::model::{FieldPath, Object, Spec, istio};
use crate::plan::Resolution;
use crate::plan::endpoints::{DnsEndpoint, Place};

use super::discovery::{Discovery, Family, Found};
use super::locality::Placing;
use super::port::{Port, TargetPort};
use super::service::Service;
use super::workload::{Workloads, has_labels};

/// One cluster's question.
pub(super) struct Query<'q, 'a> {
    pub service: &'q Service<'a>,
    pub spec: &'a istio::ServiceEntry,
    pub port: &'q Port,
    /// The subset's labels; empty for all endpoints.
    pub labels: Option<&'a istio::Labels>,
    pub workloads: &'q Workloads<'a>,
    pub placing: &'q Placing<'q>,
}

/// One of the ServiceEntries of a host, with its own port of the cluster's name.
struct Source<'q, 'a> {
    object: &'a Object,
    spec: &'a istio::ServiceEntry,
    port: &'q Port,
}

/// An endpoint as the ServiceEntry or a workload gives it.
struct Written<'a> {
    address: &'a str,
    port: u16,
    weight: u32,
    place: Place,
    fits: bool,
    origin: Origin,
}

impl<'a> Query<'_, 'a> {
    /// Finds the endpoints.
    pub(super) fn answer(&self) -> Discovery {
        match self.spec.resolution.as_deref() {
            Some("STATIC") => self.addresses(self.written()),
            Some("DNS") => self.names(false),
            Some("DNS_ROUND_ROBIN") => self.names(true),
            _ => Found::default().into_discovery(Family::Both),
        }
    }

    fn addresses(&self, written: Vec<Written<'a>>) -> Discovery {
        let mut found = Found::default();
        for written in written {
            if let Ok(address) = written.address.parse() {
                found.add(
                    address,
                    written.port,
                    written.weight,
                    written.place,
                    written.fits,
                    &written.origin,
                );
            }
        }
        found.into_discovery(Family::Both)
    }

    fn names(&self, single: bool) -> Discovery {
        let mut written = self.written();
        if single {
            written.truncate(1);
        }
        let is_name = |written: &Written<'_>| written.address.parse::<IpAddr>().is_err();
        if !written.is_empty() && !written.iter().any(is_name) {
            return self.addresses(written);
        }
        let unlabelled = written.len();
        let mut names: Vec<DnsEndpoint> = written
            .into_iter()
            .filter(|written| written.fits && is_reachable(written.address))
            .map(|written| DnsEndpoint {
                name: written.address.to_ascii_lowercase().into(),
                port: written.port,
                weight: written.weight,
                place: written.place,
                origin: Some(written.origin),
            })
            .collect();
        names.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
        names.dedup_by(|a, b| (&a.name, a.port) == (&b.name, b.port));
        Discovery {
            resolution: Resolution::Dns { names, single },
            unlabelled,
            reached_as_whole: None,
        }
    }

    /// All endpoints of all ServiceEntries of the host.
    fn written(&self) -> Vec<Written<'a>> {
        let own = Source {
            object: self.service.object,
            spec: self.spec,
            port: self.port,
        };
        let joined = self.service.joined.iter().filter_map(|joined| {
            let mut ports = joined.ports.iter();
            Some(Source {
                object: joined.object,
                spec: joined.spec,
                port: ports.find(|port| port.name == self.port.name)?,
            })
        });
        let sources = std::iter::once(own).chain(joined);
        sources
            .flat_map(|source| self.written_in(&source))
            .collect()
    }

    /// Those written there, those selected, or the host itself.
    fn written_in(&self, source: &Source<'_, 'a>) -> Vec<Written<'a>> {
        if let Some(selector) = &source.spec.workload_selector {
            return self.selected(&selector.labels, source);
        }
        if !source.spec.endpoints.is_empty() {
            return source
                .spec
                .endpoints
                .iter()
                .filter_map(|slot| {
                    let endpoint = slot.good()?;
                    Some(Written {
                        address: endpoint.address.as_deref()?,
                        port: source.endpoint_port(&endpoint.ports)?,
                        weight: weight(endpoint),
                        place: self.placing.place(endpoint.locality.as_deref(), |name| {
                            endpoint.labels.get(name).map(String::as_str)
                        }),
                        fits: self.fits(|name| endpoint.labels.get(name).map(String::as_str)),
                        origin: source.object.origin.at(slot.position),
                    })
                })
                .collect();
        }
        let host = source
            .spec
            .hosts
            .iter()
            .find(|host| host.eq_ignore_ascii_case(&self.service.host));
        let is_dns = source.spec.resolution.as_deref() != Some("STATIC");
        let host = host.filter(|host| is_dns && !host.starts_with('*'));
        let port = source.endpoint_port(&BTreeMap::new());
        let itself = host.zip(port).map(|(host, port)| Written {
            address: host,
            port,
            weight: 1,
            place: self.placing.place(None, |_| None),
            fits: self.fits(|_| None),
            origin: source.object.origin.clone(),
        });
        itself.into_iter().collect()
    }

    fn selected(&self, selector: &istio::Labels, source: &Source<'_, 'a>) -> Vec<Written<'a>> {
        let namespace = &**self.service.namespace();
        let entries = self.workloads.entries_selected(namespace, selector);
        let entries = entries.into_iter().filter_map(|entry| {
            Some(Written {
                address: entry.spec.address.as_deref()?,
                port: source.endpoint_port(&entry.spec.ports)?,
                weight: weight(entry.spec),
                place: self
                    .placing
                    .place(entry.spec.locality.as_deref(), |name| entry.label(name)),
                fits: self.fits(|name| entry.label(name)),
                origin: entry.object.origin.clone(),
            })
        });
        let pods = self.workloads.pods_selected(namespace, selector);
        let pods = pods.into_iter().filter_map(|pod| {
            pod.address(false)?;
            Some(Written {
                address: pod.spec.status.pod_ip.as_deref()?,
                port: source.endpoint_port(&BTreeMap::new())?,
                weight: 1,
                place: self.placing.place(None, |name| {
                    pod.object.labels.get(name).map(|value| &**value)
                }),
                fits: self
                    .labels
                    .is_none_or(|labels| has_labels(&pod.object.labels, labels)),
                origin: pod.object.origin.clone(),
            })
        });
        entries.chain(pods).collect()
    }

    fn fits<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.labels.is_none_or(|labels| {
            labels
                .iter()
                .all(|(name, value)| label(name) == Some(value.as_str()))
        })
    }
}

impl Source<'_, '_> {
    /// `ports[name]`, else `targetPort`, else the port's own number.
    fn endpoint_port(&self, ports: &BTreeMap<String, u32>) -> Option<u16> {
        if let Some(port) = ports.get(&*self.port.name) {
            return u16::try_from(*port).ok().filter(|port| *port > 0);
        }
        match self.port.target {
            TargetPort::Number(number) => Some(number),
            TargetPort::Same | TargetPort::Name(_) => Some(self.port.number),
        }
    }
}

/// Zero means unset.
fn weight(entry: &istio::WorkloadEntry) -> u32 {
    entry.weight.unwrap_or(1).max(1)
}

fn is_socket(address: &str) -> bool {
    address.starts_with("unix:")
}

fn is_reachable(address: &str) -> bool {
    !address.is_empty() && !is_socket(address)
}

/// Reports what of a ServiceEntry, or of a WorkloadEntry of its own, takes no traffic.
pub(super) fn report(object: &Object, findings: &mut Findings) {
    match &object.spec {
        Spec::ServiceEntry(spec) => report_service_entry(object, spec, findings),
        Spec::WorkloadEntry(spec) => {
            let path = FieldPath::spec().field("address");
            if spec.address.as_deref().is_some_and(is_socket) {
                findings.push(unsupported_socket(object, &path));
            }
        }
        _ => {}
    }
}

fn report_service_entry(object: &Object, spec: &istio::ServiceEntry, findings: &mut Findings) {
    let resolution = spec.resolution.as_deref();
    if resolution == Some("DYNAMIC_DNS") {
        let path = FieldPath::spec().field("resolution");
        let message = "`DYNAMIC_DNS` is not supported yet; requests for its hosts answer 503";
        findings.push(
            Finding::new(Code::UNSUPPORTED, message)
                .at(&object.origin_of(&path))
                .of(&object.key)
                .path(path.to_string())
                .hint("name the hosts one by one with resolution DNS"),
        );
    }
    for (index, slot) in spec.endpoints.iter().enumerate() {
        let Some(address) = slot.good().and_then(|endpoint| endpoint.address.as_deref()) else {
            continue;
        };
        let path = || {
            FieldPath::spec()
                .field("endpoints")
                .index(index)
                .field("address")
        };
        if is_socket(address) {
            findings.push(unsupported_socket(object, &path()));
        } else if resolution == Some("STATIC") && address.parse::<IpAddr>().is_err() {
            let message = format!(
                "`{address}` is not an address, and resolution STATIC takes no names; the \
                 endpoint gets no traffic"
            );
            let path = path();
            findings.push(
                Finding::new(Code::INVALID_VALUE, message)
                    .at(&object.origin_of(&path))
                    .of(&object.key)
                    .path(path.to_string())
                    .hint("write an IP address, or set resolution to DNS"),
            );
        }
    }
}

fn unsupported_socket(object: &Object, path: &FieldPath) -> Finding {
    let message = "`unix:` addresses are not supported yet; the endpoint gets no traffic";
    Finding::new(Code::UNSUPPORTED, message)
        .at(&object.origin_of(path))
        .of(&object.key)
        .path(path.to_string())
        .hint("let the origin listen on a TCP port")
}
