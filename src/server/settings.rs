//! The settings file: Pingora's own server keys and our `gateway:` section.
//!
//! Every key has a default and one line of meaning, printed by `pingress settings`; an unknown
//! key is an error that names the line. Read by `run`, `check`, `explain`, `routes` and `demo`.

mod convert;
mod describe;
mod gateway;
mod http2;
mod mesh;
mod tag;
#[cfg(test)]
mod tests;
mod tracing;
mod value;

use std::path::Path;

use thiserror::Error;

pub use convert::address;
pub use describe::Key;
use describe::{Describe, section};
pub use gateway::Gateway;
pub use value::{Profile, Span};

section! { "snake_case",
    /// The whole file.
    pub struct Settings {
        /// Worker threads; 0 means as many as the process has processors.
        pub threads: usize = 0,
        /// Accepting tasks per listening socket.
        pub listener_tasks_per_fd: usize = 1,
        /// Whether an idle worker thread takes work from a busy one.
        pub work_stealing: bool = true,
        /// Idle connections to origins kept per worker thread.
        pub upstream_keepalive_pool_size: usize = 128,
        /// Local IPv4 addresses to use towards origins, one for each connection by chance.
        pub client_bind_to_ipv4: Vec<String> = Vec::new(),
        /// Local IPv6 addresses to use towards origins, in the same way.
        pub client_bind_to_ipv6: Vec<String> = Vec::new(),
        /// Upper bound of attempts for one request, whatever its route says.
        pub max_retries: usize = crate::proxy::MAX_ATTEMPTS,
        /// Threads for blocking work; unset means Tokio's default.
        pub max_blocking_threads: Option<usize> = None,
        /// Seconds an idle blocking thread lives; unset means Tokio's default.
        pub blocking_threads_ttl_seconds: Option<u64> = None,
        /// Everything of ours.
        pub gateway: Gateway = Gateway::default(),
    }
}

/// Keys of Pingora's own file that have no effect here, and what to use instead.
const REFUSED: [(&str, &str); 14] = [
    ("version", "leave it out"),
    (
        "daemon",
        "run in the foreground and let systemd or Kubernetes start it",
    ),
    (
        "daemon_wait_for_ready",
        "the process stays in the foreground",
    ),
    ("error_log", "redirect standard error"),
    ("pid_file", "the process stays in the foreground"),
    ("user", "start the process as that user"),
    ("group", "start the process as that group"),
    ("working_directory", "start the process in that folder"),
    ("upgrade_sock", "use gateway.upgrade.folder"),
    (
        "grace_period_seconds",
        "use gateway.drain.delay and gateway.drain.deadline",
    ),
    (
        "graceful_shutdown_timeout_seconds",
        "use gateway.drain.deadline",
    ),
    (
        "ca_file",
        "name a file in caCertificates of a DestinationRule's tls",
    ),
    ("s2n_config_cache_size", "TLS here is BoringSSL"),
    (
        "upstream_debug_ssl_keylog",
        "keys of TLS connections are not written down",
    ),
];

/// Why a settings file cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("cannot read the settings file {path}: {source}; check the path given with --settings")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("{path}: {message}; `pingress settings` lists every key")]
    Invalid { path: String, message: String },
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is not YAML, or has an unknown key or a value of the wrong type.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: name.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|message| SettingsError::Invalid {
            path: name,
            message,
        })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// One sentence with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let settings: Self = match serde_yaml::from_str::<Option<Self>>(text) {
            Ok(settings) => settings.unwrap_or_default(),
            Err(error) => return Err(explain(&error.to_string())),
        };
        settings.verify()?;
        Ok(settings)
    }

    /// Every key with its default and meaning, in the order of the file.
    pub fn keys() -> Vec<Key> {
        let mut keys = Vec::new();
        Self::default().describe("", "", &mut keys);
        keys
    }
}

impl Settings {
    /// A settings file with every key at its default and its meaning as a comment.
    pub fn yaml() -> String {
        let mut text = String::from(
            "# Every setting with its default; `pingress settings --format yaml` prints this file.\n",
        );
        let mut open: Vec<String> = Vec::new();
        for key in Self::keys() {
            let mut parts: Vec<String> = key.key.split('.').map(ToOwned::to_owned).collect();
            let Some(name) = parts.pop() else { continue };
            let same = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
            for (depth, part) in parts.iter().enumerate().skip(same) {
                text.push_str(&format!("{}{part}:\n", "  ".repeat(depth)));
            }
            let indent = "  ".repeat(parts.len());
            text.push_str(&format!(
                "{indent}# {}\n{indent}{name}: {}\n",
                key.meaning, key.default
            ));
            open = parts;
        }
        text
    }
}

/// Adds what to do to the reader's message.
fn explain(message: &str) -> String {
    let unknown = message
        .split("unknown field `")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    match unknown.and_then(|field| REFUSED.iter().find(|(key, _)| *key == field)) {
        Some((key, instead)) => {
            format!("Pingora's key `{key}` has no effect here: {instead} ({message})")
        }
        None => message.to_owned(),
    }
}
