//! What is wrong with an object that has no error-free version to stand in for it.
//!
//! Made by `version`; asked by everything that gives an object meaning, because a field that
//! could not be read is missing from the model and must not be taken for unset.

use std::sync::Arc;

use crate::base::{Finding, Origin};
use crate::model::Issue;
use crate::plan::Fence;

/// The faults of one object.
#[derive(Debug)]
pub(crate) struct Damage {
    /// Sorted by path: thousands of rules may each ask for theirs.
    faults: Vec<Fault>,
}

/// One fault: a field and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// As findings print it: `spec.http[0].match[1].uri`.
    pub path: String,
    pub origin: Origin,
    pub message: String,
}

impl Damage {
    pub(crate) fn new<'i>(
        origin: &Origin,
        issues: impl IntoIterator<Item = &'i Issue>,
        findings: impl IntoIterator<Item = &'i Finding>,
    ) -> Self {
        let issues = issues.into_iter().map(|issue| Fault {
            path: issue.path.to_string(),
            origin: origin.at(issue.position),
            message: issue.message.clone(),
        });
        let findings = findings.into_iter().map(|finding| Fault {
            path: finding.path.clone(),
            origin: finding.origin.clone().unwrap_or_else(|| origin.clone()),
            message: finding.message.clone(),
        });
        let mut faults: Vec<Fault> = issues.chain(findings).collect();
        faults.sort_by(|a, b| a.path.cmp(&b.path));
        Self { faults }
    }

    /// Faults at or below a field.
    pub(crate) fn under<'d>(&'d self, path: &str) -> impl Iterator<Item = &'d Fault> {
        let from = self
            .faults
            .partition_point(|fault| fault.path.as_str() < path);
        let faults = self.faults.get(from..).unwrap_or_default().iter();
        faults
            .take_while(move |fault| fault.path.starts_with(path))
            .filter(move |fault| is_under(&fault.path, path))
    }

    /// The first fault that belongs to no element of the given lists: it concerns the object.
    pub(crate) fn of_whole(&self, lists: &[&str]) -> Option<&Fault> {
        self.faults.iter().find(|fault| {
            !lists.iter().any(|list| {
                let rest = fault.path.strip_prefix(list);
                rest.is_some_and(|rest| rest.starts_with('['))
            })
        })
    }
}

impl Fault {
    /// The fence that this fault puts up.
    pub(crate) fn fence(&self) -> Arc<Fence> {
        let reason = if self.path.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.path, self.message)
        };
        Arc::new(Fence {
            origin: self.origin.clone(),
            reason: reason.into(),
        })
    }
}

/// Whether a printed path is a field or lies below it.
fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Code, Position};

    #[test]
    fn a_path_is_under_its_prefix_only_at_a_step() {
        assert!(is_under("spec.http[1].match[0]", "spec.http[1]"));
        assert!(is_under("spec.http[1]", "spec.http[1]"));
        assert!(!is_under("spec.http[12].match", "spec.http[1]"));
        assert!(!is_under("spec.httpx", "spec.http"));
    }

    #[test]
    fn faults_are_found_under_their_rule_and_whole_object_faults_apart() {
        let origin = Origin::new("a.yaml".into(), Position::default(), 0);
        let at = |path: &str| Finding::new(Code::SCHEMA_VALIDATION, path).path(path);
        let findings = [
            at("spec.http[1].timeout"),
            at("spec.http[12]"),
            at("spec.hosts[0]"),
            at("spec.http[1]"),
        ];
        let damage = Damage::new(&origin, [], &findings);
        let under: Vec<&str> = damage
            .under("spec.http[1]")
            .map(|fault| &*fault.path)
            .collect();
        assert_eq!(under, ["spec.http[1]", "spec.http[1].timeout"]);
        let whole = damage.of_whole(&["spec.http"]).map(|fault| &*fault.path);
        assert_eq!(whole, Some("spec.hosts[0]"));
    }
}
