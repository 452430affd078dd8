//! Everything known about one finished request. `proxy::finish` fills [`Record`]; `listener`
//! fills [`EarlyRefusal`] for heads refused before any hook; the access log and the metrics read
//! them.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;

use crate::base::{Cause, CauseKind};
use crate::plan::Cluster;
use crate::plan::tracing::Tracing;

use super::trace::Trace;

/// One finished request, borrowed from where its parts live. Absent values print as `-`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Start of the request since the Unix epoch.
    pub start: Duration,
    pub method: Option<&'a str>,
    /// Path with query as received, before normalisation and rewriting (`x-envoy-original-path?:path`).
    pub path: Option<&'a str>,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: Option<&'a str>,
    /// 0 if no status was sent.
    pub status: u16,
    /// Envoy's response flags (`NR`, `UF,URX`), empty for none. Only texts the gateway makes:
    /// they are a metric label.
    pub flags: &'a str,
    /// Envoy's response code details.
    pub details: &'a str,
    pub cause: Option<&'a Cause>,
    pub upstream_failure: Option<&'a str>,
    /// Body bytes.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub duration: Duration,
    pub upstream_service_time: Option<Duration>,
    /// From the start until the last byte of the request was there; `None` if it never was.
    pub request_duration: Option<Duration>,
    /// From the start until the origin's answer began.
    pub response_duration: Option<Duration>,
    pub forwarded_for: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub authority: Option<&'a str>,
    pub upstream_host: Option<SocketAddr>,
    pub cluster: Option<&'a Cluster>,
    pub upstream_local_address: Option<SocketAddr>,
    pub downstream_local_address: Option<SocketAddr>,
    pub downstream_remote_address: Option<SocketAddr>,
    /// The other end of the client's connection, whatever a trusted proxy says.
    pub downstream_direct_remote_address: Option<SocketAddr>,
    /// `None` for a connection without TLS.
    pub tls: Option<TlsRecord<'a>>,
    pub requested_server_name: Option<&'a str>,
    pub route_name: Option<&'a str>,
    /// How often the request was sent to an endpoint.
    pub attempts: u32,
    pub grpc: bool,
    pub grpc_status: Option<u16>,
    /// `None` for a response that is sent as it is.
    pub compression: Option<CompressionRecord>,
    /// For `%REQ(name)%` of a custom format; the default formats do not need it.
    pub request_headers: Option<&'a HeaderMap>,
    /// For `%RESP(name)%` of a custom format; the default formats do not need it.
    pub response_headers: Option<&'a HeaderMap>,
    /// The request came over TLS, as far as is known.
    pub https: bool,
    /// `None` where nothing is traced.
    pub trace: Option<TraceRecord<'a>>,
}

/// A request's trace, and what the plan says about its spans.
#[derive(Clone, Copy, Debug)]
pub struct TraceRecord<'a> {
    pub trace: &'a Trace,
    pub terms: &'a Tracing,
}

/// What became of a response that was to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionRecord {
    Compressed {
        /// The content coding's name.
        coding: &'static str,
        /// Bytes of the body, and what was made of them.
        before: u64,
        after: u64,
    },
    /// As many were compressed at that time as may be.
    NoRoom,
}

/// What a client's TLS connection agreed on.
#[derive(Clone, Copy, Debug)]
pub struct TlsRecord<'a> {
    /// `TLSv1.3`.
    pub version: &'a str,
    /// OpenSSL's name of the cipher suite.
    pub cipher: &'a str,
    /// Of the client's certificate, as RFC 2253 writes it.
    pub subject: Option<&'a str>,
}

/// A request head that was refused before it became a request.
#[derive(Clone, Copy, Debug)]
pub struct EarlyRefusal<'a> {
    /// Since the Unix epoch.
    pub start: Duration,
    /// `EarlyRefusal`, `HeaderTimeout`, `ConnectionLimit`, …
    pub kind: CauseKind,
    /// The status that was written; 0 if the connection was closed without one.
    pub status: u16,
    /// The first line of the head as far as it arrived; may be anything.
    pub request_line: &'a [u8],
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub duration: Duration,
    /// The socket that accepted the connection.
    pub listener: SocketAddr,
    pub peer: Option<SocketAddr>,
}
