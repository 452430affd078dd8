//! Our `AccessList` and `BodyLimit`, in front of what they are for.

use crate::base::{Cidr, Code};
use crate::model::own::{AccessList, BodyLimit, PolicyTarget};
use crate::plan::{AccessId, BodyLimitId, Guards, Policy};
use crate::policy::access::Access;

use super::{Guard, Targets};

pub(super) fn read_access(guard: &mut Guard<'_, '_>, spec: &AccessList) {
    let ranges = |texts: &[String]| {
        let read = texts.iter().map(|text| text.parse::<Cidr>().ok());
        read.flatten().collect()
    };
    let access = Access {
        allow: ranges(&spec.allow),
        deny: ranges(&spec.deny),
    };
    let policy = placed(guard, access);
    let index = guard.checks.access.len();
    let key = Targets::key(guard.object, &spec.target_ref);
    let has_streams = guard.targets.has_streams(&key);
    if put(guard, &spec.target_ref, has_streams, |guards| {
        guards.access.push(AccessId(index))
    }) {
        guard.checks.access.push(policy);
    }
}

pub(super) fn read_body(guard: &mut Guard<'_, '_>, spec: &BodyLimit) {
    let policy = placed(guard, spec.max_bytes.unwrap_or(0));
    let index = guard.checks.bodies.len();
    if put(guard, &spec.target_ref, false, |guards| {
        guards.bodies.push(BodyLimitId(index))
    }) {
        guard.checks.bodies.push(policy);
    }
}

pub(super) fn placed<T>(guard: &Guard<'_, '_>, policy: T) -> Policy<T> {
    Policy {
        id: guard.object.key.to_string().into(),
        policy,
        origin: guard.object.origin.clone(),
    }
}

/// Puts a guard where a target is served. Whether it is in force. `is_used` says that it holds for
/// more than requests.
fn put(
    guard: &mut Guard<'_, '_>,
    target: &PolicyTarget,
    is_used: bool,
    add: impl Fn(&mut Guards),
) -> bool {
    let Some(spots) = guard.spots(target) else {
        return false;
    };
    if spots.is_empty() && !is_used {
        let message = "no request that is served now is for its target".to_owned();
        guard.note(Code::UNUSED_OBJECT, "spec.targetRef", message, "");
    }
    for spot in spots {
        guard.sheets.add(guard.listeners, spot, &add);
    }
    true
}
