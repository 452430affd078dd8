//! `pingress check`: every finding, and an exit code for scripts.

use std::process::ExitCode;

use crate::admin::findings::Report;
use crate::compile::Compiled;

use super::arguments::{Check, Format};
use super::{HAS_ERRORS, Outcome, load, print};

/// Checks manifests.
pub fn check(arguments: &Check) -> Outcome {
    let compiled = load::compiled(&arguments.paths, &arguments.reading)?;
    let report = Report::of(&compiled.findings);
    match arguments.format {
        Format::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
            print(&format!("{text}\n"));
        }
        Format::Text => {
            for finding in &compiled.findings {
                print(&format!("{finding}\n"));
            }
            print(&summary(&report, &compiled));
        }
    }
    Ok(if report.errors > 0 {
        ExitCode::from(HAS_ERRORS)
    } else {
        ExitCode::SUCCESS
    })
}

fn summary(report: &Report<'_>, compiled: &Compiled) -> String {
    let hosts = compiled
        .plan
        .listeners
        .iter()
        .flat_map(|listener| &listener.virtual_hosts);
    format!(
        "{}, {}, {}; {} on {}\n",
        plural(report.errors, "error"),
        plural(report.warnings, "warning"),
        plural(report.infos, "note"),
        plural(hosts.map(|host| host.routes.len()).sum(), "route"),
        plural(compiled.plan.listeners.len(), "listener"),
    )
}

/// `1 error`, `2 errors`.
fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
