//! The `gateway:` section of the settings file.

use std::collections::BTreeMap;

use crate::compile::Options;

use super::describe::section;
use super::mesh::Mesh;
use super::tag::Tag;
use super::value::{OtlpProtocol, Profile, Span, TraceHeaders};

section! { "camelCase",
    /// Everything of ours that is not Pingora's.
    pub struct Gateway {
        /// Declared port to bound port, for example `{80: 8080}`; a port not named is bound as declared.
        pub ports: BTreeMap<u16, u16> = BTreeMap::new(),
        /// Addresses on which servers without `bind` listen.
        pub bind: Vec<std::net::IpAddr> = vec![std::net::IpAddr::from([0, 0, 0, 0])],
        /// Labels of this gateway's pod; a Gateway whose selector they satisfy is ours. Unset, they are those of Istio's own ingress gateway.
        pub labels: BTreeMap<String, String> = Options::default().labels,
        /// Namespace this gateway runs in; policies and DestinationRules there apply to it.
        pub namespace: String = "istio-system".to_owned(),
        /// Where this gateway runs, as `region/zone/subzone`; unset means that no endpoint is nearer than another.
        pub locality: String = String::new(),
        /// How many replicas of this gateway run; RateLimits with `scope: gateway` are divided among them.
        pub replicas: Option<u32> = None,
        /// Name of this gateway's workload, a metric label.
        pub workload: String = "istio-ingressgateway".to_owned(),
        /// `default` answers as Istio does by default; `edge` refuses more heads and paths, and normalises paths its own way.
        pub profile: Profile = Profile::Default,
        /// Protections to serve without although they are not enforced: `Kind` or `Kind/namespace/name`.
        pub accept_unenforced: Vec<String> = Vec::new(),
        /// Serve HTTP/1.0 requests instead of answering 426 (Istio's PILOT_HTTP10).
        pub http10: bool = false,
        /// Translate gRPC-Web into gRPC on every HTTP and HTTPS server; servers whose port's protocol is GRPC-WEB do it anyway.
        pub grpc_web: bool = false,
        /// Files with the mesh's certificates for this gateway; read where a Gateway or DestinationRule says ISTIO_MUTUAL.
        pub workload_certificates: WorkloadCertificates = WorkloadCertificates::default(),
        /// How names become addresses.
        pub dns: Dns = Dns::default(),
        /// MeshConfig's own names, as far as they concern a gateway.
        pub mesh: Mesh = Mesh::default(),
        /// Which requests the log of `mesh.accessLogFile` has, and what of them is hidden.
        pub access_log: AccessLog = AccessLog::default(),
        /// Where traces go, and which requests are traced.
        pub tracing: Tracing = Tracing::default(),
        /// Bounds that always hold.
        pub limits: Limits = Limits::default(),
        /// Connections of clients that speak HTTP/2.
        pub http2: Http2 = Http2::default(),
        /// Copies of requests for mirrors.
        pub mirror: Mirror = Mirror::default(),
        /// The operator's endpoint.
        pub admin: Admin = Admin::default(),
        /// Readiness for a load balancer or kubelet.
        pub status: Status = Status::default(),
        /// Prometheus metrics.
        pub metrics: Metrics = Metrics::default(),
        /// Load balancers in front that speak the PROXY protocol.
        pub proxy_protocol: ProxyProtocol = ProxyProtocol::default(),
        /// How the process ends.
        pub drain: Drain = Drain::default(),
        /// How a running process is replaced by another binary.
        pub upgrade: Upgrade = Upgrade::default(),
    }
}

section! { "camelCase",
    /// Files with the mesh's certificates for this gateway; read where a Gateway or DestinationRule says ISTIO_MUTUAL.
    pub struct WorkloadCertificates {
        /// PEM file of this gateway's certificate, its issuers after it.
        pub certificate: String = "/etc/certs/cert-chain.pem".to_owned(),
        /// PEM file of its private key.
        pub private_key: String = "/etc/certs/key.pem".to_owned(),
        /// PEM file of the mesh's root certificates.
        pub ca_certificates: String = "/etc/certs/root-cert.pem".to_owned(),
    }
}

section! { "camelCase",
    /// How names become addresses.
    pub struct Dns {
        /// Address and port of a DNS server; unset means the system's.
        pub server: Option<std::net::SocketAddr> = None,
        /// Domain of the cluster's services.
        pub cluster_domain: String = "cluster.local".to_owned(),
    }
}

