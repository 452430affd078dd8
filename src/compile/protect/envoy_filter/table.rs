//! Which virtual hosts and routes a patch of a route table is for.

use crate::compile::gateway::Gateways;
use crate::model::istio::envoy_filter::PatchMatch;
use crate::model::node::Node;
use crate::plan::{Action, Listener, Route, VirtualHost};

use super::super::scope::has_port;
use super::super::sheet::Spot;
use super::node::{Fields, Wrong, get};

/// `match.routeConfiguration`; what is not set matches all.
#[derive(Clone, Debug, Default)]
pub(super) struct TableMatch {
    /// `host:port`.
    name: Option<String>,
    domain: Option<String>,
    port: Option<u16>,
    /// `namespace/name`; only of tables behind TLS, as in Istio.
    gateway: Option<String>,
    port_name: Option<String>,
}

/// `vhost.route`.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteMatch {
    name: Option<String>,
    action: Option<String>,
}

/// Reads what a patch is for.
pub(super) fn read(matches: Option<&PatchMatch>) -> Result<(TableMatch, RouteMatch), Wrong> {
    let (mut table, mut route) = (TableMatch::default(), RouteMatch::default());
    let written = matches.and_then(|matches| matches.route_configuration.as_ref());
    let Some(written) = written else {
        return Ok((table, route));
    };
    let known = ["port_number", "gateway", "port_name", "vhost"];
    let fields = Fields::read(&written.0, "match.routeConfiguration", &known)?;
    let text = |fields: &Fields<'_>, name| {
        let text = fields.text(name)?.filter(|text| !text.is_empty());
        Ok::<_, Wrong>(text.map(str::to_owned))
    };
    let port = fields.number("port_number")?.filter(|port| *port != 0);
    table.port = port
        .map(u16::try_from)
        .transpose()
        .map_err(|_| "it is no port")?;
    table.gateway = text(&fields, "gateway")?;
    table.port_name = text(&fields, "port_name")?;
    if let Some(host) = fields.map("vhost", &["name", "domain_name", "route"])? {
        table.name = text(&host, "name")?;
        table.domain = text(&host, "domain_name")?;
        if let Some(fields) = host.map("route", &["name", "action"])? {
            route.name = text(&fields, "name")?;
            route.action = text(&fields, "action")?.filter(|action| action != "ANY");
        }
    }
    match route.action.as_deref() {
        None | Some("ROUTE" | "REDIRECT" | "DIRECT_RESPONSE") => Ok((table, route)),
        Some(other) => Err(format!("the action {other} is not one of routes")),
    }
}

/// What a patch covers that is not understood: as much of its match as can be read.
pub(super) fn covered(matches: Option<&PatchMatch>) -> TableMatch {
    let written = matches.and_then(|matches| matches.route_configuration.as_ref());
    let text = |node: &Node, name: &str| {
        let text = get(node, name)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let Some(node) = written.map(|written| &written.0) else {
        return TableMatch::default();
    };
    let host = get(node, "vhost");
    let fields = Fields::read(node, "", &["port_number", "gateway", "port_name", "vhost"]);
    let port = fields
        .ok()
        .and_then(|fields| fields.number("port_number").ok()?);
    TableMatch {
        name: host.and_then(|host| text(host, "name")),
        domain: host.and_then(|host| text(host, "domain_name")),
        port: port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0),
        gateway: text(node, "gateway"),
        port_name: text(node, "port_name"),
    }
}

impl TableMatch {
    /// The virtual hosts that it matches.
    pub(super) fn hosts(&self, gateways: &Gateways<'_>, listeners: &[Listener]) -> Vec<Spot> {
        let mut spots = Vec::new();
        for (index, listener) in listeners.iter().enumerate() {
            if !self.is_of(gateways, listeners, listener) {
                continue;
            }
            let hosts = listener.virtual_hosts.iter().enumerate();
            let named = hosts.filter(|(_, host)| self.names(host));
            spots.extend(named.map(|(number, _)| Spot::Host(index, number)));
        }
        spots
    }

    /// Whether it matches a listener's table.
    fn is_of(&self, gateways: &Gateways<'_>, listeners: &[Listener], listener: &Listener) -> bool {
        self.is_of_port(listeners, listener)
            && (self.gateway.is_none() && self.port_name.is_none()
                || listener.is_tls && self.is_of_server(gateways, listener))
    }

    /// A port that is not ours may be one that Istio's Service would map to ours.
    fn is_of_port(&self, listeners: &[Listener], listener: &Listener) -> bool {
        let Some(port) = self.port else {
            return true;
        };
        has_port(listener, port) || !listeners.iter().any(|listener| has_port(listener, port))
    }

    fn is_of_server(&self, gateways: &Gateways<'_>, listener: &Listener) -> bool {
        let servers = gateways.servers.iter();
        let mut own = servers.filter(|server| listener.origins.contains(&server.origin));
        own.any(|server| {
            let key = &server.object.key;
            let name = format!("{}/{}", key.namespace, key.name);
            self.gateway.as_ref().is_none_or(|gateway| *gateway == name)
                && self
                    .port_name
                    .as_ref()
                    .is_none_or(|port| port == server.port_name)
        })
    }

    fn names(&self, host: &VirtualHost) -> bool {
        let shown = host.host.to_string();
        let is_name = |name: &String| {
            let bare = name.rsplit_once(':').map(|(name, _)| name);
            **name == *host.name || bare == Some(&*shown)
        };
        let is_domain = |domain: &String| domain.eq_ignore_ascii_case(&shown);
        self.name.as_ref().is_none_or(is_name) && self.domain.as_ref().is_none_or(is_domain)
    }

    pub(super) fn show(&self) -> String {
        match (&self.name, &self.domain) {
            (Some(name), _) => format!("the virtual host `{name}`"),
            (None, Some(domain)) => format!("the host `{domain}`"),
            (None, None) => "every virtual host".into(),
        }
    }
}

impl RouteMatch {
    pub(super) fn is_of(&self, route: &Route) -> bool {
        let action = match &*route.action {
            Action::Forward(_) => "ROUTE",
            Action::Redirect { .. } => "REDIRECT",
            Action::Direct { .. } | Action::Fenced(_) => "DIRECT_RESPONSE",
        };
        self.name.as_ref().is_none_or(|name| **name == *route.name)
            && self.action.as_ref().is_none_or(|own| own == action)
    }
}
