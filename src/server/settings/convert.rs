//! What each room gets from the settings.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pingora_core::server::configuration::ServerConf;

use crate::base::{Cidr, Share};
use crate::compile::{Options, retry_policy};
use crate::listener::{ListenerLimits, ProxyProtocol};
use crate::model::istio::virtual_service::Retry;
use crate::model::tls_files::WorkloadFiles;
use crate::observe::{
    AccessLogOptions, LogEncoding, LogFormat, ObserveOptions, Redaction, Wanted, Workload,
};
use crate::plan::{ForwardClientCert, HttpOptions, PathNormalization, RetryPolicy};
use crate::proxy::{Limits, MAX_ATTEMPTS, MirrorLimits, RETRY_BODY};
use crate::upstream::{DnsOptions, Locals};

use crate::server::handover::Folder;

use super::value::{ClientCertDetails, Encoding, Normalization, UpgradePolicy};
use super::{Profile, Settings};

/// Of one source in a second, under the edge profile (edge-hardening section 5).
const EDGE_HANDSHAKES: u32 = 100;

/// What Linux takes.
const TCP_KEEPALIVE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(32_767);

impl Settings {
    /// Checks what types cannot: addresses, ports that collide.
    pub(super) fn verify(&self) -> Result<(), String> {
        let gateway = &self.gateway;
        for (key, text) in [
            ("gateway.admin.bind", &gateway.admin.bind),
            ("gateway.status.bind", &gateway.status.bind),
            ("gateway.metrics.bind", &gateway.metrics.bind),
        ] {
            address(key, text)?;
        }
        let mut bound = BTreeSet::new();
        for (declared, port) in &gateway.ports {
            if *declared == 0 || *port == 0 {
                return Err(format!(
                    "gateway.ports: port 0 in `{declared}: {port}`; ports are 1 to 65535"
                ));
            }
            if !bound.insert(port) {
                return Err(format!(
                    "gateway.ports: two declared ports are mapped to {port}; give each its own"
                ));
            }
        }
        if gateway.bind.is_empty() {
            return Err(
                "gateway.bind is empty; name at least one address, for example 0.0.0.0".into(),
            );
        }
        if gateway.replicas == Some(0) {
            return Err("gateway.replicas: 0 replicas serve nothing; write how many run".into());
        }
        let sampled = gateway.access_log.sampled;
        if !(0.0..=100.0).contains(&sampled) {
            return Err(format!(
                "gateway.accessLog.sampled: {sampled} is not a percentage, 0 to 100"
            ));
        }
        // Pingora panics at one that is none.
        for text in &self.client_bind_to_ipv4 {
            if text.parse::<Ipv4Addr>().is_err() {
                return Err(format!("client_bind_to_ipv4: `{text}` is no IPv4 address"));
            }
        }
        for text in &self.client_bind_to_ipv6 {
            if text.parse::<Ipv6Addr>().is_err() {
                return Err(format!("client_bind_to_ipv6: `{text}` is no IPv6 address"));
            }
        }
        if self.max_retries == 0 {
            return Err("max_retries: 0 would send no request at all; use 1 for no retries".into());
        }
        if gateway.limits.retry_body > RETRY_BODY {
            return Err(format!(
                "gateway.limits.retryBody: {} is more than the {RETRY_BODY} bytes that are kept",
                gateway.limits.retry_body
            ));
        }
        let silence = gateway.limits.tcp_keepalive.0;
        if !silence.is_zero() && !TCP_KEEPALIVE.contains(&silence) {
            return Err(
                "gateway.limits.tcpKeepalive: write 1s to 32767s, or 0s for no probes".into(),
            );
        }
        self.server_header()?;
        self.verify_http2()?;
        self.observe_options()?;
        self.verify_tracing()?;
        self.proxy_protocol()?;
        self.default_retry()
            .map_err(|message| format!("gateway.mesh.defaultHttpRetryPolicy: {message}"))?;
        Ok(())
    }

    /// `server` of every answer.
    fn server_header(&self) -> Result<Option<HeaderValue>, String> {
        let server = &self.gateway.mesh.default_config.proxy_headers.server;
        if server.disabled {
            return Ok(None);
        }
        let value = HeaderValue::from_str(&server.value);
        value.map(Some).map_err(|_| {
            format!(
                "gateway.mesh.defaultConfig.proxyHeaders.server.value: `{}` is no value of a header; use visible ASCII characters",
                server.value.escape_debug()
            )
        })
    }

    /// Where a successor of this process connects.
    ///
    /// # Errors
    /// `gateway.admin.bind` is no address.
    pub fn upgrade_folder(&self) -> Result<Folder, String> {
        let admin = address("gateway.admin.bind", &self.gateway.admin.bind)?;
        Ok(Folder::of(&self.gateway.upgrade.folder, admin.port()))
    }

