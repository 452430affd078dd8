//! What a rule does: forward, redirect, answer, or refuse because something is wrong.

use std::sync::Arc;
use std::time::Duration;

use crate::base::quantity::parse_duration;
use crate::base::{Code, Finding};
use crate::compile::registry::{DestinationRef, Resolved};
use crate::model::Slot;
use crate::model::istio::virtual_service::HttpDestination;
use crate::model::object::Step;
use crate::plan::{Action, Destination, Fence, Forward, Target};
use crate::policy::rewrite::spec::Rewrite;

use super::{Rule, Translator, answer, headers, retry, rewrite};

impl Translator<'_, '_> {
    /// The action of a rule for matches on a prefix of the given length.
    pub(super) fn action(
        &mut self,
        rule: &Rule<'_>,
        printed: &str,
        prefix: Option<usize>,
        port: u16,
        fence: Option<Arc<Fence>>,
    ) -> Action {
        if let Some(fence) = fence {
            return Action::Fenced(fence);
        }
        match self.serve(rule, prefix, port) {
            Ok(action) => action,
            Err(Refused::Fence(fence)) => {
                self.report_fence(rule.object, printed, rule.position, &fence);
                Action::Fenced(fence)
            }
            Err(Refused::Invalid(reason)) => {
                let origin = rule.object.origin.at(rule.position);
                let finding = Finding::new(Code::INVALID_VALUE, reason.clone()).at(&origin);
                self.findings
                    .push(finding.of(&rule.object.key).path(printed));
                let fence = Arc::new(Fence {
                    origin,
                    reason: reason.into(),
                });
                self.report_fence(rule.object, printed, rule.position, &fence);
                Action::Fenced(fence)
            }
        }
    }

    fn serve(
        &mut self,
        rule: &Rule<'_>,
        prefix: Option<usize>,
        port: u16,
    ) -> Result<Action, Refused> {
        let spec = rule.spec;
        if let Some(written) = &spec.redirect {
            return Ok(Action::Redirect {
                redirect: answer::redirect(written, prefix)?,
                response: headers::response(spec.headers.as_deref())?,
            });
        }
        if let Some(written) = &spec.direct_response {
            return Ok(Action::Direct {
                response: answer::direct(written)?,
                edits: headers::response(spec.headers.as_deref())?,
            });
        }
        let rewrite = match &spec.rewrite {
            Some(written) => rewrite::compile(written, prefix)?,
            None => Rewrite::default(),
        };
        let timeout: Option<Duration> = match spec.timeout.as_deref() {
            Some(text) => Some(parse_duration(text, false)?),
            None => None,
        };
        let retry = retry::of_rule(spec, &self.options.default_retry)?;
        let destinations = self.destinations(rule, port)?;
        let total_weight = destinations
            .iter()
            .map(|destination| destination.weight)
            .sum();
        Ok(Action::Forward(Forward {
            destinations,
            total_weight,
            rewrite,
            timeout,
            retry,
            policies: self.policies(rule, port)?,
        }))
    }

    fn destinations(&mut self, rule: &Rule<'_>, port: u16) -> Result<Vec<Destination>, Refused> {
        let count = rule.spec.route.len();
        let mut destinations = Vec::with_capacity(count);
        for (index, slot) in rule.spec.route.iter().enumerate() {
            let Slot::Good(written) = &slot.value else {
                return Err(Refused::Invalid("a destination cannot be read".into()));
            };
            let weight = u64::try_from(written.weight.unwrap_or(0))
                .map_err(|_| "a weight is negative".to_owned())?;
            // Alone, the weight says nothing; among several, zero takes the destination out.
            let weight = if count == 1 { 1 } else { weight };
            if weight == 0 {
                continue;
            }
            let origin = rule.object.origin.at(slot.position);
            let edits = headers::merge(
                rule.spec.headers.as_deref(),
                written.headers.as_deref(),
                count,
            )?;
            let target = self.target(rule, index, written, &origin, port)?;
            destinations.push(Destination {
                target,
                weight,
                request: edits.request,
                response: edits.response,
                authority: edits.authority,
                origin,
            });
        }
        if destinations.is_empty() {
            return Err(Refused::Invalid("no destination takes traffic".into()));
        }
        Ok(destinations)
    }

    fn target(
        &mut self,
        rule: &Rule<'_>,
        index: usize,
        written: &HttpDestination,
        origin: &crate::base::Origin,
        port: u16,
    ) -> Result<Target, Refused> {
        let Some(destination) = &written.destination else {
            return Err(Refused::Invalid("a destination is missing".into()));
        };
        let place = |index: usize| Step::Index(u32::try_from(index).unwrap_or(u32::MAX));
        let steps = &mut self.destination_path.0;
        for (step, value) in [(2, rule.index), (4, index)] {
            if let Some(step) = steps.get_mut(step) {
                *step = place(value);
            }
        }
        let reference = DestinationRef {
            host: &destination.host,
            subset: destination
                .subset
                .as_deref()
                .filter(|subset| !subset.is_empty()),
            port: destination
                .port
                .and_then(|port| port.number)
                .filter(|number| *number != 0),
            gateway_port: port,
            namespace: &rule.object.key.namespace,
            origin,
            object: &rule.object.key,
            path: &self.destination_path,
            consequence: "its traffic answers 503",
        };
        match self.registry.resolve(&reference, self.findings) {
            Resolved::Cluster(id) => Ok(Target::Cluster(id)),
            Resolved::Missing { name, reason } => Ok(Target::Missing { name, reason }),
            Resolved::Fenced(fence) => Err(Refused::Fence(fence)),
        }
    }
}

/// Why a rule cannot serve.
pub(super) enum Refused {
    /// A destination's protection is not enforced.
    Fence(Arc<Fence>),
    /// A value is wrong in a way that validation did not see.
    Invalid(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}
