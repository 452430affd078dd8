//! Names that the mesh gives to what runs a service: the identities of its endpoints' service
//! accounts (SPIFFE), which Istio demands of origins under ISTIO_MUTUAL where no DestinationRule names
//! any.

use std::collections::BTreeSet;

use crate::base::{Code, Finding};
use crate::model::istio;

use super::Registry;
use super::cluster::Planned;
use super::service::{Backing, Service};

/// Namespace and name.
type Account<'a> = (&'a str, &'a str);

impl<'a> Registry<'a> {
    /// As URIs, in every trust domain that counts, sorted. Empty if no account is recorded.
    pub(super) fn accounts(&self, service: &Service<'a>) -> Vec<String> {
        let mut found = BTreeSet::new();
        let namespace = &**service.namespace();
        match service.backing {
            Backing::Kubernetes(spec) if !spec.selector.is_empty() => {
                self.selected(namespace, &spec.selector, &mut found);
            }
            Backing::Kubernetes(_) | Backing::Alias(_) => {}
            Backing::Entry(spec) => {
                let joined = service.joined.iter().map(|joined| joined.spec);
                for spec in std::iter::once(spec).chain(joined) {
                    if let Some(selector) = &spec.workload_selector {
                        self.selected(namespace, &selector.labels, &mut found);
                        continue;
                    }
                    let endpoints = spec.endpoints.iter().filter_map(|slot| slot.good());
                    let named = endpoints.filter_map(|entry| account(&entry.service_account));
                    found.extend(named.map(|name| (namespace, name)));
                }
            }
        }
        let domains = self.options.trust_domains.iter();
        let names = domains.flat_map(|domain| {
            let all = found.iter();
            all.map(move |(namespace, name)| format!("spiffe://{domain}/ns/{namespace}/sa/{name}"))
        });
        names.collect()
    }

    fn selected(
        &self,
        namespace: &'a str,
        selector: &'a istio::Labels,
        found: &mut BTreeSet<Account<'a>>,
    ) {
        let pods = self.workloads.pods_selected(namespace, selector);
        let pods = pods.into_iter().filter_map(|pod| {
            let name = account(&pod.spec.spec.service_account_name)?;
            Some((&*pod.object.key.namespace, name))
        });
        found.extend(pods);
        let entries = self.workloads.entries_selected(namespace, selector);
        let entries = entries.into_iter().filter_map(|entry| {
            let name = account(&entry.spec.service_account)?;
            Some((&*entry.object.key.namespace, name))
        });
        found.extend(entries);
    }
}

fn account(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|name| !name.is_empty())
}

/// Says that any workload of the mesh may answer for a cluster's host.
pub(super) fn any_workload(planned: &Planned<'_>) -> Option<Finding> {
    let (object, path) = planned.unnamed.as_ref()?;
    let path = path.field("subjectAltNames");
    let message = format!(
        "any workload of the mesh is taken for `{}`, as in Istio: neither `subjectAltNames` nor its \
         endpoints' service accounts say who it is",
        planned.cluster.host
    );
    Some(
        Finding::new(Code::UNVERIFIED_ORIGIN, message)
            .at(&object.origin_of(&path))
            .of(&object.key)
            .path(path.to_string())
            .hint("add subjectAltNames, as spiffe://<trust domain>/ns/<namespace>/sa/<account>"),
    )
}
