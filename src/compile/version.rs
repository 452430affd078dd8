//! Chooses which version of each object is compiled (design 4.3).
//!
//! An object without errors is taken as it is. One with errors is replaced by its last error-free
//! version, which the server held since the load before. With none it is compiled all the same,
//! and its [`Damage`] says which of its rules must answer 503.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Code, Finding, Findings, ObjectKey, Severity};
use crate::model::{Inventory, IssueKind, Object};

use super::damage::Damage;
use super::pattern::Patterns;
use super::{LastGood, validate};

/// The objects to compile, in the inventory's order.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    pub objects: Vec<Arc<Object>>,
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
}

/// Chooses the versions; the second value is what to hold for the next load.
pub(crate) fn choose(
    inventory: &Inventory,
    last_good: &LastGood,
    patterns: &Patterns,
    findings: &mut Findings,
) -> (Versions, LastGood) {
    let mut versions = Versions {
        objects: Vec::with_capacity(inventory.objects.len()),
        ..Versions::default()
    };
    let mut good = LastGood::with_capacity_and_hasher(inventory.objects.len(), Default::default());
    let mut wrong = Findings::new();
    for object in &inventory.objects {
        validate::check(object, patterns, &mut wrong);
        let is_broken = !object.issues.is_empty() || wrong.iter().any(is_error);
        if !is_broken {
            findings.append(&mut wrong);
            good.insert(object.key.clone(), object.clone());
            versions.objects.push(object.clone());
            continue;
        }
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
        if let Some(previous) = last_good.get(&object.key) {
            findings.push(
                Finding::new(
                    Code::SERVES_PREVIOUS_VERSION,
                    "this version has errors; the last version without errors is served",
                )
                .at(&object.origin)
                .of(&object.key)
                .hint("correct the errors reported for this object"),
            );
            good.insert(object.key.clone(), previous.clone());
            versions.objects.push(previous.clone());
        } else {
            let errors = wrong.iter().filter(|finding| is_error(finding));
            let damage = Damage::new(&object.origin, &object.issues, errors);
            versions.damages.insert(object.key.clone(), damage);
            versions.objects.push(object.clone());
        }
        findings.append(&mut wrong);
    }
    (versions, good)
}

fn is_error(finding: &Finding) -> bool {
    finding.severity == Severity::Error
}
