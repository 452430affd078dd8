//! What the operator's settings tell the compiler.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::model::tls_files::WorkloadFiles;
use crate::plan::tracing::Tracing;
use crate::plan::{HttpOptions, RetryPolicy};

/// The compiler's view of the settings file (`gateway:` section).
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Labels of the gateway's pod; a Gateway's selector must be a subset.
    pub labels: BTreeMap<String, String>,
    /// The gateway's own namespace (`istio-system`).
    pub namespace: Arc<str>,
    /// The gateway's own `region/zone/subzone`; empty if not known.
    pub locality: Arc<str>,
    /// `meshConfig.localityLbSetting.enabled` (true): clusters with outlier detection prefer
    /// near endpoints, unless their DestinationRule says otherwise.
    pub locality_failover: bool,
    /// `meshConfig.rootNamespace` (`istio-system`).
    pub root_namespace: Arc<str>,
    /// `meshConfig.trustDomain` (`cluster.local`), and `trustDomainAliases` after it: what the
    /// names of service accounts begin with.
    pub trust_domains: Vec<String>,
    /// Cluster domain (`cluster.local`).
    pub domain: Arc<str>,
    /// Declared port to bound port.
    pub ports: BTreeMap<u16, u16>,
    /// Where a server without `bind` listens (`0.0.0.0`; one listener per address).
    pub bind: Vec<IpAddr>,
    pub http: HttpOptions,
    /// How many processes serve as this gateway, where the operator says it.
    pub replicas: Option<NonZeroU32>,
    /// Protections to serve without although they are not enforced: `Kind`,
    /// `Kind/namespace/name`.
    pub accept_unenforced: Vec<String>,
    /// Mesh defaults of `exportTo` (`*`).
    pub virtual_service_export_to: Vec<String>,
    pub destination_rule_export_to: Vec<String>,
    pub service_export_to: Vec<String>,
    /// `meshConfig.defaultHttpRetryPolicy`: of rules without `retries`.
    pub default_retry: Option<Arc<RetryPolicy>>,
    /// `meshConfig.h2UpgradePolicy` is UPGRADE: ports that say HTTP are asked in HTTP/2 (no).
    pub h2_upgrade: bool,
    /// Translate gRPC-Web on every server, and not only where the port's protocol says so (no).
    pub grpc_web: bool,
    /// Where the mesh's certificates are, for ISTIO_MUTUAL.
    pub workload: WorkloadFiles,
    /// What is traced unless Telemetry resources say otherwise; `None` where there is nothing to
    /// send spans to (`gateway.tracing.endpoint`).
    pub tracing: Option<Tracing>,
    /// The provider that Telemetry resources name to send spans there; empty means any.
    pub trace_provider: Arc<str>,
}

impl Default for Options {
    fn default() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            labels: [("app", "istio-ingressgateway"), ("istio", "ingressgateway")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            namespace: "istio-system".into(),
            locality: Arc::default(),
            locality_failover: true,
            root_namespace: "istio-system".into(),
            trust_domains: vec!["cluster.local".to_owned()],
            domain: "cluster.local".into(),
            ports: BTreeMap::new(),
            bind: vec![IpAddr::from([0, 0, 0, 0])],
            http: HttpOptions::default(),
            replicas: None,
            accept_unenforced: Vec::new(),
            virtual_service_export_to: all(),
            destination_rule_export_to: all(),
            service_export_to: all(),
            default_retry: Some(Arc::default()),
            h2_upgrade: false,
            grpc_web: false,
            workload: WorkloadFiles::default(),
            tracing: None,
            trace_provider: Arc::default(),
        }
    }
}
