//! The process's own log, on standard error.

/// Starts logging; `RUST_LOG` changes what is shown. A second start changes nothing.
pub fn start() {
    // Pingora logs an error line per failed request; those are in the access log, with a cause.
    let default = "info,pingora_core=warn,pingora_proxy=off";
    let _ = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default))
        .format_target(false)
        .try_init();
}
