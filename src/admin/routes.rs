//! The effective routing table: one row per route, in the order they are tried.
//!
//! Shown by the admin endpoint and printed by `pingress routes`.

use std::fmt::Write;
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;

use crate::plan::{
    Action, Forward, Listener, Plan, Route, StreamAction, StreamRoute, Target, VirtualHost,
};

/// One row of the table.
#[derive(Debug, Serialize)]
struct Row {
    listener: String,
    port: u16,
    host: String,
    #[serde(rename = "match")]
    conditions: String,
    /// One per destination.
    actions: Vec<String>,
    name: Option<String>,
    object: Option<String>,
    path: Option<String>,
    origin: Option<String>,
}

/// A table with columns, grouped by listener. Each destination has a line of its own.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for listener in &plan.listeners {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "listener {} (port {}{})",
            listener.addr,
            listener.declared_port,
            if listener.is_tls { ", TLS" } else { "" }
        );
        table(&rows(plan, listener), &mut text);
        text.push('\n');
    }
    for (address, rows) in streams(plan) {
        let _ = writeln!(text, "listener {address} (connections)");
        table(&rows, &mut text);
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("no listener\n");
    }
    text
}

/// The routes of connections, by socket.
fn streams(plan: &Plan) -> Vec<(SocketAddr, Vec<Row>)> {
    let row = |address: SocketAddr, port: u16, host: String, route: &StreamRoute| Row {
        listener: address.to_string(),
        port,
        host,
        conditions: "every connection".to_owned(),
        actions: connections(plan, route),
        name: None,
        object: Some(route.object.to_string()),
        path: Some(route.path.to_string()),
        origin: Some(route.origin.to_string()),
    };
    let mut all = Vec::new();
    for socket in &plan.tls {
        let mut rows = Vec::new();
        for (number, server) in (0..).zip(&socket.servers) {
            let Some(route) = server.service.route() else {
                continue;
            };
            for name in socket.names_of(number) {
                rows.push(row(socket.addr, socket.declared_port, name, route));
            }
        }
        all.push((socket.addr, rows));
    }
    for socket in &plan.tcp {
        let row = row(socket.addr, socket.declared_port, "*".into(), &socket.route);
        all.push((socket.addr, vec![row]));
    }
    all.retain(|(_, rows)| !rows.is_empty());
    all
}

fn connections(plan: &Plan, route: &StreamRoute) -> Vec<String> {
    let forward = match &route.action {
        StreamAction::Forward(forward) => forward,
        StreamAction::Fenced(fence) => return vec![format!("closed: {}", fence.reason)],
    };
    let several = forward.destinations.len() > 1;
    let all = forward.destinations.iter().map(|destination| {
        let name = target(plan, &destination.target, "closed");
        match several {
            true => format!("{}/{} {name}", destination.weight, forward.total_weight),
            false => name,
        }
    });
    all.collect()
}

fn table(rows: &[Row], text: &mut String) {
    let mut lines = vec![["HOST", "MATCH", "ACTION", "ORIGIN"]];
    let mut last = "";
    for row in rows {
        // A host's name stands once, before its first rule.
        let host = if row.host == last { "" } else { &row.host };
        last = &row.host;
        let origin = row.origin.as_deref().unwrap_or("-");
        for (number, action) in row.actions.iter().enumerate() {
            lines.push(match number {
                0 => [host, &row.conditions, action, origin],
                _ => ["", "", action, ""],
            });
        }
    }
    let mut widths = [0; 4];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in &lines {
        let cells: String = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("  {cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.trim_end());
    }
}

/// The same as a JSON array.
#[must_use]
pub fn json(plan: &Plan) -> Value {
    let rows: Vec<Row> = plan
        .listeners
        .iter()
        .flat_map(|listener| rows(plan, listener))
        .chain(streams(plan).into_iter().flat_map(|(_, rows)| rows))
        .collect();
    // Strings and numbers only: this cannot fail.
    serde_json::to_value(rows).unwrap_or_default()
}

fn rows(plan: &Plan, listener: &Listener) -> Vec<Row> {
    let blank = |host: String, action: String, origin: Option<String>| Row {
        listener: listener.addr.to_string(),
        port: listener.declared_port,
        host,
        conditions: "everything".to_owned(),
        actions: vec![action],
        name: None,
        object: None,
        path: None,
        origin,
    };
    let mut rows = Vec::new();
    if let Some(fence) = &listener.fence {
        rows.push(blank(
            "*".into(),
            format!("503: {}", fence.reason),
            Some(fence.origin.to_string()),
        ));
    }
    for host in &listener.virtual_hosts {
        rows_of_host(plan, host, &blank, &mut rows);
    }
    rows
}

fn rows_of_host(
    plan: &Plan,
    host: &VirtualHost,
    blank: &impl Fn(String, String, Option<String>) -> Row,
    rows: &mut Vec<Row>,
) {
    let name = host.host.to_string();
    if let Some(fence) = &host.fence {
        rows.push(blank(
            name.clone(),
            format!("503: {}", fence.reason),
            Some(fence.origin.to_string()),
        ));
    }
    if let Some(server) = &host.https_redirect {
        rows.push(blank(
            name.clone(),
            "redirect to https".to_owned(),
            Some(server.to_string()),
        ));
    }
    if host.routes.is_empty() && host.fence.is_none() && host.https_redirect.is_none() {
        rows.push(blank(
            name.clone(),
            "404: the host has no rule".to_owned(),
            None,
        ));
    }
    for route in &host.routes {
        rows.push(Row {
            conditions: route.conditions(),
            actions: actions(plan, route),
            name: Some(route.name.to_string()),
            object: Some(route.object.to_string()),
            path: Some(route.path.to_string()),
            ..blank(name.clone(), String::new(), Some(route.origin.to_string()))
        });
    }
}

fn actions(plan: &Plan, route: &Route) -> Vec<String> {
    match &*route.action {
        Action::Forward(forward) => destinations(plan, forward),
        Action::Redirect { redirect, .. } => vec![format!("redirect {}", redirect.status)],
        Action::Direct { response, .. } => vec![format!("answer {}", response.status)],
        Action::Fenced(fence) => vec![format!("503: {}", fence.reason)],
    }
}

fn destinations(plan: &Plan, forward: &Forward) -> Vec<String> {
    let several = forward.destinations.len() > 1;
    forward
        .destinations
        .iter()
        .map(|destination| {
            let name = target(plan, &destination.target, "503");
            if several {
                format!("{}/{} {name}", destination.weight, forward.total_weight)
            } else {
                name
            }
        })
        .collect()
}

/// A destination; `so` is what happens where it is missing.
fn target(plan: &Plan, target: &Target, so: &str) -> String {
    match target {
        Target::Missing { name, .. } => format!("{name} (missing: {so})"),
        Target::Cluster(id) => match plan.cluster(*id) {
            None => "nothing".to_owned(),
            Some(cluster) => match &cluster.subset {
                Some(subset) => format!("{}:{} subset {subset}", cluster.host, cluster.port),
                None => format!("{}:{}", cluster.host, cluster.port),
            },
        },
    }
}

#[cfg(test)]
mod tests;
