//! The operator's endpoints: readiness, metrics, and what the gateway knows and would do.
//!
//! `server` binds three sockets, makes one [`State`] and spawns [`serve`] once per [`Page`]. The
//! renderers of routes, findings and explanations are here too, so that `cli` prints what the
//! running gateway shows.

mod answer;
mod certificates;
mod clusters;
pub mod explain;
pub mod findings;
mod guard;
mod pages;
mod readiness;
pub mod routes;
mod serve;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::Findings;
use crate::observe::Observe;
use crate::upstream::{Serving, Upstreams};

pub use readiness::Readiness;
pub use serve::serve;

/// What the endpoints show.
#[derive(Debug)]
pub struct State {
    pub serving: Arc<ArcSwap<Serving>>,
    pub upstreams: Arc<Upstreams>,
    pub findings: Arc<ArcSwap<Findings>>,
    pub ready: Arc<Readiness>,
    pub observe: Arc<Observe>,
    /// `gateway.admin.hosts`: names the admin endpoint answers to besides loopback ones.
    pub hosts: Vec<String>,
}

/// Which of the three endpoints a socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/healthz/ready`, for a kubelet or load balancer (`0.0.0.0:15021`).
    Status,
    /// `/stats/prometheus`, for a scraper (`0.0.0.0:15020`).
    Metrics,
    /// Everything, for the operator alone (`127.0.0.1:15000`).
    Admin,
}