section! { "camelCase",
    /// Which requests the log of `mesh.accessLogFile` has, and what of them is hidden.
    pub struct AccessLog {
        /// Percent of the requests that neither failed nor were slow; those that did are all logged.
        pub sampled: f64 = 100.0,
        /// A request that takes at least this long is slow.
        pub slow: Span = Span::seconds(1),
        /// Query parameters whose values are logged as `REDACTED`, whatever their case.
        pub hidden_parameters: Vec<String> = HIDDEN_PARAMETERS.map(str::to_owned).to_vec(),
    }
}

/// Where credentials are usually passed in a URL (RFC 6750, RFC 6749, signed links).
const HIDDEN_PARAMETERS: [&str; 14] = [
    "access_token",
    "refresh_token",
    "id_token",
    "token",
    "x-goog-signature",
    "client_secret",
    "password",
    "passwd",
    "secret",
    "api_key",
    "apikey",
    "sig",
    "signature",
    "x-amz-signature",
];

section! { "camelCase",
    /// Where traces go, and which requests are traced.
    pub struct Tracing {
        /// URL of an OpenTelemetry collector, for example `http://collector.observability:4317`, or `https://` for TLS; unset means that nothing is traced and trace headers pass through untouched.
        pub endpoint: String = String::new(),
        /// `grpc` or `http/protobuf`; the latter sends to `/v1/traces` unless the URL has a path.
        pub protocol: OtlpProtocol = OtlpProtocol::Grpc,
        /// Percent of the requests that are traced of those that come without a decision; a client's own decision always holds. Telemetry resources may say otherwise.
        pub sampling: f64 = 1.0,
        /// Headers that tell a trace: `tracecontext`, `b3`, `b3multi`. Read in this order, and all of them sent to origins.
        pub propagation: Vec<TraceHeaders> = vec![TraceHeaders::TraceContext],
        /// Attributes of your own on each request's span, by name, as Telemetry's `customTags`: `{tenant: {header: {name: x-tenant, defaultValue: none}}}`, `{literal: {value}}` or `{environment: {name}}`. Those of a Telemetry resource replace them.
        pub custom_tags: BTreeMap<String, Tag> = BTreeMap::new(),
        /// Provider by which Telemetry resources name this collector; unset means that every provider they name is meant.
        pub provider: String = String::new(),
        /// `service.name` of the spans; unset means `gateway.workload`, a dot and `gateway.namespace`.
        pub service_name: String = String::new(),
        /// Time for sending one batch of spans, tries included; those of a collector that takes longer are dropped and counted.
        pub timeout: Span = Span::seconds(10),
        /// Spans that may wait to be sent; those beyond are dropped and counted.
        pub queue: usize = 4096,
        /// How a collector behind `https://` is known.
        pub tls: TracingTls = TracingTls::default(),
    }
}

section! { "camelCase",
    /// How a collector behind `https://` is known. The files are read anew for every connection.
    pub struct TracingTls {
        /// PEM file of the authorities that its certificate may come from; unset means the system's.
        pub ca_certificates: String = String::new(),
        /// Name that its certificate must have; unset means the host of `endpoint`.
        pub server_name: String = String::new(),
        /// PEM file of a certificate to show it, its issuers after it.
        pub client_certificate: String = String::new(),
        /// PEM file of that certificate's private key.
        pub private_key: String = String::new(),
    }
}

section! { "camelCase",
    /// Bounds that always hold.
    pub struct Limits {
        /// Open client connections; 0 means 50000, or 45 % of the file descriptor limit if that is less.
        pub max_connections: usize = 0,
        /// Time for a whole request head, from its first byte; answered with 408 after that.
        pub header_deadline: Span = Span::seconds(60),
        /// Time for a TLS handshake, and as much for a PROXY header before it; the connection is closed after that.
        pub tls_handshake: Span = Span::seconds(15),
        /// TLS handshakes that one client address (one /64 of IPv6) may begin in a second; unset means 100 under the edge profile and no limit otherwise, 0 means no limit.
        pub handshakes_per_source: Option<u32> = None,
        /// Time a connection may stay open without a request.
        pub keepalive_idle: Span = Span::seconds(3600),
        /// Silence after which the kernel probes a client's host (TCP keepalive), which keeps idle WebSockets and byte streams known to NATs and load balancers; again after at most 60s, and the third unanswered probe closes the connection. 1s to 32767s, 0s means never.
        pub tcp_keepalive: Span = Span::seconds(180),
        /// Bytes of all header fields of a request; more is answered with 431.
        pub max_header_bytes: usize = 60 * 1024,
        /// Header fields of a request; more is answered with 431.
        pub max_headers: usize = 100,
        /// Bytes of a request line; more is answered with 414.
        pub max_request_line: usize = 16 * 1024,
        /// Bytes of a request body kept for sending it again, at most 65536; a request with a longer one is not repeated.
        pub retry_body: usize = crate::proxy::RETRY_BODY,
        /// Responses compressed at once, each in 0.1 to 3 MB of memory by its level; more are sent as they are.
        pub compressions: usize = 1024,
        /// Bytes of a manifest file; a larger one is not read.
        pub max_file_bytes: u64 = 16 * 1024 * 1024,
    }
}

