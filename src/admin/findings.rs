//! Findings as the endpoint shows them; `check` may print the same.

use std::fmt::Write;

use serde::Serialize;

use crate::base::{Finding, Severity};

/// Findings with their counts, as JSON.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub errors: usize,
    pub warnings: usize,
    pub infos: usize,
    pub findings: Vec<Entry<'a>>,
}

/// One finding, flat.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    pub code: &'a str,
    pub name: &'a str,
    pub severity: &'a str,
    pub file: Option<&'a str>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub object: Option<String>,
    pub path: &'a str,
    pub message: &'a str,
    pub hint: &'a str,
}

impl<'a> Report<'a> {
    #[must_use]
    pub fn of(findings: &'a [Finding]) -> Self {
        let count = |severity| {
            findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .count()
        };
        Self {
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            infos: count(Severity::Info),
            findings: findings.iter().map(Entry::of).collect(),
        }
    }

    /// One after the other, as they are logged.
    #[must_use]
    pub fn text(findings: &[Finding]) -> String {
        let mut text = String::new();
        for finding in findings {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{finding}");
        }
        if text.is_empty() {
            text.push_str("nothing found\n");
        }
        text
    }
}

impl<'a> Entry<'a> {
    fn of(finding: &'a Finding) -> Self {
        let origin = finding.origin.as_ref();
        let position = origin
            .map(|origin| origin.position)
            .filter(|position| position.line > 0);
        Self {
            code: finding.code.id,
            name: finding.code.name,
            severity: finding.severity.as_str(),
            file: origin.map(|origin| &*origin.file),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            object: finding.object.as_ref().map(ToString::to_string),
            path: &finding.path,
            message: &finding.message,
            hint: &finding.hint,
        }
    }
}
