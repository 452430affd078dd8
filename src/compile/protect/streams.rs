//! Protections of connections that are not HTTP: what authorizes them and is not enforced closes
//! them, as it makes requests answer 503.

use std::sync::Arc;

use crate::base::{Code, Findings};
use crate::compile::Options;
use crate::compile::gateway::Gateways;
use crate::compile::pattern::Patterns;
use crate::compile::version::Versions;
use crate::model::istio::EnvoyFilter;
use crate::model::istio::envoy_filter::ConfigPatch;
use crate::model::{Object, Spec};
use crate::plan::{Checks, Fence, StreamAction, StreamRoute, TcpSocket, TlsService, TlsSocket};

use super::{Guard, Sheets, Targets, envoy_filter, is_accepted};

/// Fences the routes of connections for every protection that covers them and is not enforced.
pub(crate) fn fence_streams(
    versions: &Versions,
    options: &Options,
    gateways: &Gateways<'_>,
    patterns: &Patterns,
    (tls, tcp): (&mut [TlsSocket], &mut [TcpSocket]),
    findings: &mut Findings,
) {
    if tcp.is_empty() && tls.iter().all(|socket| !carries_streams(socket)) {
        return;
    }
    let mut targets = Targets::new(versions, gateways);
    for object in versions.others() {
        let mut guard = Guard {
            versions,
            options,
            patterns,
            targets: &mut targets,
            sheets: &mut Sheets::default(),
            checks: &mut Checks::default(),
            limits: &mut Vec::new(),
            listeners: &mut [],
            findings,
            object,
        };
        if !guard.covers_streams(object) || is_accepted(&object.key, &options.accept_unenforced) {
            continue;
        }
        let reason = format!("{} is not enforced yet", object.key);
        let fence = Arc::new(Fence {
            origin: object.origin.clone(),
            reason: reason.into(),
        });
        let routes = tls.iter_mut().flat_map(|socket| &mut socket.servers);
        let routes = routes.filter_map(|server| match &mut server.service {
            TlsService::Tcp { route, .. } | TlsService::Passthrough { route, .. } => Some(route),
            TlsService::Http { .. } | TlsService::Unsupported => None,
        });
        let routes = routes.chain(tcp.iter_mut().map(|socket| &mut socket.route));
        routes.for_each(|route| close(route, &fence));
        let key = &object.key;
        let name = format!("{}/{}/{}", key.kind, key.namespace, key.name);
        let message = "it is not enforced yet, so connections that are not HTTP are closed";
        let hint = format!(
            "to serve without this protection, put `{name}` into `gateway.acceptUnenforced`"
        );
        guard.note(Code::UNENFORCED_PROTECTION, "", message.to_owned(), &hint);
    }
}

impl Guard<'_, '_> {
    /// Whether the object protects connections that are not HTTP.
    fn covers_streams(&mut self, object: &Object) -> bool {
        match &object.spec {
            Spec::AuthorizationPolicy(spec) => {
                let selector = spec.selector.as_ref();
                let labels = selector.map(|selector| &selector.match_labels);
                let is_trial = object
                    .annotations
                    .get("istio.io/dry-run")
                    .is_some_and(|value| **value == *"true");
                !is_trial
                    && spec.action.as_deref() != Some("AUDIT")
                    && self.is_ours(labels, spec.target_ref.is_some(), &spec.target_refs)
            }
            Spec::EnvoyFilter(spec) => {
                let selector = spec.workload_selector.as_ref();
                let labels = selector.map(|selector| &selector.labels);
                self.is_ours(labels, false, &spec.target_refs) && self.has_patch_of_streams(spec)
            }
            _ => false,
        }
    }

    /// Whether a patch protects connections that are not HTTP: one of anything but HTTP's own
    /// filters, tables and the clusters.
    fn has_patch_of_streams(&self, spec: &EnvoyFilter) -> bool {
        const OF_HTTP: [&str; 5] = [
            "HTTP_FILTER",
            "VIRTUAL_HOST",
            "HTTP_ROUTE",
            "ROUTE_CONFIGURATION",
            "CLUSTER",
        ];
        if spec.config_patches.is_empty() {
            return self.is_damaged("spec.configPatches");
        }
        spec.config_patches.iter().any(|slot| {
            let Some(patch) = slot.good() else {
                return true;
            };
            let context = patch.matches.as_ref().and_then(|it| it.context.as_deref());
            matches!(context, None | Some("ANY" | "GATEWAY"))
                && !OF_HTTP.contains(&patch.apply_to.as_deref().unwrap_or_default())
                && protects(patch)
        })
    }
}

fn protects(patch: &ConfigPatch) -> bool {
    let patch = patch.patch.as_ref();
    patch.is_some_and(|patch| envoy_filter::mentions(&patch.0))
}

fn carries_streams(socket: &TlsSocket) -> bool {
    let mut servers = socket.servers.iter();
    servers.any(|server| server.service.route().is_some())
}

fn close(route: &mut Arc<StreamRoute>, fence: &Arc<Fence>) {
    if !matches!(route.action, StreamAction::Fenced(_)) {
        Arc::make_mut(route).action = StreamAction::Fenced(fence.clone());
    }
}
