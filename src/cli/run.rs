//! `pingress run`: serve until told to stop.

use std::process::ExitCode;

use crate::server::{boot, logging};

use super::arguments::Run;
use super::{Outcome, load};

/// Serves the manifests.
pub fn run(arguments: Run) -> Outcome {
    logging::start();
    let settings = load::settings(&arguments.reading)?;
    let options = load::load_options(&arguments.reading, &settings);
    boot::run(boot::Boot {
        paths: arguments.config,
        settings,
        load: options,
        start_partial: arguments.start_partial,
        upgrade: arguments.upgrade,
    })
    .map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}
