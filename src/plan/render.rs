//! A plan as text: complete, in order, the same for the same plan. For golden tests and `routes`.

use std::fmt::{self, Display, Write};

use crate::base::Origin;
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, TemplatePart, ValueTemplate};
use crate::policy::redirect::spec::{Redirect, RedirectPath, RedirectPort};
use crate::policy::rewrite::spec::{PathRewrite, Rewrite};

use super::predicate::{UriMatch, as_written};
use super::route::{Action, Destination, Fence, Forward, Route, Target};
use super::table::{ForwardClientCert, HttpOptions, Listener, Plan, VirtualHost};
use super::tracing::{CustomTag, TagValue, Tracing};
use super::{
    Cluster, Guarding, Guards, HealthCheck, Mirror, Passed, PlacedLimit, Policies, Policy,
    Protocol, RetrySource,
};

mod stream;
mod tls;

impl Plan {
    /// The whole plan. Digests and indexes are left out: they follow from the rest.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        for listener in &self.listeners {
            self.listener_text(out, listener)?;
            writeln!(out)?;
        }
        for socket in &self.tls {
            tls::text(out, self, socket)?;
            writeln!(out)?;
        }
        for socket in &self.tcp {
            stream::text(out, self, socket)?;
            writeln!(out)?;
        }
        writeln!(out, "clusters")?;
        for cluster in self.clusters.by_name() {
            cluster_text(out, cluster)?;
        }
        writeln!(out)?;
        self.limits_text(out)?;
        http_text(out, &self.http)?;
        match &self.tracing {
            Some(tracing) => tracing_text(out, tracing),
            None => Ok(()),
        }
    }

    fn limits_text(&self, out: &mut String) -> fmt::Result {
        if self.limits.is_empty() {
            return Ok(());
        }
        writeln!(out, "limits")?;
        for PlacedLimit {
            policy,
            origin,
            origins,
            service: _,
        } in &self.limits
        {
            writeln!(out, "  {} ({policy}) at {origin}", policy.id)?;
            for (limit, origin) in policy.lines().iter().zip(origins) {
                writeln!(out, "    {limit} at {origin}")?;
            }
        }
        writeln!(out)
    }

    /// What requests of a listener or rule pass.
    fn guards_text(&self, out: &mut String, indent: &str, guards: Option<&Guards>) -> fmt::Result {
        for passed in guards.into_iter().flat_map(|guards| self.passed(guards)) {
            write!(out, "{indent}passes ")?;
            match passed {
                Passed::Access(Policy { id, policy, origin }) => {
                    writeln!(out, "{id} ({policy}) at {origin}")
                }
                Passed::Body(Policy { id, policy, origin }) => {
                    writeln!(out, "{id} ({policy} bytes of a body) at {origin}")
                }
                Passed::Front(limit) => writeln!(out, "first {}", limit.policy.id),
                Passed::Back(limit) => writeln!(out, "{}", limit.policy.id),
                Passed::Compression(Policy { id, policy, origin }) => {
                    writeln!(out, "{id} ({policy}) at {origin}")
                }
            }?;
        }
        Ok(())
    }

    fn listener_text(&self, out: &mut String, listener: &Listener) -> fmt::Result {
        writeln!(
            out,
            "listener {} (port {}{}{})",
            listener.addr,
            listener.declared_port,
            if listener.is_tls { ", TLS" } else { "" },
            if listener.grpc_web { ", gRPC-Web" } else { "" }
        )?;
        for origin in &listener.origins {
            writeln!(out, "  server {origin}")?;
        }
        fence_text(out, "  ", listener.fence.as_deref())?;
        let guarding = listener.guarding.as_deref();
        self.guards_text(out, "  ", guarding.and_then(Guarding::unrouted))?;
        let mut hosts = listener.virtual_hosts.iter().enumerate();
        hosts.try_for_each(|(index, host)| {
            // Where all are alike, the listener has said it.
            let guarding = guarding.filter(|guarding| guarding.varies());
            self.host_text(out, host, |route| guarding?.of(index, route))
        })
    }

    fn host_text<'g>(
        &self,
        out: &mut String,
        host: &VirtualHost,
        guards: impl Fn(usize) -> Option<&'g Guards>,
    ) -> fmt::Result {
        writeln!(out, "  host {} ({})", host.host, host.name)?;
        fence_text(out, "    ", host.fence.as_deref())?;
        if let Some(server) = &host.https_redirect {
            writeln!(out, "    redirect everything to https, by {server}")?;
        }
        for (index, route) in host.routes.iter().enumerate() {
            write!(out, "    {}. ", index + 1)?;
            self.route_text(out, route)?;
            self.guards_text(out, "          ", guards(index))?;
        }
        Ok(())
    }

    fn route_text(&self, out: &mut String, route: &Route) -> fmt::Result {
        writeln!(out, "{}", route.conditions())?;
        writeln!(
            out,
            "       {} from {} {} at {}",
            route.name, route.object, route.path, route.origin
        )?;
        self.action_text(out, &route.action)
    }

    fn action_text(&self, out: &mut String, action: &Action) -> fmt::Result {
        match action {
            Action::Forward(forward) => self.forward_text(out, forward),
            Action::Redirect { redirect, response } => {
                writeln!(out, "       -> {}", redirect_text(redirect))?;
                edits_text(out, "          ", "response", response)
            }
            Action::Direct { response, edits } => {
                let body = String::from_utf8_lossy(&response.body);
                writeln!(out, "       -> answer {} with {body:?}", response.status)?;
                edits_text(out, "          ", "response", edits)
            }
            Action::Fenced(fence) => fence_text(out, "       -> ", Some(fence)),
        }
    }

    fn forward_text(&self, out: &mut String, forward: &Forward) -> fmt::Result {
        for destination in &forward.destinations {
            write!(out, "       -> ")?;
            if forward.destinations.len() > 1 {
                write!(out, "{}/{} ", destination.weight, forward.total_weight)?;
            }
            self.destination_text(out, destination)?;
        }
        let Rewrite { path, authority } = &forward.rewrite;
        if let Some(path) = path {
            writeln!(out, "          rewrite {}", path_rewrite_text(path))?;
        }
        if let Some(authority) = authority {
            writeln!(out, "          rewrite authority {authority:?}")?;
        }
        if let Some(timeout) = forward.timeout {
            writeln!(out, "          timeout {timeout:?}")?;
        }
        let Policies {
            fault,
            cors,
            mirrors,
        } = &forward.policies;
        if let Some(fault) = fault {
            writeln!(out, "          fault: {fault}")?;
        }
        if let Some(cors) = cors {
            writeln!(out, "          cors: {cors}")?;
        }
        for Mirror {
            target,
            share,
            origin,
        } in mirrors
        {
            write!(out, "          mirror {share} to ")?;
            self.target_text(out, target)?;
            writeln!(out, " at {origin}")?;
        }
        match forward.retry.as_deref() {
            // Most rules have the default; saying so each time would hide the others.
            Some(retry) if retry.source == RetrySource::Default => Ok(()),
            Some(retry) => writeln!(
                out,
                "          retries {retry}, by {}",
                retry.source.as_str()
            ),
            None => writeln!(out, "          no retries"),
        }
    }

    fn destination_text(&self, out: &mut String, destination: &Destination) -> fmt::Result {
        self.target_text(out, &destination.target)?;
        writeln!(out, " at {}", destination.origin)?;
        if let Some(authority) = &destination.authority {
            writeln!(out, "          authority {authority:?}")?;
        }
        edits_text(out, "          ", "request", &destination.request)?;
        edits_text(out, "          ", "response", &destination.response)
    }
}

