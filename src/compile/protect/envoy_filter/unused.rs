//! What takes no part in limits although it was understood.

use crate::base::Code;
use crate::plan::Listener;

use super::super::Guard;
use super::super::scope::{Scope, has_port};
use super::{Kind, Patch, What};

/// Says of each patch what of it takes no part.
pub(super) fn report<'a>(guard: &mut Guard<'_, 'a>, patches: &[Patch<'a>], used: &[bool]) {
    let stages: Vec<u32> = patches.iter().filter_map(stage).collect();
    for (patch, is_used) in patches.iter().zip(used) {
        match is_used {
            true => unstaged(guard, patch, &stages),
            false => idle(guard, patch),
        }
    }
}

/// Which `rate_limits` a filter is for.
fn stage(patch: &Patch<'_>) -> Option<u32> {
    match &patch.what {
        What::Filter {
            config: Kind::Global(config),
            ..
        } => Some(config.stage),
        What::Filter {
            config: Kind::Local(config),
            ..
        } => Some(config.stage),
        What::Table { .. } | What::Cluster(_) => None,
    }
}

/// Says of `rate_limits` that no filter is of their stage.
fn unstaged<'a>(guard: &mut Guard<'_, 'a>, patch: &Patch<'a>, stages: &[u32]) {
    let What::Table { limits, .. } = &patch.what else {
        return;
    };
    let mut items = limits.iter().filter(|item| !stages.contains(&item.stage));
    if let Some(item) = items.next() {
        guard.object = patch.object;
        let message = format!(
            "no filter is for its `rate_limits` of stage {}, so they have no effect, as in Envoy",
            item.stage
        );
        let hint = "insert a filter of that stage";
        guard.note(Code::INERT_FIELD, &patch.path(), message, hint);
    }
}

/// Says of a patch that it takes no part.
fn idle<'a>(guard: &mut Guard<'_, 'a>, patch: &Patch<'a>) {
    guard.object = patch.object;
    let path = patch.path();
    match &patch.what {
        What::Filter {
            config: Kind::Global(_),
            port,
            ..
        } if is_served(guard.listeners, *port) => {
            let message = "no virtual host or route has `rate_limits` for it, so it asks about no request, as in Envoy";
            let hint = "merge `rate_limits` with a patch of VIRTUAL_HOST";
            guard.note(Code::INERT_FIELD, &path, message.to_owned(), hint);
        }
        What::Filter { .. } => {
            let message = "no listener has the port that it is for".to_owned();
            guard.note(Code::UNUSED_OBJECT, &path, message, "");
        }
        What::Cluster(added) => {
            let message = format!(
                "no limit asks the cluster `{}`, so it has no effect",
                added.name
            );
            guard.note(
                Code::UNSUPPORTED,
                &path,
                message,
                "remove it to accept this",
            );
        }
        What::Table { table, limits, .. } => {
            let spots = table.hosts(guard.targets.gateways(), guard.listeners);
            if limits.is_empty() || spots.is_empty() {
                let message = "no virtual host or route that it is for has a filter of the name that it is for, so it has no effect, as in Envoy";
                let hint = "insert the filter with a patch of HTTP_FILTER";
                guard.note(Code::INERT_FIELD, &path, message.to_owned(), hint);
                return;
            }
            // Its limits may be meant for a filter that is not supported.
            let name = table.show();
            let what =
                "limits or authorizes and is not enforced yet: no rate limit is inserted for it";
            guard.protect(&Scope::Target { spots, name }, &path, what);
        }
    }
}

/// Whether a filter for a port, or for all, stands in a listener.
fn is_served(listeners: &[Listener], port: Option<u16>) -> bool {
    !listeners.is_empty()
        && port.is_none_or(|port| listeners.iter().any(|listener| has_port(listener, port)))
}
