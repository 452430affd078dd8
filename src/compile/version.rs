//! Chooses which version of each object is compiled.
//!
//! An object without errors is taken as it is. One with errors is replaced by its last error-free
//! version, which the server held since the load before. With none it is compiled all the same,
//! and its [`Damage`] says which of its rules must answer 503.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Code, Finding, Findings, ObjectKey, Severity};
use crate::model::istio::VirtualService;
use crate::model::{Inventory, IssueKind, Object, Spec};

use super::damage::Damage;
use super::memory::{Kept, Memory};
use super::pattern::Patterns;
use super::validate;

/// The objects to compile, in the inventory's order.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    pub objects: Vec<Arc<Object>>,
    /// Which of them are VirtualServices, the kind there may be most of, and which are not.
    virtual_services: Vec<usize>,
    others: Vec<usize>,
    damages: HashMap<ObjectKey, Damage>,
}

impl Versions {
    /// What is wrong with an object, if it is compiled although something is.
    pub(crate) fn damage(&self, key: &ObjectKey) -> Option<&Damage> {
        if self.damages.is_empty() {
            None
        } else {
            self.damages.get(key)
        }
    }

    /// With the index of each among all objects.
    pub(crate) fn virtual_services(
        &self,
    ) -> impl Iterator<Item = (usize, &Arc<Object>, &VirtualService)> {
        self.virtual_services.iter().filter_map(|index| {
            let object = self.objects.get(*index)?;
            match &object.spec {
                Spec::VirtualService(spec) => Some((*index, object, spec)),
                _ => None,
            }
        })
    }

    /// The objects of every other kind.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Arc<Object>> + Clone {
        self.others
            .iter()
            .filter_map(|index| self.objects.get(*index))
    }

    fn push(&mut self, object: Arc<Object>) {
        let index = self.objects.len();
        match object.spec {
            Spec::VirtualService(_) => self.virtual_services.push(index),
            _ => self.others.push(index),
        }
        self.objects.push(object);
    }
}

/// Chooses the versions. The second value is what is known of each, in the same order; what is
/// known of a damaged object must not be kept.
pub(crate) fn choose(
    inventory: &Inventory,
    memory: &mut Memory,
    patterns: &Patterns,
    findings: &mut Findings,
) -> (Versions, Vec<Kept>) {
    let count = inventory.objects.len();
    let mut versions = Versions {
        objects: Vec::with_capacity(count),
        ..Versions::default()
    };
    let mut known: Vec<Kept> = Vec::with_capacity(count);
    let mut broken = Vec::new();
    memory.begin();
    for object in &inventory.objects {
        let mut kept = memory
            .find(object)
            .unwrap_or_else(|| Kept::new(object.clone()));
        match &kept.warnings {
            Some(warnings) => findings.extend_from_slice(warnings),
            None => {
                let mut wrong = Findings::new();
                validate::check(object, patterns, &mut wrong);
                if !object.issues.is_empty() || wrong.iter().any(is_error) {
                    broken.push((known.len(), wrong));
                } else {
                    findings.extend_from_slice(&wrong);
                    kept.is_error_free = true;
                    kept.warnings = Some(wrong.into());
                }
            }
        }
        known.push(kept);
    }
    replace(broken, memory, &mut known, &mut versions, findings);
    for kept in &known {
        versions.push(kept.object.clone());
    }
    (versions, known)
}

/// Puts the last error-free versions in the place of broken ones.
fn replace(
    broken: Vec<(usize, Findings)>,
    memory: &Memory,
    known: &mut [Kept],
    versions: &mut Versions,
    findings: &mut Findings,
) {
    if broken.is_empty() {
        return;
    }
    let stand_ins = memory.stand_ins();
    for (index, mut wrong) in broken {
        let Some(kept) = known.get_mut(index) else {
            continue;
        };
        let object = kept.object.clone();
        findings.extend(object.issues.iter().map(|issue| {
            let code = match issue.kind {
                IssueKind::UnknownField => Code::UNKNOWN_FIELD,
                IssueKind::WrongType => Code::WRONG_TYPE,
            };
            Finding::new(code, issue.message.clone())
                .at(&object.origin.at(issue.position))
                .of(&object.key)
                .path(issue.path.to_string())
                .hint(issue.hint.clone())
        }));
        if let Some(previous) = stand_ins.get(&object.key) {
            findings.push(
                Finding::new(
                    Code::SERVES_PREVIOUS_VERSION,
                    "this version has errors; the last version without errors is served",
                )
                .at(&object.origin)
                .of(&object.key)
                .hint("correct the errors reported for this object"),
            );
            *kept = Kept::clone(previous);
        } else {
            let errors = wrong.iter().filter(|finding| is_error(finding));
            let damage = Damage::new(&object.origin, &object.issues, errors);
            versions.damages.insert(object.key.clone(), damage);
        }
        findings.append(&mut wrong);
    }
}

fn is_error(finding: &Finding) -> bool {
    finding.severity == Severity::Error
}
