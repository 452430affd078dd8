//! Istio's public samples, where a copy of them lies beside the repository.

use super::*;

#[test]
fn every_sample_is_read_and_none_has_an_unknown_or_mistyped_field() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !corpus.is_dir() {
        eprintln!("skipped: there is no {}", corpus.display());
        return;
    }
    let inventory = Loader::new(vec![corpus], LoadOptions::default()).load();
    assert!(inventory.objects.len() > 50, "{}", inventory.objects.len());
    assert!(!inventory.incomplete, "{}", messages(&inventory));
    let issues = inventory.objects.iter().flat_map(|object| {
        object
            .issues
            .iter()
            .map(|issue| format!("{} {}", object.origin.at(issue.position), issue.message))
    });
    assert_eq!(issues.collect::<Vec<_>>(), [""; 0]);
    // The samples hold several versions of the same routes, and kinds for other programs.
    let is_expected = |name: &str| matches!(name, "DuplicateObject" | "ForeignKind");
    assert!(
        inventory
            .findings
            .iter()
            .all(|finding| is_expected(finding.code.name))
    );
}
