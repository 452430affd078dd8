//! Clusters that EnvoyFilters add, as far as a rate limit service is reached by one.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::node::Node;

use super::node::{Fields, Wrong};

/// Envoy's, for a cluster that names none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A cluster that speaks HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub name: String,
    /// Host or address, and port.
    pub addresses: Vec<(String, u16)>,
    /// At most one address of a name is used at a time.
    pub is_logical: bool,
    pub connect_timeout: Duration,
}

/// Reads `patch.value` of an ADD.
pub(super) fn read(node: &Node) -> Result<Added, Wrong> {
    let fields = Fields::read(
        node,
        "value",
        &[
            "name",
            "alt_stat_name",
            "type",
            "connect_timeout",
            "lb_policy",
            "http2_protocol_options",
            "typed_extension_protocol_options",
            "load_assignment",
            "dns_lookup_family",
            "dns_refresh_rate",
            "respect_dns_ttl",
        ],
    )?;
    let name = fields.text("name")?.unwrap_or_default();
    if name.is_empty() {
        return Err("the cluster has no name".into());
    }
    let kind = fields.text("type")?.unwrap_or("STATIC");
    if !matches!(kind, "STATIC" | "STRICT_DNS" | "LOGICAL_DNS") {
        return Err(format!("`type: {kind}` is not supported"));
    }
    match fields.text("lb_policy")? {
        // Which of its endpoints answers makes no difference to who asks.
        None | Some("ROUND_ROBIN" | "LEAST_REQUEST" | "RANDOM") => {}
        Some(other) => return Err(format!("`lb_policy: {other}` is not supported")),
    }
    if fields.get("http2_protocol_options").is_none() && !says_http2(&fields)? {
        return Err("it does not speak HTTP/2 (`http2_protocol_options`), as gRPC needs".into());
    }
    let addresses = addresses(&fields)?;
    if kind == "STATIC"
        && let Some((host, _)) = addresses
            .iter()
            .find(|(host, _)| host.parse::<IpAddr>().is_err())
    {
        return Err(format!(
            "`{host}` is no address, as a STATIC cluster's must be"
        ));
    }
    Ok(Added {
        name: name.to_owned(),
        addresses,
        is_logical: kind == "LOGICAL_DNS",
        connect_timeout: fields
            .duration("connect_timeout")?
            .unwrap_or(CONNECT_TIMEOUT),
    })
}

/// Whether the newer form of the protocol's options says HTTP/2.
fn says_http2(fields: &Fields<'_>) -> Result<bool, Wrong> {
    let name = "typed_extension_protocol_options";
    let place = fields.place(name);
    let mut says = false;
    for entry in fields.get(name).map(Node::entries).unwrap_or_default() {
        if *entry.key != *HTTP_OPTIONS {
            return Err(format!("`{place}.{}` is not supported", entry.key));
        }
        let known = ["@type", "explicit_http_config"];
        let options = Fields::read(&entry.value, &place, &known)?;
        let explicit = options.map("explicit_http_config", &["http2_protocol_options"])?;
        says = explicit.is_some_and(|own| own.get("http2_protocol_options").is_some());
    }
    Ok(says)
}

fn addresses(fields: &Fields<'_>) -> Result<Vec<(String, u16)>, Wrong> {
    let mut addresses = Vec::new();
    let known = ["cluster_name", "endpoints"];
    if let Some(assignment) = fields.map("load_assignment", &known)? {
        for (item, place) in assignment.list("endpoints")? {
            let locality = Fields::read(item, &place, &["lb_endpoints"])?;
            for (item, place) in locality.list("lb_endpoints")? {
                addresses.push(address(item, &place)?);
            }
        }
    }
    match addresses.is_empty() {
        true => Err("the cluster has no endpoints".into()),
        false => Ok(addresses),
    }
}

fn address(node: &Node, place: &str) -> Result<(String, u16), Wrong> {
    let fields = Fields::read(node, place, &["endpoint"])?;
    let known = ["address", "port_value", "protocol"];
    let endpoint = fields.map("endpoint", &["address"])?;
    let address = match &endpoint {
        Some(endpoint) => endpoint.map("address", &["socket_address"])?,
        None => None,
    };
    let socket = match &address {
        Some(address) => address.map("socket_address", &known)?,
        None => None,
    };
    let Some(socket) = socket else {
        return Err(format!("`{place}` has no socket_address"));
    };
    if !matches!(socket.text("protocol")?, None | Some("TCP" | "0")) {
        return Err(format!("`{place}` is not of TCP"));
    }
    let host = socket.text("address")?.unwrap_or_default();
    let port = socket.number("port_value")?.unwrap_or(0);
    match (host, u16::try_from(port)) {
        (host, Ok(port)) if !host.is_empty() && port > 0 => Ok((host.to_ascii_lowercase(), port)),
        _ => Err(format!("`{place}` has no address or no port")),
    }
}
