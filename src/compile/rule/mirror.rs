//! `mirror` and `mirrors`: who gets a copy of which share of a rule's requests.

use crate::base::{Code, Finding, Origin, Share};
use crate::compile::registry::{DestinationRef, Resolved};
use crate::model::FieldPath;
use crate::model::Slot;
use crate::model::istio::virtual_service::{Destination, HttpRoute};
use crate::plan::{Mirror, Target};

use super::{Rule, Translator};

/// A mirror as it stands in a rule.
struct Written<'r> {
    field: &'static str,
    /// In the list, if it is one.
    index: Option<usize>,
    destination: &'r Destination,
    share: Share,
}

impl Translator<'_, '_> {
    /// The mirrors of a rule. One whose destination does not exist, or cannot be used as it is
    /// protected, gets nothing: a mirror never decides about the client's request.
    pub(super) fn mirrors(&mut self, rule: &Rule<'_>, port: u16) -> Result<Box<[Mirror]>, String> {
        let mut mirrors = Vec::new();
        for written in written(rule.spec)? {
            if written.share.is_none() {
                continue;
            }
            let (origin, target) = self.mirror_target(rule, &written, port);
            mirrors.push(Mirror {
                target,
                share: written.share,
                origin,
            });
        }
        Ok(mirrors.into())
    }

    fn mirror_target(
        &mut self,
        rule: &Rule<'_>,
        written: &Written<'_>,
        port: u16,
    ) -> (Origin, Target) {
        let (object, index) = rule.writer_of(written.field);
        let path = FieldPath::spec()
            .field("http")
            .index(index)
            .field(written.field);
        let path = match written.index {
            Some(index) => path.index(index).field("destination"),
            None => path,
        };
        let origin = object.origin_of(&path);
        let destination = written.destination;
        let subset = destination.subset.as_deref();
        let number = destination.port.and_then(|port| port.number);
        let reference = DestinationRef {
            host: &destination.host,
            subset: subset.filter(|subset| !subset.is_empty()),
            port: number.filter(|number| *number != 0),
            gateway_port: port,
            namespace: &object.key.namespace,
            origin: &origin,
            object: &object.key,
            path: &path,
            consequence: "nothing is mirrored to it",
        };
        let target = match self.registry.resolve(&reference, self.findings) {
            Resolved::Cluster(id) => Target::Cluster(id),
            Resolved::Missing { name, reason } => Target::Missing { name, reason },
            Resolved::Fenced(fence) => {
                let message = format!("nothing is mirrored to it: {}", fence.reason);
                self.findings.push(
                    Finding::new(Code::UNSUPPORTED, message)
                        .at(&origin)
                        .of(&object.key)
                        .path(path.to_string()),
                );
                Target::Missing {
                    name: destination.host.as_str().into(),
                    reason: fence.reason.clone(),
                }
            }
        };
        (origin, target)
    }
}

fn written(rule: &HttpRoute) -> Result<Vec<Written<'_>>, String> {
    let percent = |value: Option<f64>| Share::of_percent(value.unwrap_or(0.0));
    let mut all = Vec::new();
    if let Some(destination) = rule.mirror.as_deref() {
        all.push(Written {
            field: "mirror",
            index: None,
            destination,
            share: match (rule.mirror_percentage, rule.mirror_percent) {
                (Some(percentage), _) => percent(percentage.value),
                (None, Some(whole)) => percent(Some(f64::from(whole))),
                (None, None) => Share::ALL,
            },
        });
    }
    for (index, slot) in rule.mirrors.iter().enumerate() {
        let Slot::Good(mirror) = &slot.value else {
            return Err("a mirror cannot be read".into());
        };
        let Some(destination) = &mirror.destination else {
            return Err("a mirror has no destination".into());
        };
        all.push(Written {
            field: "mirrors",
            index: Some(index),
            destination,
            share: mirror
                .percentage
                .map_or(Share::ALL, |percentage| percent(percentage.value)),
        });
    }
    Ok(all)
}
