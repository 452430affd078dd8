//! What a request must pass before it is served, each with the places of its text.

use std::fmt;

use serde::Serialize;

use crate::plan::{Decision, Listener, Passed, PlacedLimit, Plan, Policy};

/// A policy in front of the request.
#[derive(Debug, Serialize)]
pub struct GuardShown {
    /// Kind, namespace and name, for metrics too.
    pub policy: String,
    /// Before which of Istio's filters it stands.
    pub position: &'static str,
    /// What it lets through, or what happens to requests that are too many.
    pub effect: String,
    pub limits: Vec<LimitShown>,
    pub origin: String,
}

/// One limit of a policy.
#[derive(Debug, Serialize)]
pub struct LimitShown {
    pub limit: String,
    pub origin: String,
}

/// The guards of a decided request.
pub(super) fn of(
    plan: &Plan,
    listener: &Listener,
    decision: &Decision<'_>,
    host: &str,
) -> Vec<GuardShown> {
    let Some(guarding) = listener.guarding.as_deref() else {
        return Vec::new();
    };
    let guards = match decision {
        Decision::Route { index, .. } => {
            let host = listener.hosts.find(host).unwrap_or_default();
            guarding.of(host as usize, *index as usize)
        }
        Decision::Fenced(_) => None,
        Decision::HttpsRedirect { .. } | Decision::NoRoute { .. } | Decision::NoHost => {
            guarding.unrouted()
        }
    };
    let guards = guards.into_iter().flat_map(|guards| plan.passed(guards));
    guards.map(GuardShown::of).collect()
}

impl GuardShown {
    pub(super) fn of_check<T>(policy: &Policy<T>, effect: String) -> Self {
        Self {
            policy: policy.id.to_string(),
            position: "first",
            effect,
            limits: Vec::new(),
            origin: policy.origin.to_string(),
        }
    }

    fn of(passed: Passed<'_>) -> Self {
        match passed {
            Passed::Access(policy) => Self::of_check(policy, policy.policy.to_string()),
            Passed::Body(policy) => {
                let effect = format!("at most {} bytes of a body", policy.policy);
                Self::of_check(policy, effect)
            }
            Passed::Front(limit) => Self::of_limit(limit, "first"),
            Passed::Back(limit) => Self::of_limit(limit, "before the router"),
            Passed::Compression(policy) => Self {
                position: "on the response",
                ..Self::of_check(policy, policy.policy.to_string())
            },
        }
    }

    fn of_limit(limit: &PlacedLimit, position: &'static str) -> Self {
        let PlacedLimit {
            policy,
            origin,
            origins,
            service: _,
        } = limit;
        let limits = policy.lines().into_iter().zip(origins);
        Self {
            policy: policy.id.to_string(),
            position,
            effect: policy.to_string(),
            limits: limits
                .map(|(limit, origin)| LimitShown {
                    limit,
                    origin: origin.to_string(),
                })
                .collect(),
            origin: origin.to_string(),
        }
    }
}

impl fmt::Display for GuardShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            position,
            effect,
            limits,
            origin,
        } = self;
        writeln!(f, "passes {policy} ({position}; {effect}) at {origin}")?;
        for LimitShown { limit, origin } in limits {
            writeln!(f, "  {limit} at {origin}")?;
        }
        Ok(())
    }
}
