//! What `gateway.http2` means to listeners.

use crate::listener::PingRule;

use super::Settings;

/// Bounds of a window: what HTTP/2 begins with, and its most (RFC 9113 section 6.9.2).
const WINDOW: std::ops::RangeInclusive<u32> = 65_535..=0x7fff_ffff;

impl Settings {
    /// Checks what types cannot.
    pub(super) fn verify_http2(&self) -> Result<(), String> {
        let http2 = &self.gateway.http2;
        if http2.max_concurrent_streams == 0 {
            return Err(
                "gateway.http2.maxConcurrentStreams: 0 would let no request in; write at least 1"
                    .into(),
            );
        }
        for (key, window) in [
            ("initialStreamWindowSize", http2.initial_stream_window_size),
            (
                "initialConnectionWindowSize",
                http2.initial_connection_window_size,
            ),
        ] {
            if !WINDOW.contains(&window) {
                return Err(format!(
                    "gateway.http2.{key}: {window} is not in {} to {}",
                    WINDOW.start(),
                    WINDOW.end()
                ));
            }
        }
        if self.http2_pings().is_some_and(|rule| rule.within.is_zero()) {
            return Err("gateway.http2.keepaliveTimeout: 0s would close every connection at its first PING; write for example 20s".into());
        }
        Ok(())
    }

    /// When clients are asked whether they are still there.
    pub(super) fn http2_pings(&self) -> Option<PingRule> {
        let http2 = &self.gateway.http2;
        let every = http2.keepalive_interval.0;
        (!every.is_zero()).then_some(PingRule {
            every,
            within: http2.keepalive_timeout.0,
        })
    }
}