impl Plan {
    fn target_text(&self, out: &mut String, target: &Target) -> fmt::Result {
        match target {
            Target::Cluster(id) => match self.cluster(*id) {
                Some(cluster) => write!(out, "{}", cluster.name),
                None => write!(out, "cluster {}", id.0),
            },
            Target::Missing { name, reason } => write!(out, "missing {name}: {reason}"),
        }
    }
}

impl Route {
    /// All conditions in one line, as the user wrote them; `everything` if there are none.
    #[must_use]
    pub fn conditions(&self) -> String {
        let uri = (!matches!(self.uri, UriMatch::Any)).then(|| self.uri.to_string());
        let all: Vec<String> = uri
            .into_iter()
            .chain(self.predicates.iter().map(ToString::to_string))
            .collect();
        if all.is_empty() {
            "everything".into()
        } else {
            all.join(", ")
        }
    }
}

fn fence_text(out: &mut String, indent: &str, fence: Option<&Fence>) -> fmt::Result {
    match fence {
        Some(fence) => writeln!(out, "{indent}fenced: {} at {}", fence.reason, fence.origin),
        None => Ok(()),
    }
}

fn edits_text(out: &mut String, indent: &str, side: &str, edits: &HeaderEdits) -> fmt::Result {
    for edit in &edits.0 {
        match edit {
            HeaderEdit::Remove(name) => writeln!(out, "{indent}{side} remove {name}")?,
            HeaderEdit::Set(name, value) => {
                writeln!(out, "{indent}{side} set {name}: {}", template_text(value))?
            }
            HeaderEdit::Add(name, value) => {
                writeln!(out, "{indent}{side} add {name}: {}", template_text(value))?
            }
        }
    }
    Ok(())
}

