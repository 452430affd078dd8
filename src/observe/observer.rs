//! The one handle through which the other rooms record what happens.
//!
//! `server` makes it and tells it about plans and findings; `listener` tells it about connections
//! and refused heads; `proxy` about finished requests; `admin` prints its metrics.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use crate::base::{Cause, Finding};
use crate::plan::{Cluster, Plan};

use super::access_log::{AccessLog, AccessLogOptions};
use super::counters::Counters;
use super::record::{EarlyRefusal, Record, TraceRecord};
use super::requests::{Family, Requests, Workload};
use super::streams::{Streams, Transfer};
use super::trace::{Exporter, TraceError, TraceOptions, spans};

/// How much of a refused head's first line is logged.
const REQUEST_LINE_SHOWN: usize = 1024;

/// What to record and where.
#[derive(Clone, Debug)]
pub struct ObserveOptions {
    /// `None`: no access log, which is Istio's default.
    pub access_log: Option<AccessLogOptions>,
    /// `None`: spans are not exported.
    pub tracing: Option<TraceOptions>,
    pub workload: Workload,
    /// Series that each of Istio's request metrics may have; what would need more is counted in
    /// one with `destination_service="overflow"`.
    pub request_series: usize,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self {
            access_log: None,
            tracing: None,
            workload: Workload::default(),
            request_series: 20_000,
        }
    }
}

/// Traffic since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub requests: u64,
    /// Answered with a status from 500 on, or not at all.
    pub server_errors: u64,
    /// Open now.
    pub connections: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "requests       {}\nserver errors  {}\nconnections    {} open",
            self.requests, self.server_errors, self.connections
        )
    }
}

