//! What the gateway counts about itself: `pingress_*`, in a registry of its own.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::base::tls_material::KeyKind;
use crate::base::{Finding, Severity};
use crate::plan::{Digest, Plan};

use super::record::CompressionRecord;
use super::trace::Tally;

/// The metrics, and the registry that prints them.
#[derive(Debug)]
pub(super) struct Counters {
    registry: Registry,
    pub(super) local_replies: IntCounterVec,
    pub(super) early_refusals: IntCounterVec,
    pub(super) connections_opened: IntCounter,
    pub(super) connections_open: IntGauge,
    pub(super) handshakes: IntCounterVec,
    certificate_expiry: GaugeVec,
    pub(super) panics: IntCounter,
    compressed: IntCounterVec,
    compressed_bytes: IntCounterVec,
    pub(super) log_lines_dropped: IntCounter,
    pub(super) reload_errors: IntCounter,
    pub(super) listeners_open: IntGauge,
    pub(super) request_series: IntGauge,
    swaps: IntCounter,
    last_swap: Gauge,
    plan: IntGaugeVec,
    findings: IntGaugeVec,
}

impl Counters {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let made = Self {
            registry: Registry::new(),
            local_replies: IntCounterVec::new(
                Opts::new(
                    "pingress_local_replies_total",
                    "Answers the gateway gave itself, by cause.",
                ),
                &["cause"],
            )?,
            early_refusals: IntCounterVec::new(
                Opts::new(
                    "pingress_early_refusals_total",
                    "Heads refused before they became a request, by cause.",
                ),
                &["cause"],
            )?,
            connections_opened: IntCounter::new(
                "pingress_connections_total",
                "Connections accepted from clients.",
            )?,
            connections_open: IntGauge::new(
                "pingress_connections_open",
                "Connections from clients open now.",
            )?,
            handshakes: IntCounterVec::new(
                Opts::new(
                    "pingress_tls_handshakes_total",
                    "TLS handshakes with clients: full, resumed, passed (through to the origin), or why they failed.",
                ),
                &["result"],
            )?,
            certificate_expiry: GaugeVec::new(
                Opts::new(
                    "pingress_certificate_expiry_timestamp_seconds",
                    "When a server's certificate expires, since the Unix epoch.",
                ),
                &["server", "key"],
            )?,
            compressed: IntCounterVec::new(
                Opts::new(
                    "pingress_compressed_responses_total",
                    "Responses that were compressed, by coding; `none` are those for which there was no room.",
                ),
                &["coding"],
            )?,
            compressed_bytes: IntCounterVec::new(
                Opts::new(
                    "pingress_compressed_response_bytes_total",
                    "Bytes of compressed responses' bodies, before and after.",
                ),
                &["coding", "side"],
            )?,
            panics: IntCounter::new("pingress_panics_total", "Requests that ended in a panic.")?,
            log_lines_dropped: IntCounter::new(
                "pingress_access_log_lines_dropped_total",
                "Access log lines lost because the log was not written fast enough.",
            )?,
            reload_errors: IntCounter::new(
                "pingress_reload_errors_total",
                "Loads of the configuration that failed.",
            )?,
            listeners_open: IntGauge::new(
                "pingress_listeners_open",
                "Listening sockets open now.",
            )?,
            request_series: IntGauge::new(
                "pingress_request_series",
                "Combinations of cluster, status, flags and protocol in istio_requests_total.",
            )?,
            swaps: IntCounter::new("pingress_plan_swaps_total", "Plans that went live.")?,
            last_swap: Gauge::new(
                "pingress_plan_last_swap_timestamp_seconds",
                "When the serving plan went live, since the Unix epoch.",
            )?,
            plan: IntGaugeVec::new(
                Opts::new("pingress_plan_info", "The serving plan's digest."),
                &["digest"],
            )?,
            findings: IntGaugeVec::new(
                Opts::new(
                    "pingress_findings",
                    "Findings about the configuration, by severity.",
                ),
                &["severity"],
            )?,
        };
        let build = IntGaugeVec::new(
            Opts::new("pingress_build_info", "The version of the gateway."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        made.findings(&[]);
        made.registry.register(Box::new(build))?;
        made.register()?;
        Ok(made)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let collectors: [Box<dyn prometheus::core::Collector>; 17] = [
            Box::new(self.local_replies.clone()),
            Box::new(self.early_refusals.clone()),
            Box::new(self.connections_opened.clone()),
            Box::new(self.connections_open.clone()),
            Box::new(self.handshakes.clone()),
            Box::new(self.certificate_expiry.clone()),
            Box::new(self.panics.clone()),
            Box::new(self.compressed.clone()),
            Box::new(self.compressed_bytes.clone()),
            Box::new(self.log_lines_dropped.clone()),
            Box::new(self.reload_errors.clone()),
            Box::new(self.listeners_open.clone()),
            Box::new(self.request_series.clone()),
            Box::new(self.swaps.clone()),
            Box::new(self.last_swap.clone()),
            Box::new(self.plan.clone()),
            Box::new(self.findings.clone()),
        ];
        collectors
            .into_iter()
            .try_for_each(|collector| self.registry.register(collector))
    }

    /// Registers the counters of spans; only where there are any.
    pub(super) fn spans(&self) -> Result<Tally, prometheus::Error> {
        let exported = IntCounter::new(
            "pingress_trace_spans_exported_total",
            "Spans that the collector took.",
        )?;
        let dropped = IntCounterVec::new(
            Opts::new(
                "pingress_trace_spans_dropped_total",
                "Spans lost: the queue was full, or the collector did not take them.",
            ),
            &["reason"],
        )?;
        self.registry.register(Box::new(exported.clone()))?;
        self.registry.register(Box::new(dropped.clone()))?;
        Ok(Tally {
            exported,
            crowded_out: dropped.with_label_values(&["queue_full"]),
            refused: dropped.with_label_values(&["export_failed"]),
        })
    }

    /// A response that was to be compressed is over.
    pub(super) fn compressed(&self, record: CompressionRecord) {
        let CompressionRecord::Compressed {
            coding,
            before,
            after,
        } = record
        else {
            self.compressed.with_label_values(&["none"]).inc();
            return;
        };
        self.compressed.with_label_values(&[coding]).inc();
        for (side, bytes) in [("before", before), ("after", after)] {
            let counter = self.compressed_bytes.with_label_values(&[coding, side]);
            counter.inc_by(bytes);
        }
    }

    pub(super) fn swapped(&self, digest: Digest, at: Duration) {
        self.swaps.inc();
        self.last_swap.set(at.as_secs_f64());
        self.plan.reset();
        self.plan.with_label_values(&[&digest.to_string()]).set(1);
    }

    /// The certificates that are served now.
    pub(super) fn certificates(&self, plan: &Plan) {
        self.certificate_expiry.reset();
        for server in plan.tls.iter().flat_map(|socket| &socket.servers) {
            let Some(terms) = server.service.terms() else {
                continue;
            };
            for pair in &terms.pairs {
                let kind = match pair.kind() {
                    KeyKind::Rsa => "rsa",
                    KeyKind::Ecdsa => "ecdsa",
                    KeyKind::Other => "other",
                };
                self.certificate_expiry
                    .with_label_values(&[&*server.name, kind])
                    .set(pair.validity().until as f64);
            }
        }
    }

    pub(super) fn findings(&self, findings: &[Finding]) {
        for severity in [Severity::Info, Severity::Warning, Severity::Error] {
            let count = findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .count();
            self.findings
                .with_label_values(&[severity.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// In the Prometheus text format.
    pub(super) fn render(&self) -> String {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => text,
            // Only names and labels of ours could be at fault.
            Err(error) => format!("# the gateway's own metrics cannot be printed: {error}\n"),
        }
    }
}