section! { "camelCase",
    /// Connections of clients that speak HTTP/2.
    pub struct Http2 {
        /// Requests that a client may have under way at once on one connection.
        pub max_concurrent_streams: u32 = 100,
        /// Bytes of a request's body that a client may send ahead of what the origin takes, 65535 to 2147483647.
        pub initial_stream_window_size: u32 = 256 * 1024,
        /// The same for all requests of a connection together.
        pub initial_connection_window_size: u32 = 1024 * 1024,
        /// Time between PING frames that ask a client whether it is still there; 0s means none.
        pub keepalive_interval: Span = Span::seconds(0),
        /// Time without a byte after a PING, after which the connection is closed.
        pub keepalive_timeout: Span = Span::seconds(20),
    }
}

section! { "camelCase",
    /// Copies of requests for mirrors.
    pub struct Mirror {
        /// Bytes of a request body that a mirror may lag behind; beyond it, its copy is given up.
        pub body: usize = 256 * 1024,
        /// Time for a whole copy where the rule has no timeout.
        pub within: Span = Span::seconds(60),
        /// Mirrors see Host with the suffix `-shadow`, as under Istio before 1.28.
        pub shadow_host: bool = false,
    }
}

section! { "camelCase",
    /// The operator's endpoint.
    pub struct Admin {
        /// Address of findings, routes, endpoints and explain; keep it on loopback.
        pub bind: String = "127.0.0.1:15000".to_owned(),
        /// Host names under which the endpoint may be asked, beside loopback ones.
        pub hosts: Vec<String> = Vec::new(),
    }
}

section! { "camelCase",
    /// Readiness for a load balancer or kubelet.
    pub struct Status {
        /// Address of `/healthz/ready`.
        pub bind: String = "0.0.0.0:15021".to_owned(),
    }
}

section! { "camelCase",
    /// Prometheus metrics.
    pub struct Metrics {
        /// Address of `/stats/prometheus`.
        pub bind: String = "0.0.0.0:15020".to_owned(),
        /// Series that each of Istio's request metrics may have, about 1.5 KB each; what would need more is counted under `destination_service="overflow"`.
        pub request_series: usize = 20_000,
    }
}

section! { "camelCase",
    /// Load balancers in front that speak the PROXY protocol.
    pub struct ProxyProtocol {
        /// Ports, as Gateways declare them, whose connections begin with a PROXY header (version 1 or 2) if they come from `sources`.
        pub ports: Vec<u16> = Vec::new(),
        /// Addresses and ranges of the load balancers, as `10.0.0.0/8`; connections from others are served as they come.
        pub sources: Vec<String> = Vec::new(),
    }
}

section! { "camelCase",
    /// How the process ends.
    pub struct Drain {
        /// Time between failing readiness and closing the listeners on SIGTERM.
        pub delay: Span = Span::seconds(5),
        /// Time over which WebSockets and other streams are released evenly after the listeners have closed.
        pub window: Span = Span::seconds(30),
        /// Answers without a length (gRPC streams, server-sent events) that have been open for so long when the window begins are released in it too: gRPC ends with status UNAVAILABLE, other HTTP/2 streams are reset, HTTP/1 connections closed. Younger ones may go on until the deadline.
        pub stream_age: Span = Span::seconds(60),
        /// Time that requests in flight get after the listeners have closed.
        pub deadline: Span = Span::seconds(45),
    }
}

section! { "camelCase",
    /// How a running process is replaced by another binary.
    pub struct Upgrade {
        /// Folder of the socket for `pingress upgrade`; only this process's user may enter it. Unset means one in $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR, /run or the folder for temporary files, named after the admin port.
        pub folder: String = String::new(),
        /// Time that a new binary gets to become ready to take over.
        pub deadline: Span = Span::seconds(60),
    }
}
