//! EnvoyFilters: which of their patches protect, and what these cover (istio.md section 9).
//!
//! A patch protects if its value names a filter that limits or authorizes. Everything else that
//! reaches this gateway is reported as unsupported.

use crate::base::Code;
use crate::model::istio::EnvoyFilter;
use crate::model::istio::envoy_filter::{ConfigPatch, PatchMatch};
use crate::model::node::{Node, Value};

use super::Guard;
use super::scope::Scope;

/// Parts of the names of Envoy's filters that refuse requests, and of their configuration.
const PROTECTIVE: [&str; 8] = [
    "ratelimit",
    "rate_limit",
    "ext_authz",
    "jwt_authn",
    "rbac",
    "oauth2",
    "basic_auth",
    "api_key_auth",
];

pub(super) fn read(guard: &mut Guard<'_, '_>, spec: &EnvoyFilter) {
    if spec.config_patches.is_empty() && guard.is_damaged("spec.configPatches") {
        guard.protect(
            &Scope::All,
            "spec.configPatches",
            "cannot be read, and may protect",
        );
    }
    for (index, slot) in spec.config_patches.iter().enumerate() {
        let path = format!("spec.configPatches[{index}]");
        let Some(patch) = slot.good() else {
            guard.protect(&Scope::All, &path, "cannot be read, and may protect");
            continue;
        };
        let context = patch
            .matches
            .as_ref()
            .and_then(|matches| matches.context.as_deref())
            .unwrap_or("ANY");
        if !matches!(context, "ANY" | "GATEWAY") && !guard.is_damaged(&path) {
            let message = format!("the context {context} is not a gateway's");
            guard.note(Code::NOT_FOR_THIS_GATEWAY, &path, message, "");
            continue;
        }
        let apply_to = patch.apply_to.as_deref().unwrap_or_default();
        if !protects(patch) {
            let message = format!("this patch of {apply_to} is not supported and has no effect");
            guard.note(
                Code::UNSUPPORTED,
                &path,
                message,
                "remove it to accept this",
            );
            continue;
        }
        match (apply_to, scope(apply_to, patch.matches.as_ref())) {
            ("CLUSTER", _) => {
                let message = "clusters added for a rate limit are not supported yet".to_owned();
                guard.note(Code::UNSUPPORTED, &path, message, "");
            }
            (_, Some(scope)) => guard.protect(
                &scope,
                &path,
                "limits or authorizes and is not enforced yet",
            ),
            (_, None) => {
                let message =
                    "`gateway` and `portName` match HTTPS tables only, and HTTPS is not served yet"
                        .to_owned();
                guard.note(Code::UNSUPPORTED, &path, message, "");
            }
        }
    }
}

/// Whether a patch protects connections that are not HTTP: one of anything but HTTP's own filters,
/// tables and the clusters.
pub(super) fn protects_streams(guard: &Guard<'_, '_>, spec: &EnvoyFilter) -> bool {
    const OF_HTTP: [&str; 5] = [
        "HTTP_FILTER",
        "VIRTUAL_HOST",
        "HTTP_ROUTE",
        "ROUTE_CONFIGURATION",
        "CLUSTER",
    ];
    if spec.config_patches.is_empty() {
        return guard.is_damaged("spec.configPatches");
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

fn protects(patch: &ConfigPatch) -> bool {
    patch.patch.as_ref().is_some_and(|patch| mentions(&patch.0))
}

/// Whether a key, a filter's name or a type anywhere in a value is protective.
fn mentions(node: &Node) -> bool {
    let is_protective = |text: &str| {
        let text = text.to_ascii_lowercase();
        PROTECTIVE.iter().any(|word| text.contains(word))
    };
    let has = |node: &Node| match &node.value {
        Value::String(text) => is_protective(text),
        _ => false,
    };
    node.entries().iter().any(|entry| {
        is_protective(&entry.key)
            || matches!(&*entry.key, "@type" | "type_url" | "typeUrl" | "name") && has(&entry.value)
            || mentions(&entry.value)
    }) || node.items().iter().any(mentions)
}

/// What a patch covers; `None` if nothing that can be served yet.
fn scope(apply_to: &str, matches: Option<&PatchMatch>) -> Option<Scope> {
    let empty = Node::new(crate::base::Position::default(), Value::Null);
    match apply_to {
        "HTTP_FILTER" | "NETWORK_FILTER" => {
            let listener = matches
                .and_then(|matches| matches.listener.as_ref())
                .map_or(&empty, |listener| &listener.0);
            Some(port(listener).map_or(Scope::All, Scope::Port))
        }
        "VIRTUAL_HOST" | "HTTP_ROUTE" | "ROUTE_CONFIGURATION" => {
            let table = matches.and_then(|matches| matches.route_configuration.as_ref());
            let table = table.map_or(&empty, |table| &table.0);
            if field(table, "gateway", "gateway").is_some()
                || field(table, "portName", "port_name").is_some()
            {
                return None;
            }
            let host = table.get("vhost").unwrap_or(&empty);
            let name = field(host, "name", "name");
            let domain = field(host, "domainName", "domain_name");
            Some(Scope::VirtualHosts {
                name,
                domain,
                port: port(table),
            })
        }
        _ => Some(Scope::All),
    }
}

fn field(node: &Node, name: &str, original: &str) -> Option<String> {
    let value = node.get(name).or_else(|| node.get(original))?;
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn port(node: &Node) -> Option<u16> {
    let value = node.get("portNumber").or_else(|| node.get("port_number"))?;
    match &value.value {
        Value::Int(text) | Value::String(text) => text.parse().ok().filter(|port| *port != 0),
        _ => None,
    }
}