/// Why recording could not start.
#[derive(Debug, Error)]
pub enum ObserveError {
    #[error("the access log `{file}` cannot be opened: {source}")]
    AccessLog {
        file: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Tracing(#[from] TraceError),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Access log, metrics and traces. Shared by all threads; recording neither blocks nor, in general,
/// allocates.
#[derive(Debug)]
pub struct Observe {
    log: Option<AccessLog>,
    exporter: Option<Exporter>,
    workload: Workload,
    requests: Requests,
    streams: Streams,
    counters: Counters,
}

impl Observe {
    /// Opens the access log, starts the exporter of spans and registers the metrics.
    ///
    /// # Errors
    /// The log file cannot be opened, or the collector's address is none.
    pub fn new(options: ObserveOptions) -> Result<Arc<Self>, ObserveError> {
        let counters = Counters::new()?;
        let log = match options.access_log {
            None => None,
            Some(log) => {
                let file = log.file.clone();
                let dropped = counters.log_lines_dropped.clone();
                Some(
                    AccessLog::open(log, dropped)
                        .map_err(|source| ObserveError::AccessLog { file, source })?,
                )
            }
        };
        let exporter = match options.tracing {
            None => None,
            Some(tracing) => Some(Exporter::start(tracing, counters.spans()?)?),
        };
        let requests = Requests::new(&options.workload, options.request_series);
        Ok(Arc::new(Self {
            log,
            exporter,
            workload: options.workload,
            streams: Streams::new(requests.source()),
            requests,
            counters,
        }))
    }

    /// A request is over.
    pub fn finished(&self, record: &Record<'_>) {
        self.requests.count(record);
        if let Some(compression) = record.compression {
            self.counters.compressed(compression);
        }
        self.record(record);
    }

    /// What is told of everything that ends.
    fn record(&self, record: &Record<'_>) {
        if let Some(cause) = record.cause {
            self.counters
                .local_replies
                .with_label_values(&[cause.kind.code()])
                .inc();
        }
        if let Some(log) = &self.log {
            log.write(record);
        }
        if let Some(traced) = record.trace {
            self.export(record, traced);
        }
    }

    /// Gives the request's spans to the exporter, if it is sampled and they are wanted.
    fn export(&self, record: &Record<'_>, traced: TraceRecord<'_>) {
        if !traced.trace.is_sampled() || !traced.terms.reports {
            return;
        }
        if let Some(exporter) = &self.exporter {
            spans(record, traced, &self.workload, &exporter.redaction)
                .for_each(|span| exporter.give(span));
        }
    }

    /// A connection that is not HTTP has reached its origin.
    pub fn stream_opened(&self, cluster: Option<&Cluster>) {
        self.streams.opened(cluster);
    }

    /// Bytes of a connection that is not HTTP and goes on.
    pub fn stream_moved(&self, cluster: Option<&Cluster>, transfer: Transfer) {
        self.streams.moved(cluster, transfer);
    }

    /// A connection that is not HTTP is over. `was_opened` says whether
    /// [`stream_opened`](Self::stream_opened) was told; `rest` has the bytes not yet reported.
    pub fn stream_closed(&self, record: &Record<'_>, was_opened: bool, rest: Transfer) {
        self.streams
            .closed(record.cluster, record.flags, was_opened, rest);
        self.record(record);
    }

    /// A head was refused before it became a request: logged and counted, but no request.
    pub fn early_refusal(&self, refusal: &EarlyRefusal<'_>) {
        self.counters
            .early_refusals
            .with_label_values(&[refusal.kind.code()])
            .inc();
        let Some(log) = &self.log else { return };
        let shown = refusal
            .request_line
            .get(..REQUEST_LINE_SHOWN)
            .unwrap_or(refusal.request_line);
        let line = String::from_utf8_lossy(shown);
        let mut words = line.split_ascii_whitespace();
        let method = words.next();
        let path = words.next();
        let cause = Cause::new(
            refusal.kind,
            "the request head was refused before it was routed",
        );
        let flags = match refusal.kind.flag() {
            "-" => "",
            flag => flag,
        };
        log.write(&Record {
            start: refusal.start,
            method,
            path,
            protocol: words.next().filter(|word| word.starts_with("HTTP/")),
            status: refusal.status,
            flags,
            details: refusal.kind.details(),
            cause: Some(&cause),
            bytes_received: refusal.bytes_received,
            bytes_sent: refusal.bytes_sent,
            duration: refusal.duration,
            downstream_local_address: Some(refusal.listener),
            downstream_remote_address: refusal.peer,
            ..Record::default()
        });
    }

    /// A client's connection was accepted.
    pub fn connection_opened(&self) {
        self.counters.connections_opened.inc();
        self.counters.connections_open.inc();
    }

    /// A connection reported by [`Self::connection_opened`] is gone.
    pub fn connection_closed(&self) {
        self.counters.connections_open.dec();
    }

    /// A request's handling panicked.
    pub fn panicked(&self) {
        self.counters.panics.inc();
    }

    /// A plan went live at `at` since the Unix epoch. Forgets the series of clusters it no longer has.
    pub fn swapped(&self, plan: &Plan, at: Duration) {
        self.counters.swapped(plan.digest, at);
        let live: HashSet<&str> = plan.clusters.iter().map(|cluster| &*cluster.name).collect();
        self.requests.retain(&live);
        self.streams.retain(&live);
        self.counters.certificates(plan);
    }

    /// A TLS handshake with a client is over; `result` is one of a closed list of words.
    pub fn handshake(&self, result: &'static str) {
        self.counters.handshakes.with_label_values(&[result]).inc();
    }

    /// A load failed as a whole; what was serving still is.
    pub fn reload_failed(&self) {
        self.counters.reload_errors.inc();
    }

    /// The findings of the latest load.
    pub fn findings(&self, findings: &[Finding]) {
        self.counters.findings(findings);
    }

    /// The sockets that are open now.
    pub fn listeners_open(&self, listeners: &[SocketAddr]) {
        self.counters
            .listeners_open
            .set(i64::try_from(listeners.len()).unwrap_or(i64::MAX));
    }

    /// Opens the access log's file anew, as a rotation asks for.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Waits until every access log line so far is written; for the end of the process.
    /// `false` if that took longer than `limit`.
    pub fn flush(&self, limit: Duration) -> bool {
        self.log.as_ref().is_none_or(|log| log.flush(limit))
    }

    /// Waits until every span so far is sent or given up; for the end of the process. `false` if that
    /// took longer than `limit`.
    pub fn flush_spans(&self, limit: Duration) -> bool {
        self.exporter
            .as_ref()
            .is_none_or(|exporter| exporter.flush(limit))
    }

    /// What the admin page shows of the traffic.
    pub fn totals(&self) -> Totals {
        let (requests, server_errors) = self.requests.totals();
        Totals {
            requests,
            server_errors,
            connections: u64::try_from(self.counters.connections_open.get()).unwrap_or_default(),
        }
    }

    /// All metrics in the Prometheus text format, in pieces that are made when they are asked for.
    pub fn metrics(self: &Arc<Self>) -> impl Iterator<Item = Bytes> + Send + use<> {
        let series = self.requests.series();
        self.counters
            .request_series
            .set(i64::try_from(series).unwrap_or(i64::MAX));
        let first = self.clone();
        let rest = self.clone();
        let own = std::iter::once_with(move || first.counters.render());
        let families = Family::ALL.into_iter().flat_map(move |family| {
            let observe = rest.clone();
            (0..observe.requests.pieces()).map(move |piece| observe.requests.render(family, piece))
        });
        let streams = self.clone();
        let tcp = std::iter::once_with(move || streams.streams.render());
        own.chain(families)
            .chain(tcp)
            .filter(|piece| !piece.is_empty())
            .map(Bytes::from)
    }
}

#[cfg(test)]
mod tests;
