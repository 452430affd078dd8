//! What `gateway.tracing` means to the compiler and to the exporter.

use std::sync::Arc;

use http::Uri;

use crate::base::Share;
use crate::observe::{Dial, Redaction, TraceOptions, TraceProtocol};
use crate::plan::tracing::{Propagation, Tracing};

use super::Settings;
use super::gateway::TracingTls;
use super::value::{OtlpProtocol, TraceHeaders};
use crate::server::collector::Collector;

impl Settings {
    /// Checks what types cannot.
    pub(super) fn verify_tracing(&self) -> Result<(), String> {
        let tracing = &self.gateway.tracing;
        if !(0.0..=100.0).contains(&tracing.sampling) {
            return Err(format!(
                "gateway.tracing.sampling: {} is not a percentage, 0 to 100",
                tracing.sampling
            ));
        }
        if tracing.propagation.is_empty() {
            return Err("gateway.tracing.propagation is empty, so that no trace would go on; name at least one of tracecontext, b3 and b3multi".into());
        }
        for (name, tag) in &tracing.custom_tags {
            tag.compiled(name)
                .map_err(|error| format!("gateway.tracing.customTags.{name}: {error}"))?;
        }
        if tracing.queue == 0 {
            return Err("gateway.tracing.queue: 0 would drop every span; unset gateway.tracing.endpoint to trace nothing".into());
        }
        if tracing.timeout.0.is_zero() {
            return Err("gateway.tracing.timeout: 0s would drop every span".into());
        }
        let tls = &tracing.tls;
        if tls.client_certificate.is_empty() != tls.private_key.is_empty() {
            return Err("gateway.tracing.tls: clientCertificate and privateKey go together; set both or neither".into());
        }
        if tracing.endpoint.is_empty() {
            return Ok(());
        }
        let wrong = |what: &str| {
            Err(format!(
                "gateway.tracing.endpoint: `{}` {what}; write for example http://collector.observability:4317",
                tracing.endpoint
            ))
        };
        let Ok(url) = tracing.endpoint.parse::<Uri>() else {
            return wrong("is not a URL");
        };
        match url.scheme_str() {
            Some("http") if *tls != TracingTls::default() => {
                return wrong(
                    "is spoken to without TLS, so that gateway.tracing.tls has no effect",
                );
            }
            Some("http" | "https") => {}
            _ => return wrong("does not begin with http:// or https://"),
        }
        let has_path = !matches!(url.path(), "" | "/") || url.query().is_some();
        if has_path && tracing.protocol == OtlpProtocol::Grpc {
            return wrong("has a path, which the protocol grpc has no use for");
        }
        Ok(())
    }

    /// What is traced unless Telemetry resources say otherwise.
    pub(super) fn traces(&self) -> Option<Tracing> {
        let tracing = &self.gateway.tracing;
        (!tracing.endpoint.is_empty()).then(|| Tracing {
            sampling: Share::of_percent(tracing.sampling),
            propagation: tracing
                .propagation
                .iter()
                .map(|headers| match headers {
                    TraceHeaders::TraceContext => Propagation::TraceContext,
                    TraceHeaders::B3 => Propagation::B3,
                    TraceHeaders::B3Multi => Propagation::B3Multi,
                })
                .collect(),
            tags: tracing
                .custom_tags
                .iter()
                // `verify_tracing` has refused those that are wrong.
                .filter_map(|(name, tag)| tag.compiled(name).ok())
                .collect(),
            ..Tracing::default()
        })
    }

    /// Where spans go.
    pub(super) fn trace_options(&self) -> Option<TraceOptions> {
        let gateway = &self.gateway;
        let tracing = &gateway.tracing;
        (!tracing.endpoint.is_empty()).then(|| TraceOptions {
            endpoint: tracing.endpoint.clone(),
            protocol: match tracing.protocol {
                OtlpProtocol::Grpc => TraceProtocol::Grpc,
                OtlpProtocol::Http => TraceProtocol::Http,
            },
            dial: self
                .collector()
                .map(|collector| Arc::new(collector) as Arc<dyn Dial>),
            timeout: tracing.timeout.0,
            queue: tracing.queue,
            service: match tracing.service_name.as_str() {
                "" => format!("{}.{}", gateway.workload, gateway.namespace),
                name => name.to_owned(),
            },
            redaction: Redaction::new(gateway.access_log.hidden_parameters.iter().cloned()),
        })
    }

    /// The collector where spans go over TLS.
    pub(in crate::server) fn collector(&self) -> Option<Collector> {
        let tracing = &self.gateway.tracing;
        let url = tracing.endpoint.parse::<Uri>().ok()?;
        if url.scheme_str() != Some("https") {
            return None;
        }
        // An address of version 6 has brackets in a URL, and nowhere else.
        let host = url.host()?.trim_matches(['[', ']']);
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let tls = &tracing.tls;
        let own = set(&tls.client_certificate).zip(set(&tls.private_key));
        Some(Collector {
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(443),
            server_name: set(&tls.server_name).unwrap_or_else(|| host.to_owned()),
            is_grpc: tracing.protocol == OtlpProtocol::Grpc,
            authorities: set(&tls.ca_certificates),
            certificate: own,
        })
    }
}
