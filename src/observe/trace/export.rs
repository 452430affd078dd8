//! Sends spans to a collector over OTLP, from a thread of its own.
//!
//! A request's thread puts its spans into a bounded queue or counts them as dropped; it never
//! waits. The exporter's thread sends what has gathered in batches, one at a time, each within a
//! time limit: a collector that stalls or is gone costs its spans and nothing else.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{RetryPolicy, SpanExporter as Otlp};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus::IntCounter;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;

use crate::observe::redact::Redaction;

use super::dial::{Connector, Dial};

/// Spans in one message.
const BATCH: usize = 512;

/// How long spans gather before they are sent, unless a batch is full.
const GATHER: Duration = Duration::from_millis(500);

/// Where OTLP over HTTP has its spans (OTLP specification, "OTLP/HTTP Request").
const HTTP_PATH: &str = "/v1/traces";

/// Where spans go.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// `http://collector.example:4317`, or `https` with [`Self::dial`].
    pub endpoint: String,
    pub protocol: TraceProtocol,
    /// Makes the connections where the endpoint says `https`; `None` for plain ones.
    pub dial: Option<Arc<dyn Dial>>,
    /// For sending one batch, with what is tried again.
    pub timeout: Duration,
    /// Spans that may wait; those beyond are dropped and counted.
    pub queue: usize,
    /// `service.name` of every span.
    pub service: String,
    pub redaction: Redaction,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceProtocol {
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// Why there is no exporter.
#[derive(Debug, Error)]
pub enum TraceError {
    #[error("the exporter of spans cannot start: {0}")]
    Start(#[from] std::io::Error),
    #[error("gateway.tracing: {0}")]
    Build(String),
}

/// What becomes of spans, counted.
#[derive(Clone, Debug)]
pub(in crate::observe) struct Tally {
    pub exported: IntCounter,
    /// The queue was full.
    pub crowded_out: IntCounter,
    /// The collector did not take them.
    pub refused: IntCounter,
}

/// The way to the exporter's thread. Dropping it ends the thread once what waits is sent.
#[derive(Debug)]
pub(in crate::observe) struct Exporter {
    spans: mpsc::Sender<SpanData>,
    flushes: mpsc::UnboundedSender<SyncSender<()>>,
    tally: Tally,
    pub redaction: Redaction,
}

impl Exporter {
    pub(in crate::observe) fn start(
        options: TraceOptions,
        tally: Tally,
    ) -> Result<Self, TraceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let dial = options.dial.clone();
        let connector = dial.map(|dial| Connector::new(dial, options.timeout));
        let otlp = {
            // What OTLP's clients are made of asks for the runtime they will run on.
            let _entered = runtime.enter();
            client(&options, connector.clone())?
        };
        let (spans, waiting) = mpsc::channel(options.queue.max(1));
        let (flushes, orders) = mpsc::unbounded_channel();
        let sender = Sender {
            waiting,
            orders,
            otlp,
            connector,
            limit: options.timeout,
            tally: tally.clone(),
            is_failing: false,
        };
        std::thread::Builder::new()
            .name("trace-export".into())
            .spawn(move || runtime.block_on(sender.run()))?;
        Ok(Self {
            spans,
            flushes,
            tally,
            redaction: options.redaction,
        })
    }

    /// Hands over a span, or counts it as dropped.
    pub(in crate::observe) fn give(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.tally.crowded_out.inc();
        }
    }

    /// Waits until every span so far is sent or given up. `false` if that took longer than `limit`.
    pub(in crate::observe) fn flush(&self, limit: Duration) -> bool {
        let (done, is_done) = sync_channel(1);
        self.flushes.send(done).is_ok() && is_done.recv_timeout(limit).is_ok()
    }
}

