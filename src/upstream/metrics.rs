//! What is counted per cluster, as metrics. Written when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::observe::Exposition;
use crate::policy::rate_limit::state::{Fate, LimitTotals};

use super::{BreakerView, ClusterState, CopyResult, Upstreams};

impl Upstreams {
    /// The clusters' metrics in the Prometheus text format. A cluster without outlier
    /// detection, health check and limits has none.
    pub fn metrics(&self) -> String {
        let mut clusters = self.clusters();
        clusters.sort_by(|a, b| a.detector.cluster.cmp(&b.detector.cluster));
        let mut out = Exposition::default();
        limits(&clusters, &mut out);
        ejections(&clusters, &mut out);
        copies(&clusters, &mut out);
        self.probes(&clusters, &mut out);
        rates(&self.rates(), &mut out);
        failures(&self.failures(), &mut out);
        buckets(&self.bucket_bytes(), &mut out);
        out.into_text()
    }

    fn probes(&self, clusters: &[Arc<ClusterState>], out: &mut Exposition) {
        let mut clusters = clusters
            .iter()
            .filter(|cluster| cluster.definition.load().health_check.is_some())
            .peekable();
        if clusters.peek().is_none() {
            return;
        }
        out.family(
            "pingress_upstream_probes_total",
            "counter",
            "Probes of endpoints, by result. An endpoint of several clusters is probed once.",
        );
        let totals = self.probe_totals();
        for (result, total) in [("passed", &totals.passed), ("failed", &totals.failed)] {
            out.sample(&[("result", result)], total.load(Ordering::Relaxed));
        }
        out.family(
            "pingress_upstream_failing",
            "gauge",
            "Endpoints that are out of traffic because they fail their probe.",
        );
        for cluster in clusters {
            let labels = [("cluster", &*cluster.detector.cluster)];
            out.sample(&labels, cluster.failing());
        }
    }
}

/// What limits on the rate of requests do.
fn rates(totals: &LimitTotals, out: &mut Exposition) {
    if totals.is_empty() {
        return;
    }
    out.family(
        "pingress_rate_limited_requests_total",
        "counter",
        "Requests that a limit on their rate concerned, by what became of them.",
    );
    for ((policy, limit), counts) in totals {
        for (fate, count) in Fate::ALL.iter().zip(counts) {
            let labels = [
                ("policy", &**policy),
                ("limit", &*limit.to_string()),
                ("result", fate.code()),
            ];
            out.sample(&labels, count);
        }
    }
}

/// How often those who count for limits could not be asked.
fn failures(failures: &BTreeMap<Arc<str>, u64>, out: &mut Exposition) {
    if failures.is_empty() {
        return;
    }
    out.family(
        "pingress_rate_limit_errors_total",
        "counter",
        "Times that the rate limit service or the Redis that counts for a policy could not be asked.",
    );
    for (policy, count) in failures {
        out.sample(&[("policy", &**policy)], count);
    }
}

/// What limits on the rate of requests keep in memory.
fn buckets(bytes: &BTreeMap<(Arc<str>, usize), usize>, out: &mut Exposition) {
    if bytes.is_empty() {
        return;
    }
    out.family(
        "pingress_rate_limit_bytes",
        "gauge",
        "Memory of a limit's buckets, at most 32 bytes for each key that it may count apart.",
    );
    for ((policy, limit), bytes) in bytes {
        let limit = limit.to_string();
        out.sample(&[("policy", &**policy), ("limit", &*limit)], bytes);
    }
}

/// What became of the copies that mirrors get.
fn copies(clusters: &[Arc<ClusterState>], out: &mut Exposition) {
    let counts = |cluster: &&Arc<ClusterState>| cluster.copies.is_used();
    let mirrors: Vec<_> = clusters.iter().filter(counts).collect();
    if mirrors.is_empty() {
        return;
    }
    out.family(
        "pingress_mirrored_requests_total",
        "counter",
        "Copies of requests that mirrors were to get, by result.",
    );
    for cluster in &mirrors {
        for result in CopyResult::ALL {
            let labels = [
                ("cluster", &*cluster.detector.cluster),
                ("result", result.code()),
            ];
            out.sample(&labels, cluster.copies.read(result));
        }
    }
    out.family(
        "pingress_mirrored_requests_active",
        "gauge",
        "Copies of requests that are under way.",
    );
    for cluster in &mirrors {
        let labels = [("cluster", &*cluster.detector.cluster)];
        out.sample(&labels, cluster.copies.active());
    }
}

fn ejections(clusters: &[Arc<ClusterState>], out: &mut Exposition) {
    let counts: Vec<_> = clusters
        .iter()
        .map(|cluster| (&*cluster.detector.cluster, cluster.ejections()))
        .filter(|(_, counts)| counts.on)
        .collect();
    if counts.is_empty() {
        return;
    }
    out.family(
        "pingress_upstream_ejections_total",
        "counter",
        "Endpoints that outlier detection took out of traffic, by reason.",
    );
    for (cluster, counts) in &counts {
        for (reason, total) in &counts.total {
            let labels = [("cluster", *cluster), ("reason", reason.code())];
            out.sample(&labels, total);
        }
    }
    out.family(
        "pingress_upstream_ejections_overflow_total",
        "counter",
        "Ejections that maxEjectionPercent did not allow.",
    );
    for (cluster, counts) in &counts {
        out.sample(&[("cluster", *cluster)], counts.overflows);
    }
    out.family(
        "pingress_upstream_ejected",
        "gauge",
        "Endpoints that are ejected now.",
    );
    for (cluster, counts) in &counts {
        out.sample(&[("cluster", *cluster)], counts.ejected);
    }
}

/// What the limits of connection pools do.
fn limits(clusters: &[Arc<ClusterState>], out: &mut Exposition) {
    type Read = fn(&BreakerView) -> u64;
    let limited: Vec<_> = clusters
        .iter()
        .filter_map(|cluster| Some((&*cluster.detector.cluster, cluster.limits()?)))
        .collect();
    if limited.is_empty() {
        return;
    }
    let families: [(&str, &str, &str, Read); 4] = [
        (
            "pingress_upstream_overflows_total",
            "counter",
            "Requests refused because a limit of the connection pool was reached.",
            |limits| limits.overflows,
        ),
        (
            "pingress_upstream_pending_requests",
            "gauge",
            "Requests that wait for a connection.",
            |limits| limits.pending as u64,
        ),
        (
            "pingress_upstream_connections",
            "gauge",
            "HTTP/1.1 connections, where their number is limited.",
            |limits| limits.connections as u64,
        ),
        (
            "pingress_upstream_limited_requests",
            "gauge",
            "Requests that count against http2MaxRequests.",
            |limits| limits.requests as u64,
        ),
    ];
    for (name, kind, help, read) in families {
        out.family(name, kind, help);
        for (cluster, limits) in &limited {
            out.sample(&[("cluster", *cluster)], read(limits));
        }
    }
}
