//! Istio's standard request metrics: one series per cluster, status, flags
//! and protocol.
//!
//! The series are our own rather than four `prometheus` vectors: the four metrics of a request
//! share 25 labels, so that one look-up, six atomic additions and one stored label text serve
//! all of them, where the crate would hash and store the labels four times (about 10 KB a
//! series instead of 1.5 KB). Every label comes from configuration, from the gateway or from a
//! closed set, so no client can add a series.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::plan::Cluster;

use super::histogram::Histogram;
use super::record::Record;

/// Shards of the series map, so that threads seldom meet at one lock.
const SHARDS: usize = 16;

const LAST_GRPC_STATUS: u16 = 16;

/// In the place of what tells series apart, once there are as many as there may be.
const OVERFLOW: &str = "overflow";

/// Who reports: the `source_*` labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `istio-ingressgateway`
    pub name: String,
    /// `istio-system`
    pub namespace: String,
    pub app: String,
    pub version: String,
    /// `Kubernetes`
    pub cluster: String,
    pub canonical_service: String,
    pub canonical_revision: String,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            name: "istio-ingressgateway".into(),
            namespace: "istio-system".into(),
            app: "istio-ingressgateway".into(),
            version: "unknown".into(),
            cluster: "Kubernetes".into(),
            canonical_service: "istio-ingressgateway".into(),
            canonical_revision: "latest".into(),
        }
    }
}

/// The four metrics of finished requests.
#[derive(Debug)]
pub(super) struct Requests {
    /// The labels every series shares, rendered.
    source: String,
    hasher: foldhash::fast::RandomState,
    shards: Vec<RwLock<Shard>>,
    /// How many series there may be, and are.
    most: usize,
    used: AtomicUsize,
    /// Counts what would need a series more.
    overflow: Arc<Series>,
}

/// Cluster name (empty: unrouted) to its series; a cluster has few.
type Shard = HashMap<Arc<str>, Vec<(Variant, Arc<Series>)>, foldhash::fast::RandomState>;

/// What tells the series of one cluster apart.
#[derive(Debug, PartialEq, Eq)]
struct Variant {
    status: u16,
    grpc: bool,
    grpc_status: Option<u16>,
    flags: Box<str>,
}

#[derive(Debug)]
struct Series {
    labels: Box<str>,
    /// Microseconds.
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

/// One of the four metrics, in the order printed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    Requests,
    Duration,
    RequestBytes,
    ResponseBytes,
}

impl Requests {
    /// With room for `most` series in each of the four metrics.
    pub(super) fn new(workload: &Workload, most: usize) -> Self {
        let mut source = String::from("reporter=\"source\"");
        for (name, value) in [
            ("workload", workload.name.as_str()),
            ("canonical_service", &workload.canonical_service),
            ("canonical_revision", &workload.canonical_revision),
            ("workload_namespace", &workload.namespace),
            ("principal", "unknown"),
            ("app", &workload.app),
            ("version", &workload.version),
            ("cluster", &workload.cluster),
        ] {
            push_label(&mut source, &format!("source_{name}"), value);
        }
        Self {
            hasher: foldhash::fast::RandomState::default(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            most,
            used: AtomicUsize::new(0),
            overflow: Arc::new(Series::overflow(&source)),
            source,
        }
    }

    /// The labels about who reports, which all series share.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Counts one finished request.
    pub(super) fn count(&self, record: &Record<'_>) {
        let status = if (100..600).contains(&record.status) {
            record.status
        } else {
            0
        };
        let grpc_status = record
            .grpc_status
            .filter(|_| record.grpc)
            .map(|status| status.min(LAST_GRPC_STATUS + 1));
        let flags = if record.flags.is_empty() {
            "-"
        } else {
            record.flags
        };
        let name = record.cluster.map_or("", |cluster| &*cluster.name);
        let Some(shard) = self
            .shards
            .get(self.hasher.hash_one(name) as usize % SHARDS)
        else {
            return;
        };
        let is_it = |variant: &Variant| {
            variant.status == status
                && variant.grpc == record.grpc
                && variant.grpc_status == grpc_status
                && *variant.flags == *flags
        };
        {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let known = shard
                .get(name)
                .and_then(|series| series.iter().find(|(variant, _)| is_it(variant)));
            if let Some((_, series)) = known {
                series.count(record);
                return;
            }
        }
        // Origins choose statuses: hundreds of them for every cluster would be too many.
        if self.used.load(Ordering::Relaxed) >= self.most {
            self.overflow.count(record);
            return;
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let all = shard.entry(name.into()).or_default();
        if let Some((_, series)) = all.iter().find(|(variant, _)| is_it(variant)) {
            series.count(record);
            return;
        }
        self.used.fetch_add(1, Ordering::Relaxed);
        let variant = Variant {
            status,
            grpc: record.grpc,
            grpc_status,
            flags: flags.into(),
        };
        let series = Arc::new(Series::new(&self.source, record.cluster, &variant));
        series.count(record);
        all.push((variant, series));
    }

    /// Forgets the clusters that no plan names any more.
    pub(super) fn retain(&self, live: &HashSet<&str>) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|name, series| {
                let is_live = name.is_empty() || live.contains(&**name);
                if !is_live {
                    self.used.fetch_sub(series.len(), Ordering::Relaxed);
                }
                is_live
            });
        }
    }

    /// How many series each of the four metrics has.
    pub(super) fn series(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Requests counted in the common series because there was no room for their own.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflow.duration.total()
    }

    /// All requests, and those answered with a status from 500 on or not at all.
    pub(super) fn totals(&self) -> (u64, u64) {
        let mut totals = (self.overflowed(), 0);
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for (variant, series) in shard.values().flatten() {
                let count = series.duration.total();
                totals.0 += count;
                if !matches!(variant.status, 1..500) {
                    totals.1 += count;
                }
            }
        }
        totals
    }

    /// How many pieces the text of a family comes in.
    pub(super) fn pieces(&self) -> usize {
        self.shards.len()
    }

    /// One piece of a family's text. Piecewise, because the whole can be hundreds of megabytes.
    pub(super) fn render(&self, family: Family, piece: usize) -> String {
        let mut text = String::new();
        if piece == 0 {
            let (name, kind) = (family.name(), family.kind());
            let _ = writeln!(
                text,
                "# HELP {name} {}\n# TYPE {name} {kind}",
                family.help()
            );
        }
        // Copied out, so that no request waits for the rendering.
        let series: Vec<Arc<Series>> = match self.shards.get(piece) {
            Some(shard) => shard
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .flatten()
                .map(|(_, series)| series.clone())
                .collect(),
            None => Vec::new(),
        };
        let last = piece + 1 == self.shards.len() && self.overflowed() > 0;
        for series in series.iter().chain(last.then_some(&self.overflow)) {
            match family {
                Family::Requests => {
                    let _ = writeln!(
                        text,
                        "{}{{{}}} {}",
                        family.name(),
                        series.labels,
                        series.duration.total()
                    );
                }
                Family::Duration => {
                    series
                        .duration
                        .render(family.name(), &series.labels, 1_000, &mut text)
                }
                Family::RequestBytes => {
                    series
                        .request_bytes
                        .render(family.name(), &series.labels, 1, &mut text)
                }
                Family::ResponseBytes => {
                    series
                        .response_bytes
                        .render(family.name(), &series.labels, 1, &mut text)
                }
            }
        }
        text
    }
}