fn client(options: &TraceOptions, connector: Option<Connector>) -> Result<Otlp, TraceError> {
    let endpoint = options.endpoint.trim_end_matches('/');
    let retries = RetryPolicy::recommended();
    let wrong = |error: &dyn std::fmt::Display| TraceError::Build(error.to_string());
    let built = match options.protocol {
        TraceProtocol::Grpc => {
            let mut builder = Otlp::builder().with_tonic();
            if let Some(connector) = connector {
                let endpoint =
                    Endpoint::from_shared(endpoint.to_owned()).map_err(|error| wrong(&error))?;
                builder = builder.with_channel(endpoint.connect_with_connector_lazy(connector));
            }
            builder
                .with_endpoint(endpoint)
                .with_timeout(options.timeout)
                .with_retry_policy(retries)
                .build()
        }
        TraceProtocol::Http => {
            let mut builder = Otlp::builder().with_http();
            if let Some(connector) = connector {
                let client = HyperClient::new(connector, options.timeout, None);
                builder = builder.with_http_client(client);
            }
            builder
                .with_endpoint(with_path(endpoint))
                .with_timeout(options.timeout)
                .with_retry_policy(retries)
                .build()
        }
    };
    let mut otlp = built.map_err(|error| wrong(&error))?;
    let mut resource = Resource::builder().with_service_name(options.service.clone());
    if let Ok(host) = std::env::var("HOSTNAME") {
        resource = resource.with_attribute(KeyValue::new("service.instance.id", host));
    }
    otlp.set_resource(&resource.build());
    Ok(otlp)
}

/// The endpoint, with OTLP's own path unless it has one.
fn with_path(endpoint: &str) -> String {
    let rest = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    match rest.contains('/') {
        true => endpoint.to_owned(),
        false => format!("{endpoint}{HTTP_PATH}"),
    }
}

/// The exporter's thread.
struct Sender {
    waiting: mpsc::Receiver<SpanData>,
    orders: mpsc::UnboundedReceiver<SyncSender<()>>,
    otlp: Otlp,
    connector: Option<Connector>,
    limit: Duration,
    tally: Tally,
    is_failing: bool,
}

impl Sender {
    async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let order = tokio::select! {
                Some(order) = self.orders.recv() => Some(order),
                is_open = gather(&mut self.waiting, &mut batch) => match is_open {
                    true => None,
                    false => {
                        self.send(&mut batch).await;
                        return;
                    }
                },
            };
            self.send(&mut batch).await;
            let Some(done) = order else { continue };
            while let Ok(span) = self.waiting.try_recv() {
                batch.push(span);
                if batch.len() == BATCH {
                    self.send(&mut batch).await;
                }
            }
            self.send(&mut batch).await;
            // Nobody may be waiting any more.
            let _ = done.try_send(());
        }
    }

    async fn send(&mut self, batch: &mut Vec<SpanData>) {
        let count = batch.len() as u64;
        if count == 0 {
            return;
        }
        let failure = match timeout(self.limit, self.otlp.export(std::mem::take(batch))).await {
            Ok(Ok(())) => {
                self.tally.exported.inc_by(count);
                self.is_failing = false;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.limit),
        };
        self.tally.refused.inc_by(count);
        let failure = match self.connector.as_ref().and_then(Connector::failure) {
            Some(reason) if !failure.contains(&reason) => format!("{failure}: {reason}"),
            _ => failure,
        };
        // Once per failure, not once per batch.
        if !self.is_failing {
            log::warn!("the collector does not take spans, they are dropped: {failure}");
        }
        self.is_failing = true;
    }
}

/// Waits for a span and gathers more for a while. `false` if there will be none any more. What is
/// gathered stays in the batch when this is dropped.
async fn gather(waiting: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) -> bool {
    if batch.is_empty() && waiting.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let over = sleep(GATHER);
    tokio::pin!(over);
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        tokio::select! {
            () = &mut over => break,
            more = waiting.recv_many(batch, room) => {
                if more == 0 {
                    return false;
                }
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_a_path_gets_otlps() {
        for (endpoint, expected) in [
            ("http://a:4318", "http://a:4318/v1/traces"),
            (
                "http://a:4318/otlp/v1/traces",
                "http://a:4318/otlp/v1/traces",
            ),
        ] {
            assert_eq!(with_path(endpoint), expected);
        }
    }
}
