//! Bounds and waits of a request, and the Pingora options that carry the others.

use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};

use super::mirror::MirrorLimits;

/// How large a head may be and how long a client may take. `server` fills it from its settings;
/// the default is Istio's, with the bounds that are always on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long an HTTP/1 connection may wait for its next request.
    pub keepalive_idle: Duration,
    /// Bytes of a request head, decoded for HTTP/2.
    pub head: usize,
    /// Fields of a request head.
    pub fields: usize,
    /// Bytes of an HTTP/1 request line, or of an HTTP/2 `:path`.
    pub request_line: usize,
    /// Longest gap in an HTTP/1 request body or an upgraded stream; Istio has none.
    pub body_idle: Option<Duration>,
    /// Longest stall of a response write; Istio has none.
    pub write_stall: Option<Duration>,
    /// Requests of one HTTP/2 connection at once.
    pub streams: u32,
    /// Bytes of a request body over HTTP/2 that the client may send ahead.
    pub stream_window: u32,
    /// The same of all requests of a connection together.
    pub connection_window: u32,
    /// How long an answered request's remaining body is read, so that the client sees the answer.
    pub drain: Duration,
    /// Bytes of a request body that may be sent again, at most [`RETRY_BODY`].
    pub retry_body: usize,
    /// Attempts of a request, whatever its rule says.
    pub attempts: u32,
    pub mirror: MirrorLimits,
    /// Responses that are compressed at once; more are sent as they are.
    pub compressions: usize,
    /// Attempts that Pingora makes, those included that end before anything was sent.
    pub turns: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keepalive_idle: Duration::from_secs(3600),
            head: 60 * 1024,
            fields: 100,
            request_line: 16 * 1024,
            body_idle: None,
            write_stall: None,
            streams: 100,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            drain: Duration::from_secs(1),
            retry_body: RETRY_BODY,
            attempts: MAX_ATTEMPTS as u32,
            mirror: MirrorLimits::default(),
            compressions: 1024,
            turns: MAX_ATTEMPTS as u32,
        }
    }
}

/// What `server` sets as `HttpProxy::server_options`. Prior-knowledge HTTP/2 is recognised in
/// `listener`; Pingora's own way hangs on short requests.
pub fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = false;
    options.allow_connect_method_proxying = false;
    options
}

/// What `server` sets as `HttpProxy::h2_options`: bounds against HTTP/2 floods, and by default windows
/// that do not throttle uploads (edge-hardening section 4).
pub fn h2_options(limits: &Limits) -> H2Options {
    let mut options = default_h2_options();
    // The list counts 32 bytes of overhead per field (RFC 9113 section 6.5.2). Above what `admit`
    // allows, so that it can answer 431 where the codec would only reset.
    let list = limits.head + limits.fields * 32 + 4096;
    options
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buffer_size(256 * 1024);
    options
}

/// What `server` sets at least as `ServerConf::max_retries`, which counts every attempt: above
/// anything a request does by itself, because 0 sends nothing at all.
pub const MAX_ATTEMPTS: usize = 16;

/// How much of a request body Pingora keeps for sending it again. Its buffer is fixed.
pub const RETRY_BODY: usize = 64 * 1024;
