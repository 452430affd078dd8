//! EnvoyFilters: Envoy's local and global rate limits are put in force, whatever else protects
//! fences what it covers, and the rest is reported.
//!
//! A patch is honoured as a whole or not at all. Filters are told by their type, never by their
//! name. What belongs together may stand in several objects, so patches are collected first and
//! put in force when all are read.

mod actions;
mod cluster;
mod force;
mod global;
mod local;
mod node;
mod service;
mod table;
mod unused;

use crate::base::Code;
use crate::model::Object;
use crate::model::istio::EnvoyFilter;
use crate::model::istio::envoy_filter::{ConfigPatch, PatchMatch};
use crate::model::node::{Node, Value};

use super::Guard;
use super::scope::Scope;
use actions::{Item, Place};
use cluster::Added;
use local::Config;
use node::{Fields, Wrong, get, quote};
use table::{RouteMatch, TableMatch};

pub(super) use force::put_in_force;

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

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const ROUTER: &str = "envoy.filters.http.router";

/// A patch that is understood.
pub(super) struct Patch<'a> {
    object: &'a Object,
    index: usize,
    /// Patches are applied in this order, and then in the order they were read.
    rank: (i32, bool),
    what: What,
}

enum What {
    /// A rate limit among the HTTP filters.
    Filter {
        name: String,
        /// In front of all others; right before the router if not.
        is_front: bool,
        port: Option<u16>,
        config: Kind,
    },
    /// What virtual hosts or routes have of their own.
    Table {
        table: TableMatch,
        /// Only these routes, and not the virtual hosts.
        routes: Option<RouteMatch>,
        /// By the name of the filter that they are for.
        configs: Vec<(String, OwnKind)>,
        limits: Vec<Item>,
    },
    /// A cluster that a rate limit service may be reached by.
    Cluster(Added),
}

/// A filter's configuration.
enum Kind {
    Local(Box<Config>),
    Global(Box<global::Config>),
}

/// What a virtual host or route has for a filter.
enum OwnKind {
    Local(Box<Config>),
    Global(global::OfRoute),
}

impl<'a> Patch<'a> {
    pub(super) fn object(&self) -> &'a Object {
        self.object
    }

    fn path(&self) -> String {
        format!("spec.configPatches[{}]", self.index)
    }
}

/// Reads an object's patches: collects or reports each.
pub(super) fn read<'a>(
    guard: &mut Guard<'_, 'a>,
    spec: &EnvoyFilter,
    collected: &mut Vec<Patch<'a>>,
) {
    if spec.config_patches.is_empty() && guard.is_damaged("spec.configPatches") {
        guard.protect(
            &Scope::All,
            "spec.configPatches",
            "cannot be read, and may protect",
        );
    }
    let is_root = *guard.object.key.namespace == *guard.options.root_namespace;
    let rank = (spec.priority.unwrap_or(0), !is_root);
    for (index, slot) in spec.config_patches.iter().enumerate() {
        let path = format!("spec.configPatches[{index}]");
        let Some(patch) = slot.good() else {
            guard.protect(&Scope::All, &path, "cannot be read, and may protect");
            continue;
        };
        if guard.is_damaged(&path) {
            report(guard, patch, &path, "a part of it cannot be read");
            continue;
        }
        let matches = patch.matches.as_ref();
        let context = matches.and_then(|matches| matches.context.as_deref());
        if let Some(context) = context.filter(|context| !matches!(*context, "ANY" | "GATEWAY")) {
            let message = format!("the context {context} is not a gateway's");
            guard.note(Code::NOT_FOR_THIS_GATEWAY, &path, message, "");
            continue;
        }
        match understand(guard, patch) {
            Understood::Yes(what) => {
                unshared(guard, &path, &what);
                overcharged(guard, &path, &what);
                collected.push(Patch {
                    object: guard.object,
                    index,
                    rank,
                    what,
                });
            }
            Understood::No(wrong) => report(guard, patch, &path, &wrong),
            Understood::Inert(message) => {
                guard.note(
                    Code::INERT_FIELD,
                    &path,
                    message,
                    "remove it to accept this",
                );
            }
        }
    }
}

/// Says that a limit without shares does nothing (gotcha 40).
fn unshared(guard: &mut Guard<'_, '_>, path: &str, what: &What) {
    let is_inert = |config: &Config| config.bucket.is_some() && !config.has_shares;
    let is_unshared = match what {
        What::Filter {
            config: Kind::Local(config),
            ..
        } => is_inert(config),
        What::Table { configs, .. } => configs
            .iter()
            .any(|(_, own)| matches!(own, OwnKind::Local(config) if is_inert(config))),
        What::Filter { .. } | What::Cluster(_) => false,
    };
    if is_unshared {
        let message = "without `filter_enabled` and `filter_enforced` the limit holds for 0 % of requests, as in Envoy";
        let hint = "set both to 100 % to put it in force";
        guard.note(Code::INERT_FIELD, path, message.to_owned(), hint);
    }
}

