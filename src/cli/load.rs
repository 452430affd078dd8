//! Reads settings and manifests the way every offline command does.

use std::path::PathBuf;
use std::sync::Arc;

use crate::compile::{Compiled, Memory, compile};
use crate::server::Settings;
use crate::source::{LoadOptions, Loader};

use super::arguments::Reading;

/// Settings from a file, or the defaults.
pub fn settings(reading: &Reading) -> Result<Settings, String> {
    match &reading.settings {
        Some(path) => Settings::load(path).map_err(|error| error.to_string()),
        None => Ok(Settings::default()),
    }
}

/// How manifests are read.
pub fn load_options(reading: &Reading, settings: &Settings) -> LoadOptions {
    LoadOptions {
        namespace: Arc::from(reading.namespace.as_str()),
        max_file_bytes: settings.gateway.limits.max_file_bytes,
        workload: settings.workload_files(),
    }
}

/// Reads and compiles.
///
/// # Errors
/// The settings cannot be used, or a path does not exist.
pub fn compiled(paths: &[PathBuf], reading: &Reading) -> Result<Compiled, String> {
    let settings = settings(reading)?;
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(format!(
            "{} does not exist; name manifest files or folders",
            missing.display()
        ));
    }
    let inventory = Loader::new(paths.to_vec(), load_options(reading, &settings)).load();
    Ok(compile(
        &inventory,
        &mut Memory::default(),
        &settings.compile_options(),
    ))
}
