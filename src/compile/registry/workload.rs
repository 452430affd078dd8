//! Where endpoints are recorded: EndpointSlices, Endpoints, Pods and WorkloadEntries, indexed so
//! that a service finds its own without looking at the others'.
//!
//! Called by [`super::kubernetes`] and [`super::entry`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{Object, Spec, istio, kube};

/// Namespace and name.
type Key<'a> = (&'a str, &'a str);

/// All records of endpoints.
#[derive(Debug, Default)]
pub(super) struct Workloads<'a> {
    slices: HashMap<Key<'a>, Vec<(&'a Object, &'a kube::EndpointSlice)>>,
    endpoints: HashMap<Key<'a>, (&'a Object, &'a kube::Endpoints)>,
    pods: HashMap<Key<'a>, Pod<'a>>,
    pods_by_ip: HashMap<Key<'a>, Pod<'a>>,
    pods_by_label: HashMap<LabelKey<'a>, Vec<Pod<'a>>>,
    entries_by_label: HashMap<LabelKey<'a>, Vec<Entry<'a>>>,
}

/// A label in a namespace.
type LabelKey<'a> = (&'a str, &'a str, &'a str);

#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'a> {
    pub object: &'a Object,
    pub spec: &'a kube::Pod,
}

impl Pod<'_> {
    /// Its address, if it takes traffic.
    pub(super) fn address(&self, not_ready_too: bool) -> Option<IpAddr> {
        let status = &self.spec.status;
        let running = status
            .phase
            .as_deref()
            .is_none_or(|phase| phase == "Running");
        if self.spec.metadata.deleting() || !running {
            return None;
        }
        let ready = status
            .conditions
            .iter()
            .filter_map(|condition| condition.good())
            .find(|condition| condition.kind.as_deref() == Some("Ready"))
            .is_none_or(|condition| condition.status.as_deref() == Some("True"));
        if !ready && !not_ready_too {
            return None;
        }
        status.pod_ip.as_deref()?.parse().ok()
    }

    /// The number of a named container port.
    pub(super) fn named_port(&self, name: &str) -> Option<u16> {
        let containers = self
            .spec
            .spec
            .containers
            .iter()
            .filter_map(|container| container.good());
        containers
            .flat_map(|container| container.ports.iter().filter_map(|port| port.good()))
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| port.container_port)
            .filter(|number| *number > 0)
    }

    /// A Pod without any status is a manifest, not a record of something that runs.
    fn is_record(&self) -> bool {
        self.spec.status.pod_ip.is_some() || self.spec.status.phase.is_some()
    }
}

/// A WorkloadEntry object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub object: &'a Object,
    pub spec: &'a istio::WorkloadEntry,
}

impl<'a> Entry<'a> {
    /// The value of a label; those of the spec come before the object's own.
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        match self.spec.labels.get(name) {
            Some(value) => Some(value),
            None => self.object.labels.get(name).map(|value| &**value),
        }
    }
}

impl<'a> Workloads<'a> {
    pub(super) fn index(objects: impl Iterator<Item = &'a Object>) -> Self {
        let mut workloads = Self::default();
        for object in objects {
            let namespace = &*object.key.namespace;
            let key = (namespace, &*object.key.name);
            match &object.spec {
                Spec::EndpointSlice(slice) if is_used(slice) => {
                    if let Some(service) = object.labels.get(kube::EndpointSlice::SERVICE_LABEL) {
                        let slices = workloads.slices.entry((namespace, service)).or_default();
                        slices.push((object, slice));
                    }
                }
                Spec::Endpoints(endpoints) => {
                    workloads.endpoints.insert(key, (object, endpoints));
                }
                Spec::Pod(spec) => workloads.add_pod(key, Pod { object, spec }),
                Spec::WorkloadEntry(spec) => workloads.add_entry(Entry { object, spec }),
                _ => {}
            }
        }
        workloads
    }

