//! `RateLimit`: how many requests are let through. Istio has no API for it but EnvoyFilter.

use serde::Deserialize;

use super::PolicyTarget;
use crate::model::istio::Items;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RateLimit {
    pub target_ref: PolicyTarget,
    /// A request must pass all of them.
    pub limits: Items<Limit>,
    /// Who counts: `replica` (default), each replica of the gateway for itself, so that they let
    /// through as often the limit as there are of them; or `gateway`, where each of the replicas
    /// that the setting `gateway.replicas` counts has an even share. Tokens come to each replica
    /// as many times more slowly, so together they never let through more than the limit says in the
    /// long run. A burst is divided and rounded down, but each replica can let one request through
    /// at once: a burst smaller than the number of replicas may be exceeded by that. A client
    /// whose requests all go to one replica gets that replica's share.
    pub scope: Option<String>,
    /// `enforce` (default), or `observe`: counted, but never refused, and clients are told nothing.
    pub mode: Option<String>,
    /// What responses tell clients: `ietf` (default), `x-ratelimit`, `both` or `none`.
    pub headers: Option<String>,
}

/// So many requests in so much time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limit {
    pub requests: Option<u32>,
    /// `second`, `minute`, `hour` or `day`.
    pub unit: Option<String>,
    /// How many may come at once after a pause (as many as `requests`).
    pub burst: Option<u32>,
    /// What requests must have in common to be counted together; all are unless written.
    pub key: Items<KeyPart>,
    /// Keys that are counted apart at a time (65536).
    pub max_keys: Option<u32>,
}

/// Exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeyPart {
    pub client_address: Option<ClientAddress>,
    /// A request header's value.
    pub header: Option<String>,
    /// A cookie's value.
    pub cookie: Option<String>,
    /// A query parameter's value.
    pub query: Option<String>,
    /// A path whose `{…}` are counted apart, `*` together: `/users/{id}/*`. `**` at the end is any rest.
    /// Other paths are not limited.
    pub path: Option<String>,
}

/// The client's address, after trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientAddress {
    /// Bits of an IPv4 address that count (32).
    pub ipv4_prefix_length: Option<u32>,
    /// Bits of an IPv6 address that count (64: what one client usually has).
    pub ipv6_prefix_length: Option<u32>,
}
