//! Renders a redirect's `location`.

use super::spec::{Redirect, RedirectPath, RedirectPort};

/// What a redirect takes over from the request.
#[derive(Clone, Copy, Debug)]
pub struct RedirectRequest<'a> {
    /// `http` or `https`, as the client used it.
    pub scheme: &'a str,
    /// Host as received, with its port.
    pub authority: &'a str,
    /// The normalised path, and the query.
    pub path_and_query: &'a str,
    /// The Gateway's port.
    pub declared_port: u16,
}

/// The `location` of a rule's redirect.
///
/// Where Istio's own text and its code differ, this follows the text: a `port` that is the
/// resulting scheme's default removes the received Host's port, which Istio's Envoy
/// configuration would let through.
#[must_use]
pub fn location(redirect: &Redirect, request: &RedirectRequest<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let port = match redirect.port {
        RedirectPort::Keep => None,
        RedirectPort::Fixed(port) => Some(port),
        RedirectPort::FromRequest => Some(request.declared_port),
    };
    let mut out =
        String::with_capacity(request.authority.len() + request.path_and_query.len() + 48);
    out.push_str(scheme);
    out.push_str("://");
    match &redirect.authority {
        Some(authority) => out.push_str(authority),
        None => {
            let (host, received) = split_port(request.authority);
            out.push_str(host);
            if let (None, Some(received)) = (port, received)
                && (scheme == request.scheme || default_port(request.scheme) != received)
            {
                out.push(':');
                out.push_str(received);
            }
        }
    }
    if let Some(port) = port {
        let port = port.to_string();
        if default_port(scheme) != port {
            out.push(':');
            out.push_str(&port);
        }
    }
    push_path(&mut out, redirect.path.as_ref(), request.path_and_query);
    out
}

/// The `location` of `tls.httpsRedirect`: the same URL with https, the received port included.
#[must_use]
pub fn https_location(authority: &str, path_and_query: &str) -> String {
    format!("https://{authority}{path_and_query}")
}

fn push_path(out: &mut String, path: Option<&RedirectPath>, received: &str) {
    let query = received
        .find('?')
        .and_then(|at| received.get(at..))
        .unwrap_or_default();
    match path {
        None => out.push_str(received),
        Some(RedirectPath::Full(whole)) => {
            out.push_str(whole);
            if !whole.contains('?') {
                out.push_str(query);
            }
        }
        Some(RedirectPath::Prefix { length, with }) => {
            out.push_str(with);
            out.push_str(received.get(*length..).unwrap_or(query));
        }
    }
}

/// An authority's host, and its port if it has one. The brackets of an IPv6 address are kept.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn default_port(scheme: &str) -> &'static str {
    match scheme {
        "http" => "80",
        "https" => "443",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
