//! The `gateway.mesh:` section: MeshConfig under its own names, as far as a gateway honours it.

use super::describe::section;
use super::value::{ClientCertDetails, Encoding, Normalization, Presence, UpgradePolicy};

fn everyone() -> Vec<String> {
    vec!["*".to_owned()]
}

section! { "camelCase",
    /// MeshConfig's own names, as far as they concern a gateway.
    pub struct Mesh {
        /// File of the access log, `/dev/stdout` for the console; empty means no log.
        pub access_log_file: String = String::new(),
        /// TEXT or JSON.
        pub access_log_encoding: Encoding = Encoding::Text,
        /// Format of the text log in Envoy's operators; empty means Istio's default.
        pub access_log_format: String = String::new(),
        /// UPGRADE asks origins whose port says HTTP in HTTP/2, unless a DestinationRule says otherwise.
        pub h2_upgrade_policy: UpgradePolicy = UpgradePolicy::DoNotUpgrade,
        /// How request paths are normalised.
        pub path_normalization: PathNormalization = PathNormalization::default(),
        /// Namespace whose policies and DestinationRules hold everywhere.
        pub root_namespace: String = "istio-system".to_owned(),
        /// What the names of the mesh's service accounts begin with (`spiffe://cluster.local/ns/...`).
        pub trust_domain: String = "cluster.local".to_owned(),
        /// Further such beginnings, from before a change of name.
        pub trust_domain_aliases: Vec<String> = Vec::new(),
        /// `exportTo` of VirtualServices that have none.
        pub default_virtual_service_export_to: Vec<String> = everyone(),
        /// `exportTo` of DestinationRules that have none.
        pub default_destination_rule_export_to: Vec<String> = everyone(),
        /// `exportTo` of ServiceEntries that have none.
        pub default_service_export_to: Vec<String> = everyone(),
        /// Retries of rules that have no `retries`.
        pub default_http_retry_policy: HttpRetry = HttpRetry::default(),
        /// Which endpoints are preferred where no DestinationRule says it.
        pub locality_lb_setting: LocalityLb = LocalityLb::default(),
        /// Istio's ProxyConfig.
        pub default_config: ProxyConfig = ProxyConfig::default(),
    }
}

section! { "camelCase",
    /// Which endpoints are preferred where no DestinationRule says it.
    pub struct LocalityLb {
        /// With outlier detection, prefer endpoints near `gateway.locality`.
        pub enabled: bool = true,
    }
}

section! { "camelCase",
    /// How request paths are normalised.
    pub struct PathNormalization {
        /// DEFAULT (= BASE), NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES.
        pub normalization: Normalization = Normalization::Default,
    }
}

section! { "camelCase",
    /// Retries of rules that have no `retries`.
    pub struct HttpRetry {
        /// Attempts after the first; 0 disables retries.
        pub attempts: i32 = 2,
        /// Conditions and status codes separated by commas; of these, only Istio's own repeat no work of an origin.
        pub retry_on: String = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes".to_owned(),
        /// How long an attempt may take until its response begins; unset means the whole timeout.
        pub per_try_timeout: Option<String> = None,
        /// Base of the jittered exponential waits between attempts, which stay below ten times it.
        pub backoff: String = "25ms".to_owned(),
        /// Whether endpoints that failed the request are avoided.
        pub retry_ignore_previous_hosts: bool = true,
        /// Whether retries widen to other localities.
        pub retry_remote_localities: bool = false,
    }
}

section! { "camelCase",
    /// Istio's ProxyConfig.
    pub struct ProxyConfig {
        /// What stands in front of this gateway.
        pub gateway_topology: GatewayTopology = GatewayTopology::default(),
        /// Which headers are added.
        pub proxy_headers: ProxyHeaders = ProxyHeaders::default(),
    }
}

section! { "camelCase",
    /// What stands in front of this gateway.
    pub struct GatewayTopology {
        /// Proxies in front whose `x-forwarded-for` entries are trusted.
        pub num_trusted_proxies: u32 = 0,
        /// SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET or ALWAYS_FORWARD_ONLY: what becomes of `x-forwarded-client-cert`.
        pub forward_client_cert_details: ClientCertDetails = ClientCertDetails::SanitizeSet,
        /// `{}`: every connection to every port begins with a PROXY header, whoever it comes from; `gateway.proxyProtocol` narrows both.
        pub proxy_protocol: Option<Presence> = None,
    }
}

section! { "camelCase",
    /// Which headers are added.
    pub struct ProxyHeaders {
        /// The `server` response header.
        pub server: ServerHeader = ServerHeader::default(),
        /// The `x-request-id` header.
        pub request_id: Switch = Switch::default(),
        /// The `x-envoy-attempt-count` request header.
        pub attempt_count: Switch = Switch::default(),
        /// The `x-envoy-*` debug headers of responses and requests.
        pub envoy_debug_headers: Switch = Switch::default(),
        /// The `x-forwarded-host` request header.
        pub x_forwarded_host: Enable = Enable::default(),
        /// The `x-forwarded-port` request header.
        pub x_forwarded_port: Enable = Enable::default(),
    }
}

section! { "camelCase",
    /// The `server` response header.
    pub struct ServerHeader {
        /// Pass the origin's `server` header through.
        pub disabled: bool = false,
        /// Text of the `server` header of every answer.
        pub value: String = "istio-envoy".to_owned(),
    }
}

section! { "camelCase",
    /// A header that is on unless disabled.
    pub struct Switch {
        /// Do not add the header.
        pub disabled: bool = false,
    }
}

section! { "camelCase",
    /// A header that is off unless enabled.
    pub struct Enable {
        /// Add the header.
        pub enabled: bool = false,
    }
}
