//! What a cluster that was asked for is defined as, and where its endpoints are.

use std::sync::Arc;

use crate::model::istio::destination_rule::LocalityLb;
use crate::model::{FieldPath, Object};
use crate::plan::{Cluster, Fence, Resolution};

use super::discovery::Discovery;
use super::locality::Placing;
use super::policy::{Effective, Site, Store};
use super::port::Port;
use super::rule::{Rule, Subset};
use super::service::{Backing, Service};
use super::{Registry, entry, kubernetes, mesh, name};

/// What a cluster is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A rule routes to it.
    Routed,
    /// Clients that speak TLS to its endpoints themselves.
    PassedThrough,
}

/// A cluster that was asked for.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub cluster: Arc<Cluster>,
    pub service: usize,
    /// The locality setting that holds, and whether there is outlier detection.
    pub locality: (Option<&'a LocalityLb>, bool),
    /// The TLS block under which any workload of the mesh is taken for its endpoint.
    pub unnamed: Option<(&'a Object, FieldPath)>,
}

impl<'a> Registry<'a> {
    /// The definition of a service's port, or of a subset of it.
    ///
    /// # Errors
    /// What protects or defines it is broken.
    pub(super) fn plan(
        &self,
        index: usize,
        service: &Service<'a>,
        port: &Port,
        rule: Option<&Rule<'a>>,
        subset: Option<&Subset<'a>>,
        purpose: Use,
    ) -> Result<Planned<'a>, Arc<Fence>> {
        let broken = rule.and_then(|rule| rule.fence.as_ref());
        let broken = broken.or(subset.and_then(|subset| subset.fence.as_ref()));
        if let Some(fence) = broken {
            return Err(fence.clone());
        }
        let of_rule = rule.and_then(|rule| rule.policy.as_ref());
        let of_subset = subset.and_then(Subset::policy);
        let effective = Effective::of(of_rule.into_iter().chain(&of_subset), port.number);
        let subset_name = subset.map(|subset| subset.spec.name.as_str());
        let store = Store {
            credentials: &self.credentials,
            options: self.options,
        };
        let mesh = effective.mesh_tls();
        let accounts = match mesh {
            Some(_) => self.accounts(service),
            None => Vec::new(),
        };
        let site = Site {
            host: &service.host,
            port: port.number,
            subset: subset_name,
            names: match service.backing {
                Backing::Entry(spec) => &spec.subject_alt_names,
                _ => &[],
            },
            accounts: &accounts,
        };
        // What is inside connections passed through is between both ends, as in Istio; it cannot be
        // asked either.
        let is_routed = purpose == Use::Routed;
        let (tls, proxy_protocol) = match is_routed {
            true => (effective.tls(store, site)?, effective.proxy_protocol()),
            false => (None, None),
        };
        let protocol = effective.protocol(port.speech, self.options);
        let effective_locality = effective.locality();
        let cluster = Cluster {
            name: match purpose {
                Use::Routed => {
                    name::cluster_name(&service.host, u32::from(port.number), subset_name)
                }
                Use::PassedThrough => mesh::server_name(&service.host, port.number, subset_name),
            },
            host: service.host.clone(),
            port: port.number,
            subset: subset_name.map(Arc::from),
            service_name: service.name.clone(),
            service_namespace: service.namespace().clone(),
            protocol,
            balancing: effective.balancing(),
            pool: effective.pool(),
            proxy_protocol,
            outlier: effective.outlier(),
            health_check: is_routed
                .then(|| {
                    let tls = tls.as_ref();
                    self.health_checks
                        .find(&service.host, port.number, protocol, tls)
                })
                .flatten(),
            tls,
            origin: Some(service.object.origin.clone()),
            policy_origin: effective
                .origin
                .or_else(|| subset.map(|subset| subset.object.origin_of(&subset.path()))),
        };
        let rules = cluster.tls.as_ref().and_then(|tls| tls.verify.as_ref());
        let is_unnamed = rules.is_some_and(|rules| rules.names.is_empty());
        Ok(Planned {
            cluster: Arc::new(cluster),
            service: index,
            locality: effective_locality,
            unnamed: mesh.filter(|_| is_unnamed),
        })
    }

    /// The endpoints of a cluster.
    pub(super) fn discover(&self, planned: &Planned) -> Option<Discovery> {
        let service = self.services.get(planned.service)?;
        let port = service.port(u32::from(planned.cluster.port))?;
        let labels = self.subset_of(planned).map(|subset| &subset.spec.labels);
        let workloads = &self.workloads;
        let (setting, detects) = planned.locality;
        let placing = &Placing::new(setting, detects, self.options);
        let mut discovery = match service.backing {
            Backing::Kubernetes(spec) => kubernetes::Query {
                service,
                spec,
                port,
                labels,
                workloads,
                placing,
            }
            .answer(),
            Backing::Entry(spec) => entry::Query {
                service,
                spec,
                port,
                labels,
                workloads,
                placing,
            }
            .answer(),
            Backing::Alias(_) => Discovery {
                resolution: Resolution::Static(Vec::new()),
                unlabelled: 0,
                reached_as_whole: None,
            },
        };
        placing.settle(&mut discovery.resolution);
        Some(discovery)
    }
}
