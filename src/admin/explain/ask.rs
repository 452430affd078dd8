//! The question: a URL, a method and headers, read as `curl` would send them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use thiserror::Error;

use crate::plan::{HttpOptions, Listener, Plan, TlsService};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who asks, as far as headers tell.
const CLIENT: &str = "127.0.0.1";

/// Why a question cannot be answered.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AskError {
    #[error("`{0}` is not a URL; write for example http://shop.example.com/cart")]
    Url(String),
    #[error("`{0}` is not a method")]
    Method(String),
    #[error("`{0}` is not a header; write for example 'end-user: jason'")]
    Header(String),
    #[error("no listener has port {port}; there are: {listeners}")]
    Listener { port: u16, listeners: String },
    #[error("no connection that is not HTTP is taken on port {0}; ask with http:// or https://")]
    Socket(u16),
    #[error("TLS for `{0}` ends at the gateway and requests are inside; ask with https://")]
    Requests(String),
}

/// What a URL's scheme asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    Http,
    Https,
    /// A connection of bytes.
    Tcp,
    /// A connection by its server name.
    Tls,
}

/// A question that can be asked.
#[derive(Clone, Debug)]
pub struct Ask {
    url: String,
    asking: Asking,
    authority: Authority,
    /// Path and query as received.
    target: String,
    method: Method,
    headers: HeaderMap,
    all: bool,
}

/// The request after the gateway has stamped it.
#[derive(Debug)]
pub(super) struct Seen {
    pub authority: String,
    pub host: String,
    pub scheme: &'static str,
    pub forwarded_https: bool,
    pub headers: HeaderMap,
}

impl Ask {
    /// Reads a URL (`http://` may be left out; `tcp://` and `tls://` ask about connections), a method and headers as `name: value`. A `Host`
    /// header replaces the URL's host, but not its port's choice of listener. `all` lists every
    /// losing rule.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn new(url: &str, method: &str, headers: &[String], all: bool) -> Result<Self, AskError> {
        let bad = || AskError::Url(url.to_owned());
        let (asking, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Asking::Http, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Asking::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tcp") => (Asking::Tcp, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tls") => (Asking::Tls, rest),
            Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => return Err(bad()),
            _ => (Asking::Http, url),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or_else(bad)?;
        let authority: Authority = authority.parse().map_err(|_| bad())?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(bad());
        }
        let target = target.split_once('#').map_or(target, |(before, _)| before);
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        if target
            .bytes()
            .any(|byte| byte.is_ascii_control() || byte == b' ')
        {
            return Err(bad());
        }
        Ok(Self {
            url: url.to_owned(),
            asking,
            authority,
            target,
            method: Method::from_bytes(method.as_bytes())
                .map_err(|_| AskError::Method(method.to_owned()))?,
            headers: read_headers(headers)?,
            all,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn asking(&self) -> Asking {
        self.asking
    }

    /// Of the URL; without one, its scheme's.
    pub(super) fn port(&self) -> u16 {
        let own = match self.asking {
            Asking::Http | Asking::Tcp => 80,
            Asking::Https | Asking::Tls => 443,
        };
        self.authority.port_u16().unwrap_or(own)
    }

    /// The URL's host in lower case.
    pub(super) fn host(&self) -> String {
        self.authority.host().to_ascii_lowercase()
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn all(&self) -> bool {
        self.all
    }

    /// The listener a client of this URL reaches: the one bound to its port, else one whose
    /// Gateways declare the port. Among several, the one with the URL's own address.
    pub(super) fn listener<'p>(&self, plan: &'p Plan) -> Result<&'p Listener, AskError> {
        let port = self.port();
        let ip = self
            .authority
            .host()
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .ok();
        let host = self.host();
        let choose = |has_port: &dyn Fn(&Listener) -> bool| {
            let all = || {
                let with_port = plan.listeners.iter().filter(|listener| has_port(listener));
                with_port.filter(|listener| !listener.is_tls || answers(plan, listener, &host))
            };
            all()
                .find(|listener| Some(listener.addr.ip()) == ip)
                .or_else(|| all().next())
        };
        choose(&|listener| listener.addr.port() == port)
            .or_else(|| choose(&|listener| listener.declared_port == port))
            .ok_or_else(|| {
                let all: Vec<String> = plan
                    .listeners
                    .iter()
                    .map(|listener| format!("{} (port {})", listener.addr, listener.declared_port))
                    .collect();
                let listeners = if all.is_empty() {
                    "none".to_owned()
                } else {
                    all.join(", ")
                };
                AskError::Listener { port, listeners }
            })
    }

    /// The headers as routing sees them: what a client may not say about itself is removed, and
    /// what the gateway says about it is set, as for a client on loopback.
    pub(super) fn seen(&self, options: &HttpOptions) -> Seen {
        let mut headers: HeaderMap = self
            .headers
            .iter()
            .filter(|(name, _)| !name.as_str().starts_with("x-envoy-") && **name != CLIENT_CERT)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let authority = match headers.get(HOST).and_then(|host| host.to_str().ok()) {
            Some(host) => host.to_owned(),
            None => self.authority.to_string(),
        };
        if let Ok(value) = HeaderValue::from_str(&authority) {
            headers.entry(HOST).or_insert(value);
        }
        let trusted = options.trusted_proxies > 0;
        let received = headers
            .get(FORWARDED_PROTO)
            .filter(|_| trusted)
            .map(HeaderValue::as_bytes);
        let scheme = match received {
            Some(b"https") => "https",
            Some(b"http") => "http",
            _ if self.asking == Asking::Https => "https",
            _ => "http",
        };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        let mut hops: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        hops.push(CLIENT);
        let client = client(&hops, options.trusted_proxies).to_string();
        if let Ok(value) = HeaderValue::from_str(&hops.join(",")) {
            headers.insert(FORWARDED_FOR, value);
        }
        if let Ok(value) = HeaderValue::from_str(&client) {
            headers.insert(EXTERNAL_ADDRESS, value);
        }
        if options.request_id {
            headers.insert(
                REQUEST_ID,
                HeaderValue::from_static("00000000-0000-4000-8000-000000000000"),
            );
        }
        let host = authority.parse::<Authority>().map_or_else(
            |_| authority.to_ascii_lowercase(),
            |authority| authority.host().to_ascii_lowercase(),
        );
        Seen {
            authority,
            host,
            scheme,
            forwarded_https: scheme == "https" && self.asking != Asking::Https,
            headers,
        }
    }
}

