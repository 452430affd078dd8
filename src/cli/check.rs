//! `pingress check`: every finding, and an exit code for scripts.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::base::{Finding, Severity};

use super::arguments::{Check, Format};
use super::{HAS_ERRORS, Outcome, load, print};

#[derive(Serialize)]
struct Report<'a> {
    errors: usize,
    warnings: usize,
    infos: usize,
    findings: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'a str,
    name: &'a str,
    severity: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    object: Option<String>,
    path: &'a str,
    message: &'a str,
    hint: &'a str,
}

/// Checks manifests.
pub fn check(arguments: &Check) -> Outcome {
    let compiled = load::compiled(&arguments.paths, &arguments.reading)?;
    let findings = &compiled.findings;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let report = Report {
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        infos: count(Severity::Info),
        findings: findings.iter().map(entry).collect(),
    };
    match arguments.format {
        Format::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
            print(&format!("{text}\n"));
        }
        Format::Text => {
            let mut text = String::new();
            for finding in findings {
                let _ = writeln!(text, "{finding}");
            }
            let routes: usize = compiled
                .plan
                .listeners
                .iter()
                .flat_map(|listener| &listener.virtual_hosts)
                .map(|host| host.routes.len())
                .sum();
            let _ = writeln!(
                text,
                "{}, {}, {}; {} on {}",
                plural(report.errors, "error"),
                plural(report.warnings, "warning"),
                plural(report.infos, "note"),
                plural(routes, "route"),
                plural(compiled.plan.listeners.len(), "listener"),
            );
            print(&text);
        }
    }
    Ok(if report.errors > 0 { ExitCode::from(HAS_ERRORS) } else { ExitCode::SUCCESS })
}

fn entry(finding: &Finding) -> Entry<'_> {
    let origin = finding.origin.as_ref();
    let position = origin.map(|origin| origin.position).filter(|position| position.line > 0);
    Entry {
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

/// `1 error`, `2 errors`.
fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
