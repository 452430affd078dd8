//! What is to be said about files rather than about objects.

use std::collections::BTreeMap;

use crate::base::{Code, Finding, Origin, Position, Severity};

use super::{Loader, file};

/// The findings of all files in the order shown, and whether something is missing that nothing
/// stands in for.
pub(super) fn of(loader: &Loader) -> (Vec<Finding>, bool) {
    let mut findings = Vec::new();
    let mut incomplete = false;
    for file in loader.files.values() {
        incomplete |= file.contents().is_none();
        findings.extend_from_slice(file.failure());
        findings.extend(
            file.contents()
                .into_iter()
                .flat_map(|contents| contents.findings.clone()),
        );
    }
    for (path, error) in &loader.failures {
        let origin = Origin::new(path.to_string_lossy().into(), Position::default(), 0);
        let mut finding = file::unreadable(&origin, error);
        if loader.has_files_below(path) {
            finding
                .message
                .push_str("; what was read there before stays in force");
        } else {
            incomplete = true;
        }
        findings.push(finding);
    }
    findings.extend(loader.merge.duplicates());
    findings.extend(foreign(loader));
    let is_explained = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    if loader.merge.ordered().is_empty() && !is_explained {
        let message = "none of the paths holds an object that a gateway reads";
        let hint = "name files or folders with Istio's and Kubernetes' manifests";
        findings.push(Finding::new(Code::NO_OBJECTS, message).hint(hint));
    }
    Finding::sort(&mut findings);
    (findings, incomplete)
}

/// One finding for each kind that a gateway does not read, at its first object.
fn foreign(loader: &Loader) -> impl Iterator<Item = Finding> {
    let mut kinds: BTreeMap<&str, (usize, &Origin)> = BTreeMap::new();
    let contents = loader.files.values().filter_map(|file| file.contents());
    for (kind, origin) in contents.flat_map(|contents| &contents.foreign) {
        let (count, first) = kinds.entry(kind).or_insert((0, origin));
        *count += 1;
        *first = (*first).min(origin);
    }
    kinds.into_iter().map(|(kind, (count, first))| {
        let message = match count {
            1 => format!("1 {kind} object is not read by a gateway"),
            _ => format!("{count} {kind} objects are not read by a gateway"),
        };
        Finding::new(Code::FOREIGN_KIND, message).at(first)
    })
}