    /// What rules without `retries` do.
    fn default_retry(&self) -> Result<Option<Arc<RetryPolicy>>, String> {
        let written = &self.gateway.mesh.default_http_retry_policy;
        retry_policy(&Retry {
            attempts: Some(written.attempts),
            per_try_timeout: written.per_try_timeout.clone(),
            retry_on: Some(written.retry_on.clone()),
            retry_remote_localities: Some(written.retry_remote_localities),
            retry_ignore_previous_hosts: Some(written.retry_ignore_previous_hosts),
            backoff: Some(written.backoff.clone()),
        })
    }

    /// The compiler's view.
    pub fn compile_options(&self) -> Options {
        let gateway = &self.gateway;
        let mesh = &gateway.mesh;
        Options {
            labels: gateway.labels.clone(),
            namespace: gateway.namespace.as_str().into(),
            locality: gateway.locality.as_str().into(),
            locality_failover: mesh.locality_lb_setting.enabled,
            root_namespace: mesh.root_namespace.as_str().into(),
            trust_domains: std::iter::once(&mesh.trust_domain)
                .chain(&mesh.trust_domain_aliases)
                .cloned()
                .collect(),
            domain: gateway.dns.cluster_domain.as_str().into(),
            ports: gateway.ports.clone(),
            bind: gateway.bind.clone(),
            http: self.http_options(),
            replicas: gateway.replicas.and_then(NonZeroU32::new),
            accept_unenforced: gateway.accept_unenforced.clone(),
            virtual_service_export_to: mesh.default_virtual_service_export_to.clone(),
            destination_rule_export_to: mesh.default_destination_rule_export_to.clone(),
            service_export_to: mesh.default_service_export_to.clone(),
            // `verify` has refused a policy that cannot be read.
            default_retry: self.default_retry().unwrap_or_default(),
            h2_upgrade: mesh.h2_upgrade_policy == UpgradePolicy::Upgrade,
            grpc_web: gateway.grpc_web,
            workload: self.workload_files(),
            tracing: self.traces(),
            trace_provider: gateway.tracing.provider.as_str().into(),
        }
    }

    /// Where the mesh's certificates are.
    pub fn workload_files(&self) -> WorkloadFiles {
        let files = &self.gateway.workload_certificates;
        WorkloadFiles {
            certificate: files.certificate.as_str().into(),
            key: files.private_key.as_str().into(),
            authorities: files.ca_certificates.as_str().into(),
        }
    }

    fn http_options(&self) -> HttpOptions {
        let config = &self.gateway.mesh.default_config;
        let headers = &config.proxy_headers;
        let edge = self.gateway.profile == Profile::Edge;
        HttpOptions {
            path_normalization: match self.gateway.mesh.path_normalization.normalization {
                Normalization::Default if edge => PathNormalization::MergeSlashes,
                Normalization::Default | Normalization::Base => PathNormalization::Base,
                Normalization::None => PathNormalization::None,
                Normalization::MergeSlashes => PathNormalization::MergeSlashes,
                Normalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
            },
            trusted_proxies: config.gateway_topology.num_trusted_proxies,
            client_cert: match config.gateway_topology.forward_client_cert_details {
                ClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
                ClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
                ClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
                ClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
                ClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
            },
            http10: self.gateway.http10,
            // `verify` has refused a value that no header can have.
            server_header: self.server_header().unwrap_or_default(),
            request_id: !headers.request_id.disabled,
            attempt_count: !headers.attempt_count.disabled,
            envoy_debug_headers: !headers.envoy_debug_headers.disabled,
            forwarded_host: headers.x_forwarded_host.enabled,
            forwarded_port: headers.x_forwarded_port.enabled,
            shadow_host: self.gateway.mirror.shadow_host,
            edge,
        }
    }

    /// Pingora's server configuration. Its own grace period is 0: our signal watch drains.
    pub fn server_conf(&self) -> ServerConf {
        ServerConf {
            threads: self.worker_threads(),
            listener_tasks_per_fd: self.listener_tasks_per_fd,
            work_stealing: self.work_stealing,
            upstream_keepalive_pool_size: self.upstream_keepalive_pool_size,
            // The bound that the user set is ours to keep: Pingora also counts attempts that
            // ended before anything was sent.
            max_retries: self.max_retries.max(MAX_ATTEMPTS),
            max_blocking_threads: self.max_blocking_threads,
            blocking_threads_ttl_seconds: self.blocking_threads_ttl_seconds,
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some(1),
            ..ServerConf::default()
        }
    }

    /// Addresses to connect to origins from. Pingora is told with each connection: it would see to
    /// its own only.
    pub fn locals(&self) -> Locals {
        let all = [&self.client_bind_to_ipv4, &self.client_bind_to_ipv6];
        let all = all.into_iter().flatten();
        // `verify` has refused what is no address.
        Locals(all.filter_map(|address| address.parse().ok()).collect())
    }

