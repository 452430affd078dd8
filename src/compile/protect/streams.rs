//! Protections of connections that are not HTTP: lists of clients hold for them too; what authorizes
//! them and is not enforced closes them, as it makes requests answer 503.

use std::sync::Arc;

use crate::base::{Code, Findings, Kind, Origin, Severity};
use crate::compile::Options;
use crate::compile::gateway::Gateways;
use crate::compile::pattern::Patterns;
use crate::compile::version::Versions;
use crate::model::istio::EnvoyFilter;
use crate::model::istio::envoy_filter::ConfigPatch;
use crate::model::own::{BodyLimit, PolicyTarget, RateLimit};
use crate::model::{Object, Spec};
use crate::plan::{
    AccessId, Checks, Fence, StreamAction, StreamRoute, TcpSocket, TlsService, TlsSocket,
};

use super::{Guard, Sheets, Targets, envoy_filter, is_accepted};

/// Gives the routes of connections the lists of clients that are for them, and fences them for
/// every protection that covers them and is not enforced. `checks` has the lists that are in force.
pub(crate) fn protect_streams(
    versions: &Versions,
    options: &Options,
    gateways: &Gateways<'_>,
    patterns: &Patterns,
    checks: &Checks,
    (tls, tcp): (&mut [TlsSocket], &mut [TcpSocket]),
    findings: &mut Findings,
) {
    if tcp.is_empty() && tls.iter().all(|socket| !carries_streams(socket)) {
        return;
    }
    let Some(object) = versions.others().next() else {
        return;
    };
    let mut guard = Guard {
        versions,
        options,
        patterns,
        targets: &mut Targets::new(versions, gateways),
        sheets: &mut Sheets::default(),
        checks: &mut Checks::default(),
        limits: &mut Vec::new(),
        listeners: &mut [],
        findings,
        object,
    };
    for object in versions.others() {
        guard.object = object;
        match &object.spec {
            Spec::AccessList(spec) => {
                let id = object.key.to_string();
                let mut lists = checks.access.iter();
                let list = lists.position(|policy| *policy.id == *id).map(AccessId);
                let meant = guard.streams_of(&spec.target_ref, tls, tcp);
                match list {
                    Some(list) => meant.for_each(|route| Arc::make_mut(route).access.push(list)),
                    None => guard.close(meant.collect(), "has errors and is not enforced"),
                }
            }
            Spec::RateLimit(RateLimit { target_ref, .. })
            | Spec::BodyLimit(BodyLimit { target_ref, .. })
                if guard.streams_of(target_ref, tls, tcp).next().is_some() =>
            {
                let message = "it is for requests; connections that are not HTTP pass it";
                let finding = guard
                    .finding(Code::UNSUPPORTED, "spec.targetRef", message.to_owned())
                    .severity(Severity::Info)
                    .hint("`connectionPool.tcp` of a DestinationRule bounds connections");
                guard.findings.push(finding);
            }
            _ if guard.covers_streams(object) => {
                let all = routes(tls, tcp).map(|(_, route)| route).collect();
                guard.close(all, "is not enforced yet");
            }
            _ => {}
        }
    }
}

/// Each route of connections, with its server's place.
fn routes<'s>(
    tls: &'s mut [TlsSocket],
    tcp: &'s mut [TcpSocket],
) -> impl Iterator<Item = (&'s Origin, &'s mut Arc<StreamRoute>)> {
    let servers = tls.iter_mut().flat_map(|socket| &mut socket.servers);
    let inside = servers.filter_map(|server| match &mut server.service {
        TlsService::Tcp { route, .. } | TlsService::Passthrough { route, .. } => {
            Some((&server.origin, route))
        }
        TlsService::Http { .. } | TlsService::Unsupported => None,
    });
    inside.chain(
        tcp.iter_mut()
            .map(|socket| (&socket.server, &mut socket.route)),
    )
}

impl Guard<'_, '_> {
    /// The routes of connections that a policy's target serves; all if the target cannot be read. A
    /// named rule is one of `http`.
    fn streams_of<'s>(
        &self,
        target: &PolicyTarget,
        tls: &'s mut [TlsSocket],
        tcp: &'s mut [TcpSocket],
    ) -> impl Iterator<Item = &'s mut Arc<StreamRoute>> + use<'s> {
        let key = Targets::key(self.object, target);
        let is_everything = self.is_damaged("spec.targetRef");
        let is_rule = target.section_name.is_some();
        let servers = self.targets.gateways().servers.iter();
        let own: Vec<Origin> = servers
            .filter(|server| server.object.key == key)
            .map(|server| server.origin.clone())
            .collect();
        routes(tls, tcp).filter_map(move |(server, route)| {
            let is_meant = match key.kind {
                Kind::Gateway => own.contains(server),
                _ => !is_rule && route.object == key,
            };
            (is_everything || is_meant).then_some(route)
        })
    }

    /// Closes connections for a protection that does not hold, unless the operator accepts that.
    fn close(&mut self, routes: Vec<&mut Arc<StreamRoute>>, what: &str) {
        let key = &self.object.key;
        if routes.is_empty() || is_accepted(key, &self.options.accept_unenforced) {
            return;
        }
        let fence = Arc::new(Fence {
            origin: self.object.origin.clone(),
            reason: format!("{key} {what}").into(),
        });
        for route in routes {
            if !matches!(route.action, StreamAction::Fenced(_)) {
                Arc::make_mut(route).action = StreamAction::Fenced(fence.clone());
            }
        }
        let name = format!("{}/{}/{}", key.kind, key.namespace, key.name);
        let message = format!("it {what}, so connections that are not HTTP are closed");
        let hint = format!(
            "to serve without this protection, put `{name}` into `gateway.acceptUnenforced`"
        );
        self.note(Code::UNENFORCED_PROTECTION, "", message, &hint);
    }

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