    pub(super) fn slices<'s>(
        &'s self,
        namespace: &'s str,
        service: &'s str,
    ) -> &'s [(&'a Object, &'a kube::EndpointSlice)] {
        self.slices
            .get(&(namespace, service))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    pub(super) fn endpoints(
        &self,
        namespace: &str,
        service: &str,
    ) -> Option<(&'a Object, &'a kube::Endpoints)> {
        self.endpoints.get(&(namespace, service)).copied()
    }

    /// The Pod behind an address: the one it refers to, else the one that has it.
    pub(super) fn pod_of(
        &self,
        namespace: &str,
        ip: &str,
        target: Option<&kube::ObjectReference>,
    ) -> Option<Pod<'a>> {
        let Some(target) = target else {
            return self.pods_by_ip.get(&(namespace, ip)).copied();
        };
        if target.kind.as_deref() != Some("Pod") {
            return None;
        }
        let namespace = target.namespace.as_deref().unwrap_or(namespace);
        self.pods
            .get(&(namespace, target.name.as_deref()?))
            .copied()
    }

    /// Pods of a namespace that have all labels of a selector. An empty selector selects none.
    pub(super) fn pods_selected(&self, namespace: &str, selector: &istio::Labels) -> Vec<Pod<'a>> {
        let pods = rarest(&self.pods_by_label, namespace, selector);
        pods.iter()
            .filter(|pod| has_labels(&pod.object.labels, selector))
            .copied()
            .collect()
    }

    /// The same for WorkloadEntries.
    pub(super) fn entries_selected(
        &self,
        namespace: &str,
        selector: &istio::Labels,
    ) -> Vec<Entry<'a>> {
        let entries = rarest(&self.entries_by_label, namespace, selector);
        let has_all = |entry: &&Entry<'a>| {
            selector
                .iter()
                .all(|(name, value)| entry.label(name) == Some(value))
        };
        entries.iter().filter(has_all).copied().collect()
    }

    fn add_pod(&mut self, key: Key<'a>, pod: Pod<'a>) {
        if !pod.is_record() {
            return;
        }
        self.pods.insert(key, pod);
        if let Some(ip) = pod.spec.status.pod_ip.as_deref() {
            self.pods_by_ip.entry((key.0, ip)).or_insert(pod);
        }
        for (name, value) in &pod.object.labels {
            self.pods_by_label
                .entry((key.0, name, value))
                .or_default()
                .push(pod);
        }
    }

    fn add_entry(&mut self, entry: Entry<'a>) {
        let namespace = &*entry.object.key.namespace;
        let own = entry
            .object
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let of_spec = entry
            .spec
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let labels: BTreeMap<&'a str, &'a str> = own.chain(of_spec).collect();
        for (name, value) in labels {
            self.entries_by_label
                .entry((namespace, name, value))
                .or_default()
                .push(entry);
        }
    }
}

/// Whether labels contain all of a selector.
pub(super) fn has_labels(labels: &BTreeMap<Arc<str>, Arc<str>>, selector: &istio::Labels) -> bool {
    selector
        .iter()
        .all(|(name, value)| labels.get(&**name).is_some_and(|own| **own == **value))
}

/// Whether a slice counts: Istio passes over slices of names.
fn is_used(slice: &kube::EndpointSlice) -> bool {
    !slice.metadata.deleting() && slice.address_type.as_deref() != Some("FQDN")
}

/// What has the selector's rarest label: the fewest candidates to look at.
fn rarest<'m, 'a, T>(
    by_label: &'m HashMap<LabelKey<'a>, Vec<T>>,
    namespace: &'m str,
    selector: &'m istio::Labels,
) -> &'m [T] {
    selector
        .iter()
        .map(|(name, value)| {
            let key = (namespace, name.as_str(), value.as_str());
            by_label.get(&key).map(Vec::as_slice).unwrap_or_default()
        })
        .min_by_key(|candidates| candidates.len())
        .unwrap_or_default()
}