/// A value as it could be written in a rule.
fn template_text(template: &ValueTemplate) -> String {
    match template {
        ValueTemplate::Literal(value) => {
            String::from_utf8_lossy(value.as_bytes()).replace('%', "%%")
        }
        ValueTemplate::Parts(parts) => parts.iter().map(part_text).collect(),
    }
}

fn part_text(part: &TemplatePart) -> String {
    let header = |operator: &str, name: &str, alternative: &Option<String>, max: &Option<usize>| {
        let alternative = alternative
            .as_deref()
            .map(|name| format!("?{name}"))
            .unwrap_or_default();
        let max = max.map(|max| format!(":{max}")).unwrap_or_default();
        format!("%{operator}({name}{alternative}){max}%")
    };
    match part {
        TemplatePart::Text(text) => text.replace('%', "%%"),
        TemplatePart::Request {
            name,
            alternative,
            max,
        } => header("REQ", name, alternative, max),
        TemplatePart::Response {
            name,
            alternative,
            max,
        } => header("RESP", name, alternative, max),
        _ => format!("%{}%", part.operator()),
    }
}

fn redirect_text(redirect: &Redirect) -> String {
    let mut text = format!("redirect {}", redirect.status);
    let mut push = |word: &str, value: &dyn Display| {
        // Writing to a string cannot fail.
        let _ = write!(text, " {word} {value}");
    };
    if let Some(scheme) = &redirect.scheme {
        push("scheme", scheme);
    }
    if let Some(authority) = &redirect.authority {
        push("authority", authority);
    }
    match &redirect.path {
        Some(RedirectPath::Full(path)) => push("path", path),
        Some(RedirectPath::Prefix { length, with }) => {
            push("prefix", &format!("of {length} to {with:?}"))
        }
        None => {}
    }
    match redirect.port {
        RedirectPort::Fixed(port) => push("port", &port),
        RedirectPort::FromRequest => push("port", &"of the gateway"),
        RedirectPort::Keep => {}
    }
    text
}

fn path_rewrite_text(rewrite: &PathRewrite) -> String {
    match rewrite {
        PathRewrite::Prefix { length, with } => format!("prefix of {length} to {with:?}"),
        PathRewrite::Full(path) => format!("path to {path:?}"),
        PathRewrite::Regex { pattern, with } => {
            format!("every {:?} to {with:?}", as_written(pattern))
        }
    }
}

