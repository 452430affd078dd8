//! `HealthCheckPolicy`: how the endpoints of a service are probed. Istio has no API for it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer};

use crate::model::istio::Items;

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HealthCheckPolicy {
    pub target_ref: TargetRef,
    /// From the begin of one probe to that of the next (`10s`).
    pub interval: Option<String>,
    /// Added to each interval at random, at most (a tenth of it).
    pub jitter: Option<String>,
    /// For a whole probe (`1s`).
    pub timeout: Option<String>,
    /// Passed probes in a row that bring an endpoint back (1).
    pub healthy_threshold: Option<u32>,
    /// Failed probes in a row that take it out (3).
    pub unhealthy_threshold: Option<u32>,
    pub tcp: Option<TcpCheck>,
    pub http: Option<Box<HttpCheck>>,
    pub grpc: Option<GrpcCheck>,
}

/// Whose endpoints are probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetRef {
    /// `Host`, `Service` or `ServiceEntry`.
    pub kind: Option<String>,
    pub name: String,
    /// The policy's own unless written; a `Host` has none.
    pub namespace: Option<String>,
    /// The service's port; all of them unless written.
    pub port: Option<u32>,
}

/// The connection can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpCheck {
    /// Probed instead of the endpoint's own port.
    pub port: Option<u32>,
}

/// A GET is answered as expected.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpCheck {
    /// `/` unless written.
    pub path: Option<String>,
    /// The target's host unless written.
    pub host: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// `204` or `200-299`, which is the default.
    pub expected_statuses: Items<StatusText>,
    pub port: Option<u32>,
}

/// `grpc.health.v1.Health/Check` answers SERVING.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrpcCheck {
    /// The whole server unless written.
    pub service: Option<String>,
    pub port: Option<u32>,
}

/// A status or a range of them, as text; YAML reads a lone one as a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusText(pub String);

impl<'de> Deserialize<'de> for StatusText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = StatusText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status or a range of statuses")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<StatusText, E> {
                Ok(StatusText(number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusText, E> {
                Ok(StatusText(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
