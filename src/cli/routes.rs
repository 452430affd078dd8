//! `pingress routes`: the effective table.

use std::process::ExitCode;

use crate::admin::routes as table;

use super::arguments::{Format, Routes};
use super::{Outcome, load, print};

/// Prints what is served, in the order it is tried.
pub fn routes(arguments: &Routes) -> Outcome {
    let compiled = load::compiled(&arguments.paths, &arguments.reading)?;
    let text = match arguments.format {
        Format::Text => table::text(&compiled.plan),
        Format::Json => {
            let value = table::json(&compiled.plan);
            format!(
                "{}\n",
                serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?
            )
        }
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}
