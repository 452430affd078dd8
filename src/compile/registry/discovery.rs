//! What looking for a cluster's endpoints gives, and the gathering of static ones.
//!
//! Made by [`super::kubernetes`] and [`super::entry`], read by the registry.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::Origin;
use crate::plan::Resolution;
use crate::plan::endpoints::{Endpoint, Place};

/// The endpoints of one cluster, with what the findings need to know.
#[derive(Debug)]
pub(super) struct Discovery {
    pub resolution: Resolution,
    /// How many endpoints there are whatever the subset's labels.
    pub unlabelled: usize,
    /// Set if no record names an endpoint: the address that stands for the whole service.
    pub reached_as_whole: Option<Arc<str>>,
}

impl Discovery {
    pub(super) fn is_empty(&self) -> bool {
        match &self.resolution {
            Resolution::Static(endpoints) => endpoints.is_empty(),
            Resolution::Dns { names, .. } => names.is_empty(),
        }
    }
}

/// Which kind of address counts where a service has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Both,
}

/// Static endpoints on their way into a cluster.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<(Endpoint, bool)>);

impl Found {
    /// Adds an address, and whether it has the subset's labels.
    pub(super) fn add(
        &mut self,
        address: IpAddr,
        port: u16,
        weight: u32,
        place: Place,
        fits: bool,
        origin: &Origin,
    ) {
        let addr = SocketAddr::new(address, port);
        self.0.push((
            Endpoint {
                addr,
                weight,
                place,
                origin: Some(origin.clone()),
            },
            fits,
        ));
    }

    /// The endpoints that fit: each address once, in an order that does not depend on records.
    pub(super) fn into_discovery(mut self, family: Family) -> Discovery {
        // A dual-stack service has each Pod twice, once in every family.
        let is_v4 = |(endpoint, _): &(Endpoint, bool)| endpoint.addr.is_ipv4();
        if family != Family::Both && self.0.iter().any(is_v4) && !self.0.iter().all(is_v4) {
            self.0
                .retain(|found| is_v4(found) == (family == Family::V4));
        }
        // Stable, so that of two records of an address the older one gives weight and origin.
        self.0
            .sort_by_key(|(endpoint, fits)| (endpoint.addr, !fits));
        self.0.dedup_by_key(|(endpoint, _)| endpoint.addr);
        let unlabelled = self.0.len();
        let fitting = self
            .0
            .into_iter()
            .filter_map(|(endpoint, fits)| fits.then_some(endpoint));
        Discovery {
            resolution: Resolution::Static(fitting.collect()),
            unlabelled,
            reached_as_whole: None,
        }
    }
}
