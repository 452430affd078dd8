//! Values with a grammar of their own: durations and closed lists of words.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::quantity::parse_duration;

use super::describe::Leaf;

/// A duration written as `5s`, `250ms` or `1h`; `0s` is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Leaf for Span {}

impl Span {
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text, true)
            .map(Self)
            .map_err(de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        if millis.is_multiple_of(1000) {
            serializer.collect_str(&format_args!("{}s", millis / 1000))
        } else {
            serializer.collect_str(&format_args!("{millis}ms"))
        }
    }
}

/// Which set of defaults holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Istio's own choices.
    #[default]
    Default,
    /// Stricter checks of heads and paths, for an edge that faces the internet.
    Edge,
}

impl Leaf for Profile {}

/// A message of no fields: that it is there is what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {}

/// MeshConfig's `accessLogEncoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Encoding {
    #[default]
    Text,
    Json,
}

impl Leaf for Encoding {}

/// MeshConfig's `pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    #[default]
    Default,
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

impl Leaf for Normalization {}

/// `gatewayTopology.forwardClientCertDetails`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientCertDetails {
    Sanitize,
    ForwardOnly,
    AppendForward,
    #[default]
    SanitizeSet,
    AlwaysForwardOnly,
}

impl Leaf for ClientCertDetails {}

/// MeshConfig's `h2UpgradePolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UpgradePolicy {
    #[default]
    DoNotUpgrade,
    Upgrade,
}

impl Leaf for UpgradePolicy {}

/// How OTLP is spoken; the names of `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtlpProtocol {
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    #[serde(rename = "http/protobuf")]
    Http,
}

impl Leaf for OtlpProtocol {}

/// Headers that a trace is told in; the names of `OTEL_PROPAGATORS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceHeaders {
    TraceContext,
    B3,
    B3Multi,
}
