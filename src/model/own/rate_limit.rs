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
    /// A service counts, by Envoy's rate limit protocol, and not this gateway.
    pub global: Option<GlobalLimit>,
    /// Several gateways share the limits: they count in Redis, and not each for itself.
    pub redis: Option<RedisBuckets>,
}

/// A Redis server, of version 5 or later. Every request costs one script; the key of a bucket is
/// `pingress:{RateLimit NAMESPACE/NAME}:` and a digest, and goes when the bucket is full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedisBuckets {
    /// `redis://[[user]:password@]host[:port][/database]`.
    pub url: String,
    /// For one check (`100ms`).
    pub timeout: Option<String>,
    /// What becomes of requests that could not be checked: `local` (default) counts them in this
    /// gateway alone, `allow` serves them, `deny` answers 500.
    pub on_error: Option<String>,
}

/// A service that speaks `envoy.service.ratelimit.v3`.
///
/// It is told one descriptor for each of `limits`: an entry for each part of its key, in their
/// order, and the limit's `requests` and `unit` if it has them; if not, the service's own
/// configuration says how many there may be. Entries are named `remote_address` (the value is an
/// address, or a range where fewer bits count), `header.NAME`, `cookie.NAME`, `query.NAME` and
/// `path` (the template with the path's own values in its places). A limit without a key has the one
/// entry `generic_key`, whose value is the RateLimit's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GlobalLimit {
    /// Host and port (`ratelimit.shop.svc.cluster.local:8081`): a service that rules may route to as
    /// well, or any other name or address.
    pub service: String,
    /// In place of one in `service`.
    pub port: Option<u32>,
    pub domain: String,
    /// For one check (`20ms`).
    pub timeout: Option<String>,
    /// What becomes of requests that could not be checked: `allow` (default) serves them, `deny`
    /// answers 500.
    pub on_error: Option<String>,
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