/// Says that Envoy counts such requests as one (1.40).
fn overcharged(guard: &mut Guard<'_, '_>, path: &str, what: &What) {
    let What::Table { limits, .. } = what else {
        return;
    };
    if limits.iter().any(|item| item.is_overcharged) {
        let message = "`hits_addend` in the `rate_limits` of a virtual host or route is passed over, as in Envoy";
        let hint =
            "write it in the `rate_limits` of a RateLimitPerRoute in typed_per_filter_config";
        guard.note(Code::INERT_FIELD, path, message.to_owned(), hint);
    }
}

enum Understood {
    Yes(What),
    /// What is not honoured, and why; empty if it is just not known.
    No(Wrong),
    /// Envoy does nothing with it either.
    Inert(String),
}

impl From<Result<What, Wrong>> for Understood {
    fn from(read: Result<What, Wrong>) -> Self {
        match read {
            Ok(what) => Self::Yes(what),
            Err(wrong) => Self::No(wrong),
        }
    }
}

fn understand(guard: &Guard<'_, '_>, patch: &ConfigPatch) -> Understood {
    let Some(body) = patch.patch.as_ref().map(|patch| &patch.0) else {
        return Understood::No(Wrong::new());
    };
    let empty = Node::new(body.position, Value::Null);
    let operation = get(body, "operation").and_then(Node::as_str);
    let operation = operation.unwrap_or_default();
    let value = get(body, "value").unwrap_or(&empty);
    let matches = patch.matches.as_ref();
    match patch.apply_to.as_deref().unwrap_or_default() {
        "HTTP_FILTER" => {
            let typed = get(value, "typed_config");
            let read = typed.and_then(|typed| match local::find(typed) {
                Some(found) => Some(local::read(found).map(|config| Kind::Local(Box::new(config)))),
                None if global::is_global(typed) => {
                    Some(global::read(typed).map(|config| Kind::Global(Box::new(config))))
                }
                None => None,
            });
            match read {
                Some(config) => filter(operation, value, config, matches),
                None => Understood::No(Wrong::new()),
            }
        }
        "CLUSTER" if operation == "ADD" => cluster::read(value).map(What::Cluster).into(),
        name @ ("VIRTUAL_HOST" | "HTTP_ROUTE") if operation == "MERGE" && is_limit(value) => {
            table(guard, value, matches, name == "HTTP_ROUTE").into()
        }
        _ => Understood::No(Wrong::new()),
    }
}

/// Whether a virtual host's or route's value is about limits.
fn is_limit(value: &Node) -> bool {
    let route = get(value, "route");
    get(value, "rate_limits").is_some()
        || route.is_some_and(|route| get(route, "rate_limits").is_some())
        || get(value, "typed_per_filter_config").is_some_and(|configs| {
            let mut entries = configs.entries().iter();
            entries.any(|entry| {
                local::find(&entry.value).is_some() || global::is_of_route(&entry.value)
            })
        })
}

fn filter(
    operation: &str,
    value: &Node,
    config: Result<Kind, Wrong>,
    matches: Option<&PatchMatch>,
) -> Understood {
    let (is_front, port) = match place(operation, matches) {
        Ok(Some(place)) => place,
        Ok(None) => {
            let message =
                "its `match` names a filter that no listener has, so it has no effect, as in Istio";
            return Understood::Inert(message.into());
        }
        Err(wrong) => return Understood::No(wrong),
    };
    let read = move || {
        let fields = Fields::read(value, "value", &["name", "typed_config"])?;
        Ok(What::Filter {
            name: fields.text("name")?.unwrap_or_default().to_owned(),
            is_front,
            port,
            config: config?,
        })
    };
    read().into()
}

/// Where a filter goes: whether to the front, and on which port. `None` if nowhere.
fn place(
    operation: &str,
    matches: Option<&PatchMatch>,
) -> Result<Option<(bool, Option<u16>)>, Wrong> {
    let listener = matches.and_then(|matches| matches.listener.as_ref());
    let Some(listener) = listener else {
        return match operation {
            "INSERT_BEFORE" | "INSERT_FIRST" => Ok(Some((true, None))),
            other => Err(format!("the operation {other} is not supported")),
        };
    };
    let fields = Fields::read(
        &listener.0,
        "match.listener",
        &["port_number", "filter_chain"],
    )?;
    let port = fields.number("port_number")?.filter(|port| *port != 0);
    let port = port
        .map(u16::try_from)
        .transpose()
        .map_err(|_| "it is no port")?;
    let chain = fields.map("filter_chain", &["filter"])?;
    let filter = match &chain {
        Some(chain) => chain.map("filter", &["name", "sub_filter"])?,
        None => None,
    };
    let (mut name, mut sub) = (None, None);
    if let Some(filter) = &filter {
        name = filter.text("name")?;
        if let Some(filter) = filter.map("sub_filter", &["name"])? {
            sub = filter.text("name")?;
        }
    }
    if name.is_some_and(|name| name != MANAGER) {
        return Ok(None);
    }
    match (operation, sub) {
        ("INSERT_BEFORE", Some(ROUTER)) => Ok(Some((false, port))),
        ("INSERT_FIRST", _) | ("INSERT_BEFORE", None) => Ok(Some((true, port))),
        ("INSERT_BEFORE", Some(sub)) => Err(format!("a place before `{sub}` is not supported")),
        (other, _) => Err(format!("the operation {other} is not supported")),
    }
}