impl Family {
    pub(super) const ALL: [Self; 4] = [
        Self::Requests,
        Self::Duration,
        Self::RequestBytes,
        Self::ResponseBytes,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "istio_requests_total",
            Self::Duration => "istio_request_duration_milliseconds",
            Self::RequestBytes => "istio_request_bytes",
            Self::ResponseBytes => "istio_response_bytes",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Requests => "counter",
            _ => "histogram",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Requests => "Requests handled by the gateway.",
            Self::Duration => "Duration of requests in milliseconds.",
            Self::RequestBytes => "Bytes of request bodies.",
            Self::ResponseBytes => "Bytes of response bodies.",
        }
    }
}

impl Series {
    fn new(source: &str, cluster: Option<&Cluster>, variant: &Variant) -> Self {
        let mut labels = source.to_owned();
        destination_labels(&mut labels, cluster);
        push_label(
            &mut labels,
            "request_protocol",
            if variant.grpc { "grpc" } else { "http" },
        );
        push_label(&mut labels, "response_code", &variant.status.to_string());
        push_label(
            &mut labels,
            "grpc_response_status",
            &match variant.grpc_status {
                None => String::new(),
                Some(status) if status <= LAST_GRPC_STATUS => status.to_string(),
                Some(_) => "unknown".to_owned(),
            },
        );
        push_label(&mut labels, "response_flags", &variant.flags);
        push_label(&mut labels, "connection_security_policy", "unknown");
        Self {
            labels: labels.into(),
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
        }
    }

    fn overflow(source: &str) -> Self {
        let mut labels = source.to_owned();
        for name in ["destination_service", "response_code", "response_flags"] {
            push_label(&mut labels, name, OVERFLOW);
        }
        Self {
            labels: labels.into(),
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
        }
    }

    fn count(&self, record: &Record<'_>) {
        let micros = u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX);
        self.duration.observe(micros, micros);
        self.request_bytes.observe(
            record.bytes_received.saturating_mul(1_000),
            record.bytes_received,
        );
        self.response_bytes
            .observe(record.bytes_sent.saturating_mul(1_000), record.bytes_sent);
    }
}

/// The labels about where to; requests and connections share them.
pub(super) fn destination_labels(labels: &mut String, cluster: Option<&Cluster>) {
    for name in [
        "workload",
        "workload_namespace",
        "principal",
        "app",
        "version",
        "cluster",
        "canonical_service",
        "canonical_revision",
    ] {
        push_label(labels, &format!("destination_{name}"), "unknown");
    }
    let (service, name, namespace) = match cluster {
        Some(cluster) => (
            &*cluster.host,
            &*cluster.service_name,
            &*cluster.service_namespace,
        ),
        // Not the Host or server name: a client would choose the label.
        None => ("unknown", "unknown", "unknown"),
    };
    push_label(labels, "destination_service", service);
    push_label(labels, "destination_service_name", name);
    push_label(labels, "destination_service_namespace", namespace);
}

/// Appends `,name="value"`, escaped as the text format asks.
pub(super) fn push_label(labels: &mut String, name: &str, value: &str) {
    let _ = write!(labels, ",{name}=\"");
    for c in value.chars() {
        match c {
            '"' => labels.push_str("\\\""),
            '\\' => labels.push_str("\\\\"),
            '\n' => labels.push_str("\\n"),
            c => labels.push(c),
        }
    }
    labels.push('"');
}

#[cfg(test)]
mod tests;
