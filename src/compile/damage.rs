//! What is wrong with an object that has no error-free version to stand in for it.
//!
//! Made by `version`; asked by everything that gives an object meaning, because a field that
//! could not be read is missing from the model and must not be taken for unset (design 4.3).

use std::sync::Arc;

use crate::base::{Finding, Origin};
use crate::model::Issue;
use crate::plan::Fence;

/// The faults of one object.
#[derive(Debug, Default)]
pub(crate) struct Damage {
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
    pub(crate) fn issue(&mut self, origin: &Origin, issue: &Issue) {
        self.faults.push(Fault {
            path: issue.path.to_string(),
            origin: origin.at(issue.position),
            message: issue.message.clone(),
        });
    }

    pub(crate) fn finding(&mut self, origin: &Origin, finding: &Finding) {
        self.faults.push(Fault {
            path: finding.path.clone(),
            origin: finding.origin.clone().unwrap_or_else(|| origin.clone()),
            message: finding.message.clone(),
        });
    }

    /// Faults at or below a field.
    pub(crate) fn under<'d>(&'d self, path: &str) -> impl Iterator<Item = &'d Fault> {
        self.faults
            .iter()
            .filter(move |fault| is_under(&fault.path, path))
    }

    /// The first fault that belongs to no element of the given lists: it concerns the object.
    pub(crate) fn of_whole(&self, lists: &[&str]) -> Option<&Fault> {
        self.faults.iter().find(|fault| {
            !lists.iter().any(|list| {
                fault
                    .path
                    .strip_prefix(list)
                    .is_some_and(|rest| rest.starts_with('['))
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

    #[test]
    fn a_path_is_under_its_prefix_only_at_a_step() {
        assert!(is_under("spec.http[1].match[0]", "spec.http[1]"));
        assert!(is_under("spec.http[1]", "spec.http[1]"));
        assert!(!is_under("spec.http[12].match", "spec.http[1]"));
        assert!(!is_under("spec.httpx", "spec.http"));
    }
}
