//! `global` of our `RateLimit`: the service that counts, and what it is told.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::quantity::parse_duration;
use crate::compile::registry::{Apart, DestinationRef, Registry, Resolved};
use crate::compile::validate::rate_limit::address;
use crate::model::FieldPath;
use crate::model::own::RateLimit as Written;
use crate::model::own::rate_limit::{GlobalLimit, Limit};
use crate::plan::{ClusterId, PlacedLimit};
use crate::policy::global::spec::{Absent, Descriptor, Entry, Override, Service, Unit, Value};
use crate::policy::rate_limit::spec::{Counted, Source};

use super::super::Guard;
use super::source;

/// As Envoy's filter.
const TIMEOUT: Duration = Duration::from_millis(20);

/// Envoy's status for what could not be checked.
const ON_ERROR: u16 = 500;

/// For a service that is no destination: nothing says how long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A policy whose limits a service counts.
///
/// # Errors
/// The service cannot be reached.
pub(super) fn counted(
    guard: &mut Guard<'_, '_>,
    registry: &mut Registry<'_>,
    spec: &Written,
    written: &GlobalLimit,
    limit: PlacedLimit,
) -> Result<PlacedLimit, String> {
    let (host, port) = address(written)?;
    let (id, (full, authority)) = reach(guard, registry, host, port)?;
    let cluster = format!("outbound|{port}||{full}");
    let timeout = written.timeout.as_deref();
    let timeout = timeout.and_then(|text| parse_duration(text, false).ok());
    let object = guard.object;
    let limits = FieldPath::spec().field("limits");
    let descriptors = spec.limits.iter().enumerate().filter_map(|(index, slot)| {
        let descriptor = descriptor(slot.good()?, &object.key.name)?;
        Some((descriptor, object.origin_of(&limits.index(index))))
    });
    let (descriptors, origins): (Vec<_>, Vec<_>) = descriptors.unzip();
    let service = Service {
        cluster: cluster.into(),
        authority,
        domain: written.domain.as_str().into(),
        timeout: timeout.unwrap_or(TIMEOUT),
        deny: (written.on_error.as_deref() == Some("deny")).then_some(ON_ERROR),
        descriptors: descriptors.into(),
        marks: true,
    };
    let mut policy = limit.policy.as_ref().clone();
    policy.counted = Counted::Service(Box::new(service));
    Ok(PlacedLimit {
        policy: Arc::new(policy),
        origins: origins.into(),
        service: Some(id),
        ..limit
    })
}

/// The cluster, full host name and `:authority` of a service.
fn reach(
    guard: &mut Guard<'_, '_>,
    registry: &mut Registry<'_>,
    host: &str,
    port: u16,
) -> Result<(ClusterId, (String, Arc<str>)), String> {
    let path = FieldPath::spec().field("global").field("service");
    let object = guard.object;
    let origin = object.origin_of(&path);
    // A bare name is a service's, but for this one; any other that is no service's is DNS's.
    let is_local = host == "localhost";
    let full = match is_local {
        true => host.to_owned(),
        false => registry.full_name(host, &object.key.namespace),
    };
    let authority = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{full}:{port}"),
    };
    if (is_local || host.contains(['.', ':'])) && !registry.knows(&full) {
        let id = registry.add(&Apart {
            name: format!("outbound|{port}||{full}").into(),
            addresses: &[(full.clone(), port)],
            is_logical: false,
            connect_timeout: CONNECT_TIMEOUT,
            origin: &object.origin,
        });
        return Ok((id, (full, authority.into())));
    }
    let resolved = registry.resolve(
        &DestinationRef {
            host,
            subset: None,
            port: Some(port.into()),
            gateway_port: port,
            namespace: &object.key.namespace,
            origin: &origin,
            object: &object.key,
            path: &path,
            consequence: "what it limits answers 503",
        },
        guard.findings,
    );
    match resolved {
        Resolved::Cluster(id) => Ok((id, (full, authority.into()))),
        Resolved::Missing { reason, .. } => Err(reason.to_string()),
        Resolved::Fenced(fence) => Err(fence.reason.to_string()),
    }
}

/// What the service is told for a limit.
fn descriptor(written: &Limit, name: &str) -> Option<Descriptor> {
    let mut entries = Vec::new();
    for slot in &written.key {
        let source = source(slot.good()?)?;
        entries.push(Entry {
            key: match &source {
                Source::Client { .. } => "remote_address".into(),
                Source::Header(name) => format!("header.{name}").into(),
                Source::Cookie(name) => format!("cookie.{name}").into(),
                Source::Query(name) => format!("query.{name}").into(),
                _ => "path".into(),
            },
            value: Value::Of {
                source,
                absent: Absent::Empty,
            },
        });
    }
    if entries.is_empty() {
        entries.push(Entry {
            key: "generic_key".into(),
            value: Value::Fixed(name.into()),
        });
    }
    let unit = written.unit.as_deref().and_then(Unit::parse);
    Some(Descriptor {
        hits: None,
        entries: entries.into(),
        limit: match (written.requests, unit) {
            (Some(requests), Some(unit)) => Some(Override { requests, unit }),
            _ => None,
        },
    })
}
