//! The `loadBalancer` block: how endpoints are chosen.

use http::HeaderName;

use crate::base::quantity::parse_duration;
use crate::model::istio::destination_rule::{ConsistentHash, HttpCookie, LoadBalancer};
use crate::plan::balance::{CookieOffer, HashCookie, Number, WarmUp};
use crate::plan::{Balance, Balancing, HashKey, HashTable};

/// Envoy's size of a Maglev table.
const MAGLEV: u32 = 65_537;

/// What a block asks for.
pub(super) fn read(block: &LoadBalancer) -> Balancing {
    if let Some(hash) = block.consistent_hash.as_deref() {
        return Balancing {
            policy: Balance::Hash(table(hash)),
            key: key(hash),
            warm_up: None,
        };
    }
    let policy = match block.simple.as_deref() {
        Some("ROUND_ROBIN") => Balance::RoundRobin,
        Some("RANDOM") => Balance::Random,
        _ => Balance::LeastRequest,
    };
    Balancing {
        policy,
        key: None,
        warm_up: warm_up(block).filter(|_| policy != Balance::Random),
    }
}

fn table(hash: &ConsistentHash) -> HashTable {
    if let Some(maglev) = &hash.maglev {
        let size = maglev.table_size.filter(|size| *size > 0);
        let size = size.and_then(|size| u32::try_from(size).ok());
        return HashTable::Maglev {
            size: size.unwrap_or(MAGLEV),
        };
    }
    let ring = hash.ring_hash.as_ref();
    let size = match ring {
        Some(ring) => ring.minimum_ring_size,
        None => hash.minimum_ring_size,
    };
    match size.filter(|size| *size > 0) {
        Some(minimum_size) => HashTable::Ring { minimum_size },
        None => HashTable::default(),
    }
}

fn key(hash: &ConsistentHash) -> Option<HashKey> {
    if let Some(name) = &hash.http_header_name {
        return header(name);
    }
    if let Some(cookie) = &hash.http_cookie {
        return Some(HashKey::Cookie(HashCookie {
            name: cookie.name.as_str().into(),
            offer: offer(cookie),
        }));
    }
    if hash.use_source_ip == Some(true) {
        return Some(HashKey::SourceIp);
    }
    let query = hash.http_query_parameter_name.as_deref();
    query.map(|name| HashKey::Query(name.into()))
}

/// A header, or what Envoy shows under the name of one. `None` if it is no name.
fn header(name: &str) -> Option<HashKey> {
    match name.to_ascii_lowercase().as_str() {
        ":authority" | "host" => Some(HashKey::Authority),
        ":path" => Some(HashKey::Path),
        ":method" => Some(HashKey::Method),
        name => HeaderName::from_bytes(name.as_bytes())
            .ok()
            .map(HashKey::Header),
    }
}

/// Only a cookie with a `ttl` is given to clients (gotcha 36).
fn offer(cookie: &HttpCookie) -> Option<CookieOffer> {
    let ttl = parse_duration(cookie.ttl.as_deref()?, true).ok()?;
    let path = cookie.path.as_deref().filter(|path| !path.is_empty());
    let mut attributes = path.map_or(String::new(), |path| format!("; Path={path}"));
    for attribute in cookie.attributes.iter().filter_map(|slot| slot.good()) {
        attributes.push_str("; ");
        attributes.push_str(&attribute.name);
        if let Some(value) = attribute.value.as_deref().filter(|value| !value.is_empty()) {
            attributes.push('=');
            attributes.push_str(value);
        }
    }
    attributes.push_str("; HttpOnly");
    Some(CookieOffer {
        ttl,
        attributes: attributes.into(),
    })
}

fn warm_up(block: &LoadBalancer) -> Option<WarmUp> {
    let warm_up = block.warmup.as_ref();
    let legacy = block.warmup_duration_secs.as_deref();
    let duration = match warm_up {
        Some(warm_up) => warm_up.duration.as_deref(),
        None => legacy,
    };
    let aggression = warm_up.and_then(|warm_up| warm_up.aggression);
    let minimum = warm_up.and_then(|warm_up| warm_up.minimum_percent);
    Some(WarmUp {
        duration: parse_duration(duration?, false).ok()?,
        minimum_percent: Number(minimum.unwrap_or(10.0)),
        aggression: Number(aggression.unwrap_or(1.0)),
    })
}

/// Fields of a block that have no effect, with the reason. `detects` says whether outlier
/// detection may hold with it.
pub(super) fn inert(
    block: &LoadBalancer,
    detects: bool,
    locality: &str,
) -> Vec<(&'static str, &'static str)> {
    let mut inert = Vec::new();
    if block.simple.as_deref() == Some("PASSTHROUGH") {
        inert.push((
            "simple",
            "PASSTHROUGH sends to the address the client asked for, which at a gateway is the \
             gateway's own; the endpoint with the fewest requests is chosen instead",
        ));
    }
    let warms = [
        ("warmup", block.warmup.is_some()),
        ("warmupDurationSecs", block.warmup_duration_secs.is_some()),
    ];
    let weighs = block.consistent_hash.is_none() && block.simple.as_deref() != Some("RANDOM");
    for (name, _) in warms.iter().filter(|(_, is_set)| *is_set && !weighs) {
        inert.push((
            *name,
            "only LEAST_REQUEST and ROUND_ROBIN warm endpoints up",
        ));
    }
    if block.warmup.is_some() && block.warmup_duration_secs.is_some() {
        inert.push(("warmupDurationSecs", "`warmup` takes its place"));
    }
    if let Some(hash) = block.consistent_hash.as_deref() {
        let ring = hash.ring_hash.is_some() || hash.maglev.is_some();
        if ring && hash.minimum_ring_size.is_some() {
            let why = "`ringHash` or `maglev` takes its place";
            inert.push(("consistentHash.minimumRingSize", why));
        }
    }
    let Some(setting) = block.locality_lb_setting.as_deref() else {
        return inert;
    };
    if setting.enabled == Some(false) {
        return inert;
    }
    let fails_over = [
        ("localityLbSetting.failover", !setting.failover.is_empty()),
        (
            "localityLbSetting.failoverPriority",
            !setting.failover_priority.is_empty(),
        ),
    ];
    let distributes = !setting.distribute.is_empty();
    for (name, _) in fails_over.iter().filter(|(_, is_set)| *is_set) {
        if distributes {
            inert.push((*name, "`distribute` takes its place"));
        } else if !detects {
            inert.push((
                *name,
                "failover needs outlierDetection, or nothing ever fails",
            ));
        } else if locality.is_empty() && name.ends_with("failover") {
            inert.push((
                *name,
                "the gateway does not know its own locality; set gateway.locality",
            ));
        }
    }
    let here = setting.distribute.iter().filter_map(|slot| slot.good());
    let anywhere = here.clone().any(|rule| rule.from.starts_with('*'));
    if distributes && locality.is_empty() && !anywhere {
        inert.push((
            "localityLbSetting.distribute",
            "the gateway does not know its own locality; set gateway.locality",
        ));
    }
    inert
}
