//! Endpoints of a Kubernetes Service: from EndpointSlices, else Endpoints, else the Pods it
//! selects, else its clusterIP, else its DNS name.
//!
//! Called once per cluster when the registry is finished.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::{Code, Finding, Findings};
use crate::model::{FieldPath, Object, Spec, istio, kube};
use crate::plan::Resolution;
use crate::plan::endpoints::{DnsEndpoint, Endpoint, Place};

use super::discovery::{Discovery, Family, Found};
use super::locality::Placing;
use super::port::{Port, TargetPort};
use super::service::Service;
use super::workload::{Pod, Workloads, has_labels};

/// One cluster's question.
pub(super) struct Query<'q, 'a> {
    pub service: &'q Service<'a>,
    pub spec: &'a kube::Service,
    pub port: &'q Port,
    /// The subset's labels; empty for all endpoints.
    pub labels: Option<&'a istio::Labels>,
    pub workloads: &'q Workloads<'a>,
    pub placing: &'q Placing<'q>,
}

impl<'a> Query<'_, 'a> {
    /// Finds the endpoints.
    pub(super) fn answer(&self) -> Discovery {
        let (namespace, name) = (&**self.service.namespace(), &*self.service.object.key.name);
        let mut found = Found::default();
        let mut recorded = false;
        for (object, slice) in self.workloads.slices(namespace, name) {
            recorded = true;
            self.read_slice(object, slice, &mut found);
        }
        if !recorded && let Some((object, endpoints)) = self.workloads.endpoints(namespace, name) {
            recorded = true;
            self.read_endpoints(object, endpoints, &mut found);
        }
        if !recorded {
            for pod in self.workloads.pods_selected(namespace, &self.spec.selector) {
                recorded = true;
                self.read_pod(pod, &mut found);
            }
        }
        // Istio lets a Service select WorkloadEntries as well.
        for entry in self
            .workloads
            .entries_selected(namespace, &self.spec.selector)
        {
            recorded = true;
            let address = entry
                .spec
                .address
                .as_deref()
                .and_then(|text| text.parse().ok());
            let ports = &entry.spec.ports;
            let own = ports
                .get(&*self.port.name)
                .and_then(|port| u16::try_from(*port).ok());
            if let (Some(address), Some(port)) = (address, own.or_else(|| self.numeric_target())) {
                let fits = self.subset_has(|name| entry.label(name));
                let weight = entry.spec.weight.unwrap_or(1).max(1);
                let locality = entry.spec.locality.as_deref();
                let place = self.placing.place(locality, |name| entry.label(name));
                found.add(address, port, weight, place, fits, &entry.object.origin);
            }
        }
        if recorded {
            return found.into_discovery(self.family());
        }
        self.without_records()
    }

    fn read_slice(&self, object: &'a Object, slice: &'a kube::EndpointSlice, found: &mut Found) {
        let ports = slice.ports.iter().filter_map(|port| port.good());
        let Some(port) = self.recorded_port(ports) else {
            return;
        };
        for slot in &slice.endpoints {
            let Some(endpoint) = slot.good() else {
                continue;
            };
            let conditions = &endpoint.conditions;
            let ready = conditions.ready != Some(false);
            let terminating = conditions.terminating == Some(true);
            if terminating || !(ready || self.not_ready_too()) {
                continue;
            }
            // All addresses of one endpoint are the same instance; the first is used.
            let Some(text) = endpoint.addresses.first() else {
                continue;
            };
            let Ok(address) = text.parse() else { continue };
            let target = endpoint.target_ref.as_ref();
            let fits = self.fits(&object.key.namespace, text, target);
            let origin = object.origin.at(slot.position);
            let zone = endpoint.zone.as_deref();
            let place = self.place(&object.key.namespace, text, target, zone);
            found.add(address, port, 1, place, fits, &origin);
        }
    }

    fn read_endpoints(&self, object: &'a Object, record: &'a kube::Endpoints, found: &mut Found) {
        for subset in record.subsets.iter().filter_map(|subset| subset.good()) {
            let ports = subset.ports.iter().filter_map(|port| port.good());
            let Some(port) = self.recorded_port(ports) else {
                continue;
            };
            let not_ready = match self.not_ready_too() {
                true => subset.not_ready_addresses.as_slice(),
                false => &[],
            };
            for slot in subset.addresses.iter().chain(not_ready) {
                let Some(written) = slot.good() else { continue };
                let Some(text) = written.ip.as_deref() else {
                    continue;
                };
                let Ok(address) = text.parse() else { continue };
                let fits = self.fits(&object.key.namespace, text, written.target_ref.as_ref());
                let origin = object.origin.at(slot.position);
                let target = written.target_ref.as_ref();
                let place = self.place(&object.key.namespace, text, target, None);
                found.add(address, port, 1, place, fits, &origin);
            }
        }
    }

    fn read_pod(&self, pod: Pod<'a>, found: &mut Found) {
        let port = match &self.port.target {
            TargetPort::Name(name) => pod.named_port(name),
            _ => self.numeric_target(),
        };
        if let (Some(address), Some(port)) = (pod.address(self.not_ready_too()), port) {
            let fits = self.subset_is_in(pod.object);
            let place = self.place_of(pod, None);
            found.add(address, port, 1, place, fits, &pod.object.origin);
        }
    }

    /// The address of the whole service, if no record says more. Its endpoints have no labels
    /// that anything here could see, so a labelled subset has none.
    fn without_records(&self) -> Discovery {
        let origin = Some(self.service.object.origin.clone());
        let labelled = self.labels.is_some_and(|labels| !labels.is_empty());
        let virtual_ip = self.virtual_ip();
        let via: Arc<str> = match virtual_ip {
            Some(address) => address.to_string().into(),
            None => self.service.host.clone(),
        };
        let resolution = match virtual_ip {
            _ if labelled => Resolution::Static(Vec::new()),
            Some(address) => {
                let addr = SocketAddr::new(address, self.port.number);
                Resolution::Static(vec![Endpoint {
                    addr,
                    weight: 1,
                    place: Place::default(),
                    origin,
                }])
            }
            None => {
                // A headless name resolves to the Pods themselves, any other to a virtual address.
                let headless = self.spec.cluster_ip.as_deref() == Some("None");
                let target = self.numeric_target().filter(|_| headless);
                let port = target.unwrap_or(self.port.number);
                let name = self.service.host.clone();
                Resolution::Dns {
                    names: vec![DnsEndpoint {
                        name,
                        port,
                        weight: 1,
                        place: Place::default(),
                        origin,
                    }],
                    single: false,
                }
            }
        };
        Discovery {
            resolution,
            unlabelled: usize::from(labelled),
            reached_as_whole: Some(via),
        }
    }

    fn virtual_ip(&self) -> Option<IpAddr> {
        let first = self.spec.cluster_ips.first().map(String::as_str);
        self.spec.cluster_ip.as_deref().or(first)?.parse().ok()
    }

    /// Which kind of address counts where a service has both.
    fn family(&self) -> Family {
        match self.virtual_ip() {
            Some(IpAddr::V6(_)) => Family::V6,
            _ => Family::V4,
        }
    }

    fn not_ready_too(&self) -> bool {
        self.spec.publish_not_ready_addresses == Some(true)
    }

    /// The port an endpoint record gives for the service port.
    fn recorded_port(&self, ports: impl Iterator<Item = &'a kube::EndpointPort>) -> Option<u16> {
        let mut ports =
            ports.filter(|port| port.name.as_deref().unwrap_or_default() == &*self.port.name);
        ports
            .next()?
            .port
            .or_else(|| self.numeric_target())
            .filter(|number| *number > 0)
    }

    fn numeric_target(&self) -> Option<u16> {
        match self.port.target {
            TargetPort::Same => Some(self.port.number),
            TargetPort::Number(number) => Some(number),
            TargetPort::Name(_) => None,
        }
    }

    /// Where an address of a record is: its Pod's labels know more than the record's zone.
    fn place(
        &self,
        namespace: &str,
        ip: &str,
        target: Option<&kube::ObjectReference>,
        zone: Option<&str>,
    ) -> Place {
        if !self.placing.matters() {
            return Place::default();
        }
        match self.workloads.pod_of(namespace, ip, target) {
            Some(pod) => self.place_of(pod, zone),
            None => {
                let locality = zone.map(|zone| self.placing.of_zone(zone));
                self.placing.place(locality.as_deref(), |_| None)
            }
        }
    }

    fn place_of(&self, pod: Pod<'a>, zone: Option<&str>) -> Place {
        let labels = &pod.object.labels;
        let label = |name: &str| labels.get(name).map(|value| &**value);
        let place = self.placing.place(None, label);
        match zone {
            Some(zone) if place.locality.is_empty() => {
                let locality = self.placing.of_zone(zone);
                self.placing.place(Some(&locality), label)
            }
            _ => place,
        }
    }

    fn fits(&self, namespace: &str, ip: &str, target: Option<&kube::ObjectReference>) -> bool {
        if self.labels.is_none_or(|labels| labels.is_empty()) {
            return true;
        }
        let pod = self.workloads.pod_of(namespace, ip, target);
        pod.is_some_and(|pod| self.subset_is_in(pod.object))
    }

    fn subset_is_in(&self, object: &Object) -> bool {
        self.labels
            .is_none_or(|labels| has_labels(&object.labels, labels))
    }

    fn subset_has<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.labels.is_none_or(|labels| {
            labels
                .iter()
                .all(|(name, value)| label(name) == Some(value.as_str()))
        })
    }
}

/// Reports endpoint records that take no traffic whatever they say.
pub(super) fn report(object: &Object, findings: &mut Findings) {
    let Spec::EndpointSlice(slice) = &object.spec else {
        return;
    };
    if slice.address_type.as_deref() == Some("FQDN") {
        let path = FieldPath::default().field("addressType");
        let message = "EndpointSlices of names are ignored, as in Istio";
        findings.push(
            Finding::new(Code::INERT_FIELD, message)
                .at(&object.origin_of(&path))
                .of(&object.key)
                .path(path.to_string())
                .hint("use a ServiceEntry with resolution DNS"),
        );
    }
}
