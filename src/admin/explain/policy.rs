//! What policies do to a request, each with the place of its text.

use std::fmt;

use serde::Serialize;

use crate::plan::{Mirror, Placed, Plan, Policies, Target};
use crate::policy::cors::spec::{Allowed, Cors};
use crate::policy::fault::spec::{AbortStatus, Fault};

/// The policies of a rule.
#[derive(Debug, Default, Serialize)]
pub struct PoliciesShown {
    pub fault: Option<FaultShown>,
    pub cors: Option<CorsShown>,
    pub mirrors: Vec<MirrorShown>,
    /// One line for each, for people.
    #[serde(skip)]
    pub lines: Vec<String>,
}

/// `fault`: in which share of requests what is injected.
#[derive(Debug, Serialize)]
pub struct FaultShown {
    pub delay_ms: Option<u64>,
    pub delay_percent: Option<f64>,
    pub abort_status: Option<u16>,
    pub abort_grpc_status: Option<u16>,
    pub abort_percent: Option<f64>,
    pub origin: String,
}

/// A mirror.
#[derive(Debug, Serialize)]
pub struct MirrorShown {
    pub percent: f64,
    /// `outbound|port|subset|host`
    pub cluster: String,
    /// Why it gets nothing.
    pub problem: Option<String>,
    pub origin: String,
}

/// `corsPolicy`, as browsers are told.
#[derive(Debug, Serialize)]
pub struct CorsShown {
    pub allow_origins: Vec<String>,
    pub allow_methods: Option<String>,
    pub allow_headers: Option<String>,
    pub expose_headers: Option<String>,
    pub max_age: Option<String>,
    pub allow_credentials: bool,
    pub unmatched_preflights: &'static str,
    pub origin: String,
}

impl PoliciesShown {
    pub(super) fn of(plan: &Plan, policies: &Policies) -> Self {
        let Policies {
            fault,
            cors,
            mirrors,
        } = policies;
        let fault_line = fault.iter().map(|fault| format!("fault {fault}"));
        let cors_line = cors.iter().map(|cors| format!("cors {cors}"));
        let mirrors: Vec<MirrorShown> = mirrors
            .iter()
            .map(|mirror| MirrorShown::of(plan, mirror))
            .collect();
        let mirror_lines = mirrors.iter().map(ToString::to_string);
        Self {
            lines: fault_line.chain(cors_line).chain(mirror_lines).collect(),
            mirrors,
            fault: fault.as_deref().map(FaultShown::of),
            cors: cors.as_deref().map(CorsShown::of),
        }
    }
}

impl MirrorShown {
    fn of(plan: &Plan, mirror: &Mirror) -> Self {
        let (cluster, problem) = match &mirror.target {
            Target::Cluster(id) => {
                let cluster = plan.cluster(*id);
                let name = cluster.map(|cluster| cluster.name.to_string());
                (name.unwrap_or_default(), None)
            }
            Target::Missing { name, reason } => (name.to_string(), Some(reason.to_string())),
        };
        Self {
            percent: mirror.share.percent(),
            cluster,
            problem,
            origin: mirror.origin.to_string(),
        }
    }
}

impl fmt::Display for MirrorShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            percent,
            cluster,
            problem,
            origin,
        } = self;
        write!(f, "mirror {percent}% to {cluster} at {origin}")?;
        match problem {
            Some(problem) => write!(f, ", which gets nothing: {problem}"),
            None => Ok(()),
        }
    }
}

impl FaultShown {
    fn of(fault: &Placed<Fault>) -> Self {
        let (delay, abort) = (fault.delay, fault.abort);
        let status = abort.map(|abort| abort.status);
        Self {
            delay_ms: delay.map(|delay| super::outcome::millis(delay.duration)),
            delay_percent: delay.map(|delay| delay.share.percent()),
            abort_status: match status {
                Some(AbortStatus::Http(status)) => Some(status),
                _ => None,
            },
            abort_grpc_status: match status {
                Some(AbortStatus::Grpc(status)) => Some(status),
                _ => None,
            },
            abort_percent: abort.map(|abort| abort.share.percent()),
            origin: fault.origin.to_string(),
        }
    }
}

impl CorsShown {
    fn of(cors: &Placed<Cors>) -> Self {
        let said = |allowed: &Allowed| match allowed {
            Allowed::Unsaid => None,
            said => Some(said.to_string()),
        };
        let text = |value: &Option<http::HeaderValue>| value.as_ref().map(super::outcome::shown);
        Self {
            allow_origins: cors.origins.iter().map(ToString::to_string).collect(),
            allow_methods: said(&cors.methods),
            allow_headers: said(&cors.headers),
            expose_headers: text(&cors.expose),
            max_age: text(&cors.max_age),
            allow_credentials: cors.credentials,
            unmatched_preflights: match cors.forward_unmatched {
                true => "FORWARD",
                false => "IGNORE",
            },
            origin: cors.origin.to_string(),
        }
    }
}
