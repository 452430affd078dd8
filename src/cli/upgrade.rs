//! `pingress upgrade`: the running gateway is replaced by the program that lies in its place.

use std::process::ExitCode;

use crate::server::Settings;
use crate::server::handover::ask_to_upgrade;

use super::arguments::Upgrade;
use super::{Outcome, print};

/// Asks the running gateway to start its successor, and says how that goes.
pub fn upgrade(arguments: &Upgrade) -> Outcome {
    let settings = match &arguments.settings {
        Some(path) => Settings::load(path).map_err(|error| error.to_string())?,
        None => Settings::default(),
    };
    let pid = ask_to_upgrade(&settings.upgrade_folder()?, |text| {
        print(&format!("{text}\n"))
    })
    .map_err(|error| error.to_string())?;
    print(&format!(
        "process {pid} serves now; the old one ends when its requests have\n"
    ));
    Ok(ExitCode::SUCCESS)
}