fn cluster_text(out: &mut String, cluster: &Cluster) -> fmt::Result {
    let protocol = match cluster.protocol {
        Protocol::Http1 => "http/1.1",
        Protocol::H2c if cluster.tls.is_some() => "h2",
        Protocol::H2c => "h2c",
        Protocol::Client => "the client's protocol",
    };
    let balance = &cluster.balancing;
    write!(
        out,
        "  {} ({protocol}, {balance}, connect within {:?})",
        cluster.name, cluster.pool.connect_timeout
    )?;
    let mut place = |word: &str, origin: Option<&Origin>| match origin {
        Some(origin) => write!(out, " {word} {origin}"),
        None => Ok(()),
    };
    place("at", cluster.origin.as_ref())?;
    place("policy", cluster.policy_origin.as_ref())?;
    writeln!(out)?;
    if let Some(tls) = &cluster.tls {
        writeln!(out, "    TLS: {tls}")?;
    }
    if let Some(version) = cluster.proxy_protocol {
        writeln!(out, "    PROXY protocol: {version:?}")?;
    }
    if let Some(outlier) = &cluster.outlier {
        writeln!(out, "    outliers: {outlier}")?;
    }
    if let Some(HealthCheck {
        probe,
        object,
        origin,
    }) = &cluster.health_check
    {
        writeln!(out, "    probe: {probe} from {object} at {origin}")?;
    }
    Ok(())
}

fn tracing_text(out: &mut String, tracing: &Tracing) -> fmt::Result {
    let Tracing {
        sampling,
        propagation,
        reports,
        istio_tags,
        tags,
    } = tracing;
    let propagation: Vec<&str> = propagation.iter().map(|it| it.name()).collect();
    writeln!(out, "\ntracing {sampling} in {}", propagation.join(", "))?;
    for (what, on) in [("spans", reports), ("istio tags", istio_tags)] {
        writeln!(out, "  {what} {}", if *on { "on" } else { "off" })?;
    }
    for CustomTag { name, value } in tags {
        match value {
            TagValue::Literal(text) => writeln!(out, "  tag {name} {text:?}")?,
            TagValue::Environment {
                name: variable,
                default,
            } => {
                writeln!(
                    out,
                    "  tag {name} of the variable {variable}, else {default:?}"
                )?;
            }
            TagValue::Header {
                name: header,
                default,
            } => writeln!(out, "  tag {name} of the header {header}, else {default:?}")?,
        }
    }
    Ok(())
}

fn http_text(out: &mut String, http: &HttpOptions) -> fmt::Result {
    let HttpOptions {
        path_normalization,
        trusted_proxies,
        client_cert,
        http10,
        server_header,
        request_id,
        attempt_count,
        envoy_debug_headers,
        forwarded_host,
        forwarded_port,
        shadow_host,
        edge,
    } = http;
    writeln!(out, "http")?;
    writeln!(
        out,
        "  path normalization {path_normalization:?}, trusted proxies {trusted_proxies}"
    )?;
    writeln!(
        out,
        "  server header {:?}",
        server_header
            .as_ref()
            .map_or("of the origin", |server| server
                .to_str()
                .unwrap_or_default())
    )?;
    if *client_cert != ForwardClientCert::SanitizeSet {
        writeln!(out, "  x-forwarded-client-cert {client_cert:?}")?;
    }
    if *shadow_host {
        writeln!(out, "  mirrors see Host with -shadow")?;
    }
    for (name, on) in [
        ("http/1.0", http10),
        ("request id", request_id),
        ("attempt count", attempt_count),
        ("envoy debug headers", envoy_debug_headers),
        ("x-forwarded-host", forwarded_host),
        ("x-forwarded-port", forwarded_port),
        ("edge profile", edge),
    ] {
        writeln!(out, "  {name} {}", if *on { "on" } else { "off" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
