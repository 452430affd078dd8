//! Our `RateLimit`: its words as limits, in front of what it is for.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::base::quantity::parse_duration;
use crate::base::{Code, Share};
use crate::compile::registry::Registry;
use crate::compile::validate::rate_limit::{HEADERS, bucket, on_error, redis_place};
use crate::model::own::RateLimit as Written;
use crate::model::own::rate_limit::{KeyPart, Limit as WrittenLimit};
use crate::model::{FieldPath, Object};
use crate::plan::{LimitId, PlacedLimit};
use crate::policy::rate_limit::spec::{
    Announce, Counted, Limit, Part, PathTemplate, RateLimit, Refusal, Source,
};
use crate::policy::rate_limit::store::Store;

use super::Guard;
use super::scope::Scope;

mod global;

/// Keys that a limit counts apart unless it says otherwise: 1 MiB.
const KEYS: u32 = 65_536;

/// For one check, where nothing says how long it may take.
const REDIS_TIMEOUT: Duration = Duration::from_millis(100);

/// Bits of an address that tell clients apart. A client usually has a whole IPv6 /64.
const PREFIXES: (u32, u32) = (32, 64);

pub(super) fn read(guard: &mut Guard<'_, '_>, registry: &mut Registry<'_>, spec: &Written) {
    let Some(spots) = guard.spots(&spec.target_ref) else {
        return;
    };
    if spots.is_empty() {
        let message = "no request that is served now is limited by it".to_owned();
        guard.note(Code::UNUSED_OBJECT, "spec.targetRef", message, "");
    }
    let limit = compile(guard.object, spec, replicas(guard, spec));
    let limit = match &spec.global {
        None => limit,
        Some(written) => match global::counted(guard, registry, spec, written, limit) {
            Ok(limit) => limit,
            Err(wrong) => {
                let what = format!("limits and is not enforced: {wrong}");
                let name = "what it is for".to_owned();
                guard.protect(&Scope::Target { spots, name }, "spec.global.service", &what);
                return;
            }
        },
    };
    let id = guard.limit(limit);
    let limits = &*guard.limits;
    // What tells clients apart comes before what all share: a client that is refused by its own
    // limit uses up nobody else's.
    let is_shared = |id: LimitId| {
        let limit = limits.get(id.0 as usize);
        limit.is_some_and(|limit| limit.policy.is_shared())
    };
    for spot in spots {
        guard.sheets.add(guard.listeners, spot, |guards| {
            let mut known = guards.back.iter();
            let before = known.position(|known| is_shared(*known) && !is_shared(id));
            guards.back.insert(before.unwrap_or(guards.back.len()), id);
        });
    }
}

/// Among how many processes the limits are divided.
fn replicas(guard: &mut Guard<'_, '_>, spec: &Written) -> NonZeroU32 {
    // What is counted in one place is not divided.
    if spec.scope.as_deref() != Some("gateway") || spec.redis.is_some() {
        return NonZeroU32::MIN;
    }
    guard.options.replicas.unwrap_or_else(|| {
        let message = "how many replicas there are is not known, so each has the whole limit";
        let hint = "say in the settings how many run, as `gateway: {replicas: 3}`";
        guard.note(Code::INERT_FIELD, "spec.scope", message.into(), hint);
        NonZeroU32::MIN
    })
}

fn compile(object: &Object, spec: &Written, replicas: NonZeroU32) -> PlacedLimit {
    let limits = FieldPath::spec().field("limits");
    let written = spec.limits.iter().enumerate();
    let (mut limits, origins): (Vec<Limit>, Vec<_>) = written
        .filter_map(|(index, slot)| {
            let limit = of_limit(slot.good()?, replicas).filter(|_| spec.global.is_none())?;
            Some((limit, object.origin_of(&limits.index(index))))
        })
        .unzip();
    // A limit that stays as it is keeps its buckets, whatever else changes.
    for index in 0..limits.len() {
        let (before, rest) = limits.split_at_mut(index);
        let Some(limit) = rest.first_mut() else { break };
        let shown = limit.to_string();
        let same = before.iter().filter(|before| before.to_string() == shown);
        limit.group = format!("{} {shown} {}", object.key, same.count()).into();
    }
    let observes = spec.mode.as_deref() == Some("observe");
    let headers = spec.headers.as_deref().unwrap_or("ietf");
    let headers = HEADERS.iter().find(|(name, _)| *name == headers);
    let (ietf, x_ratelimit) = headers.map(|(_, said)| *said).unwrap_or_default();
    let policy = RateLimit {
        enforced: match observes {
            true => Share::NONE,
            false => Share::ALL,
        },
        refusal: Refusal {
            retry_after: true,
            ..Refusal::default()
        },
        // Who only observes is not seen.
        announce: match observes {
            true => Announce::default(),
            false => Announce {
                ietf: ietf.then(|| (*object.key.name).into()),
                x_ratelimit,
            },
        },
        counted: counted(spec),
        ..RateLimit::new(object.key.to_string(), limits)
    };
    PlacedLimit {
        policy: Arc::new(policy),
        origin: object.origin.clone(),
        origins: origins.into(),
        service: None,
    }
}

/// Who counts, where no service does.
fn counted(spec: &Written) -> Counted {
    let store = spec.redis.as_ref().and_then(|redis| {
        let timeout = redis.timeout.as_deref();
        let timeout = timeout.and_then(|text| parse_duration(text, false).ok());
        Some(Store {
            url: redis.url.as_str().into(),
            shown: redis_place(&redis.url).ok()?.into(),
            timeout: timeout.unwrap_or(REDIS_TIMEOUT),
            on_error: on_error(redis)?,
        })
    });
    store.map_or(Counted::Here, |store| Counted::Store(Box::new(store)))
}

fn of_limit(written: &WrittenLimit, replicas: NonZeroU32) -> Option<Limit> {
    let key = written.key.iter().filter_map(|slot| part(slot.good()?));
    Some(Limit {
        group: Arc::default(),
        bucket: bucket(written)?.over(replicas),
        ways: Box::new([key.collect()]),
        keys: written.max_keys.unwrap_or(KEYS),
        otherwise: false,
    })
}

/// What tells keys apart. Leaving it out is no way around the limit.
fn part(written: &KeyPart) -> Option<Part> {
    let source = source(written)?;
    Some(Part::Each {
        source,
        shared: true,
    })
}

fn source(written: &KeyPart) -> Option<Source> {
    let KeyPart {
        client_address,
        header,
        cookie,
        query,
        path,
    } = written;
    let bits = |length: Option<u32>, default: u32| u8::try_from(length.unwrap_or(default)).ok();
    Some(if let Some(address) = client_address {
        Source::Client {
            v4: bits(address.ipv4_prefix_length, PREFIXES.0)?,
            v6: bits(address.ipv6_prefix_length, PREFIXES.1)?,
        }
    } else if let Some(name) = header {
        Source::Header(name.parse::<HeaderName>().ok()?)
    } else if let Some(name) = cookie {
        Source::Cookie(name.as_str().into())
    } else if let Some(name) = query {
        Source::Query(name.as_str().into())
    } else {
        Source::Path(PathTemplate::parse(path.as_deref()?).ok()?)
    })
}