    /// What is recorded and where.
    ///
    /// # Errors
    /// The log format has an operator we do not know.
    pub fn observe_options(&self) -> Result<ObserveOptions, String> {
        let mesh = &self.gateway.mesh;
        let log = &self.gateway.access_log;
        let encoding = match mesh.access_log_encoding {
            Encoding::Text => LogEncoding::Text,
            Encoding::Json => LogEncoding::Json,
        };
        let format = LogFormat::new(encoding, &mesh.access_log_format)
            .map_err(|error| format!("gateway.mesh.{error}"))?
            .redacted(Redaction::new(log.hidden_parameters.iter().cloned()));
        let wanted = Wanted {
            share: Share::of_percent(log.sampled),
            slow: log.slow.0,
        };
        let access_log = (!mesh.access_log_file.is_empty()).then(|| AccessLogOptions {
            wanted,
            ..AccessLogOptions::new(mesh.access_log_file.as_str(), format)
        });
        let workload = Workload {
            name: self.gateway.workload.clone(),
            namespace: self.gateway.namespace.clone(),
            ..Workload::default()
        };
        Ok(ObserveOptions {
            access_log,
            tracing: self.trace_options(),
            workload,
            request_series: self.gateway.metrics.request_series,
        })
    }

    /// Limits of the listeners.
    pub fn listener_limits(&self) -> ListenerLimits {
        let limits = &self.gateway.limits;
        let mut converted = ListenerLimits {
            header_deadline: limits.header_deadline.0,
            handshake: limits.tls_handshake.0,
            keepalive_idle: limits.keepalive_idle.0,
            accept_tasks: self.listener_tasks_per_fd,
            ..ListenerLimits::default()
        };
        let per_source = match limits.handshakes_per_source {
            None if self.gateway.profile == Profile::Edge => EDGE_HANDSHAKES,
            other => other.unwrap_or(0),
        };
        let silence = limits.tcp_keepalive.0;
        converted.tcp_keepalive = (!silence.is_zero()).then_some(silence);
        converted.handshakes_per_source = NonZeroU32::new(per_source);
        converted.http2_pings = self.http2_pings();
        // `verify` has refused ranges that cannot be read.
        converted.proxy_protocol = self.proxy_protocol().unwrap_or_default();
        if limits.max_connections > 0 {
            converted.max_connections = limits.max_connections;
        }
        converted
    }

    /// Which connections begin with a PROXY header.
    fn proxy_protocol(&self) -> Result<Option<ProxyProtocol>, String> {
        let own = &self.gateway.proxy_protocol;
        let topology = &self.gateway.mesh.default_config.gateway_topology;
        let is_everywhere = topology.proxy_protocol.is_some();
        if own.ports.is_empty() && !is_everywhere {
            return match own.sources.is_empty() {
                true => Ok(None),
                false => Err("gateway.proxyProtocol.sources has no effect without `ports`; name the ports that they connect to".into()),
            };
        }
        if own.sources.is_empty() && !is_everywhere {
            return Err("gateway.proxyProtocol.ports needs `sources`: whoever may send a PROXY header may claim any address; name the load balancers, for example 10.0.0.0/8".into());
        }
        let read = |text: &String| text.parse::<Cidr>();
        let mut sources = own.sources.iter().map(read).collect::<Result<Vec<_>, _>>();
        if own.sources.is_empty() {
            let everyone = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            sources = everyone
                .iter()
                .map(|ip: &IpAddr| format!("{ip}/0").parse())
                .collect();
        }
        let bound = |port: &u16| self.gateway.ports.get(port).copied().unwrap_or(*port);
        Ok(Some(ProxyProtocol {
            ports: (!own.ports.is_empty()).then(|| own.ports.iter().map(bound).collect()),
            sources: sources.map_err(|error| format!("gateway.proxyProtocol.sources: {error}"))?,
        }))
    }

    /// Limits of the proxy.
    pub fn proxy_limits(&self) -> Limits {
        let limits = &self.gateway.limits;
        let http2 = &self.gateway.http2;
        Limits {
            keepalive_idle: limits.keepalive_idle.0,
            head: limits.max_header_bytes,
            fields: limits.max_headers,
            request_line: limits.max_request_line,
            streams: http2.max_concurrent_streams,
            stream_window: http2.initial_stream_window_size,
            connection_window: http2.initial_connection_window_size,
            retry_body: limits.retry_body,
            compressions: limits.compressions,
            attempts: u32::try_from(self.max_retries).unwrap_or(u32::MAX),
            mirror: MirrorLimits {
                body: self.gateway.mirror.body,
                within: self.gateway.mirror.within.0,
            },
            turns: u32::try_from(self.max_retries.max(MAX_ATTEMPTS)).unwrap_or(u32::MAX),
            ..Limits::default()
        }
    }

    /// How names become addresses.
    pub fn dns_options(&self) -> DnsOptions {
        DnsOptions {
            server: self.gateway.dns.server,
            ..DnsOptions::default()
        }
    }

    /// `threads`, or the processors this process may use (the cgroup's CPU quota counts).
    pub fn worker_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

/// Reads `address:port`, resolving `localhost`.
pub fn address(key: &str, text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| {
            format!("{key}: `{text}` is not an address with a port, for example 127.0.0.1:15000")
        })
}
