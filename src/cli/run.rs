//! `pingress run`: serve until told to stop.

use std::process::ExitCode;

use crate::server::boot;

use super::arguments::Run;
use super::{Outcome, load};

/// Serves the manifests.
pub fn run(arguments: Run) -> Outcome {
    logging();
    let settings = load::settings(&arguments.reading)?;
    let options = load::load_options(&arguments.reading, &settings);
    boot::run(boot::Boot {
        paths: arguments.config,
        settings,
        load: options,
        start_partial: arguments.start_partial,
    })
    .map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error; `RUST_LOG` changes what is shown.
pub fn logging() {
    // Pingora logs one error line per failed connection; those reach the access log instead.
    let default = "info,pingora_core=warn,pingora_proxy=off";
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default))
        .format_target(false)
        .init();
}