fn table(
    guard: &Guard<'_, '_>,
    value: &Node,
    matches: Option<&PatchMatch>,
    is_route: bool,
) -> Result<What, Wrong> {
    let (table, routes) = table::read(matches)?;
    let known: &[&str] = match is_route {
        true => &["route", "typed_per_filter_config"],
        false => &["rate_limits", "typed_per_filter_config"],
    };
    let fields = Fields::read(value, "value", known)?;
    let written = match is_route {
        true => match fields.map("route", &["rate_limits"])? {
            Some(route) => route.list("rate_limits")?,
            None => Vec::new(),
        },
        false => fields.list("rate_limits")?,
    };
    let mut limits = Vec::new();
    for (item, place) in written {
        limits.push(actions::read(guard, item, &place, Place::Table)?);
    }
    let mut configs = Vec::new();
    let entries = fields.get("typed_per_filter_config");
    for entry in entries.map(Node::entries).unwrap_or_default() {
        if global::is_of_route(&entry.value) {
            let own = global::read_of_route(guard, &entry.value)?;
            configs.push((entry.key.to_string(), OwnKind::Global(own)));
            continue;
        }
        let Some(node) = local::find(&entry.value) else {
            return Err(format!(
                "the configuration of `{}` is not supported",
                entry.key
            ));
        };
        let config = local::read(node)?;
        if config.bucket.is_none() {
            return Err(
                "a limit of a virtual host or route has no `token_bucket`, which Envoy refuses"
                    .into(),
            );
        }
        configs.push((entry.key.to_string(), OwnKind::Local(Box::new(config))));
    }
    Ok(What::Table {
        table,
        routes: is_route.then_some(routes),
        configs,
        limits,
    })
}

/// Says of a patch that it is not honoured; one that protects fences what it covers.
fn report(guard: &mut Guard<'_, '_>, patch: &ConfigPatch, path: &str, wrong: &str) {
    let body = patch.patch.as_ref().map(|patch| &patch.0);
    let value = body.and_then(|body| get(body, "value").or(Some(body)));
    let quoted = value.map(quote).unwrap_or_default();
    let apply_to = patch.apply_to.as_deref().unwrap_or_default();
    let why = match wrong {
        "" => String::new(),
        wrong => format!(": {wrong}"),
    };
    if !body.is_some_and(mentions) {
        let message = format!(
            "this patch of {apply_to} is not supported and has no effect{why}; it says `{quoted}`"
        );
        guard.note(Code::UNSUPPORTED, path, message, "remove it to accept this");
        return;
    }
    if apply_to == "CLUSTER" {
        // A filter that would ask it is fenced.
        let message = format!("this cluster is not added{why}; it says `{quoted}`");
        guard.note(Code::UNSUPPORTED, path, message, "");
        return;
    }
    let scope = scope(guard, apply_to, patch.matches.as_ref());
    let what = format!("limits or authorizes and is not enforced yet{why}; it says `{quoted}`");
    guard.protect(&scope, path, &what);
}

/// Whether a key, a filter's name or a type anywhere in a value is protective.
pub(super) fn mentions(node: &Node) -> bool {
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

/// What a patch covers that is not honoured.
fn scope(guard: &Guard<'_, '_>, apply_to: &str, matches: Option<&PatchMatch>) -> Scope {
    match apply_to {
        "HTTP_FILTER" | "NETWORK_FILTER" => {
            let listener = matches.and_then(|matches| matches.listener.as_ref());
            let port = listener.and_then(|listener| get(&listener.0, "port_number"));
            let port = port.and_then(|node| match &node.value {
                Value::Int(text) | Value::String(text) => text.parse().ok(),
                _ => None,
            });
            port.filter(|port| *port != 0)
                .map_or(Scope::All, Scope::Port)
        }
        "VIRTUAL_HOST" | "HTTP_ROUTE" | "ROUTE_CONFIGURATION" => {
            let table = table::covered(matches);
            Scope::Target {
                spots: table.hosts(guard.targets.gateways(), guard.listeners),
                name: table.show(),
            }
        }
        _ => Scope::All,
    }
}