/// The trusted client: the Nth received address from the right, else the peer.
fn client(hops: &[&str], trusted: u32) -> IpAddr {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let received: Vec<&str> = hops
        .iter()
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    // The last is the peer itself.
    let from_right = received
        .len()
        .checked_sub(1 + trusted as usize)
        .filter(|_| trusted > 0);
    from_right
        .and_then(|index| received.get(index)?.parse().ok())
        .unwrap_or(peer)
}

/// The socket bound to a port, else one whose Gateway declares it.
pub(super) fn socket_of<'s, S: 's>(
    port: u16,
    sockets: impl Iterator<Item = &'s S> + Clone,
    place: impl Fn(&S) -> (SocketAddr, u16),
) -> Option<&'s S> {
    let bound = |socket: &&S| place(*socket).0.port() == port;
    let declared = |socket: &&S| place(*socket).1 == port;
    sockets
        .clone()
        .find(bound)
        .or(sockets.clone().find(declared))
}

/// Whether a client that names the host in its TLS handshake reaches this listener.
fn answers(plan: &Plan, listener: &Listener, host: &str) -> bool {
    let server = plan
        .tls_socket(listener.addr)
        .and_then(|socket| socket.server(host));
    matches!(
        server.map(|server| &server.service),
        Some(TlsService::Http { listener: index, .. })
            if plan.listeners.get(*index).is_some_and(|own| std::ptr::eq(own, listener))
    )
}

fn read_headers(lines: &[String]) -> Result<HeaderMap, AskError> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let bad = || AskError::Header(line.clone());
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| bad())?;
        if name == HOST && (headers.contains_key(HOST) || value.is_empty()) {
            return Err(bad());
        }
        headers.append(name, value);
    }
    Ok(headers)
}
