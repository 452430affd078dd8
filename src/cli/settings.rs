//! `pingress settings`: every key, its default, one line of meaning.

use std::fmt::Write;
use std::process::ExitCode;

use crate::server::Settings;

use super::arguments::{Settings as Arguments, SettingsFormat};
use super::{Outcome, print};

/// Prints the list of keys.
pub fn settings(arguments: &Arguments) -> Outcome {
    let keys = Settings::keys();
    let mut text = String::new();
    match arguments.format {
        SettingsFormat::Json => {
            text = serde_json::to_string_pretty(&keys).map_err(|error| error.to_string())?;
            text.push('\n');
        }
        SettingsFormat::Yaml => text = Settings::yaml(),
        SettingsFormat::Text => {
            for key in &keys {
                let _ = writeln!(text, "{}: {}\n    {}", key.key, key.default, key.meaning);
            }
        }
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}
