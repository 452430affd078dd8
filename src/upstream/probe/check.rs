//! One probe of one address: TCP and HTTP by `pingora-load-balancing`'s checks; gRPC, and what goes
//! over TLS, by ours. Those checks would talk to an origin whose certificate is not accepted.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora_load_balancing::{Backend, Extensions};

use crate::plan::{HttpProbe, Probe, ProbeKind};

use super::grpc;
use super::secure::Secure;
use crate::upstream::dial::Dialer;
use crate::upstream::handshake_failure;

/// As Envoy's checker names itself, so that origins can tell probes from traffic.
pub(super) const USER_AGENT: &str = "Pingress/HC";

/// What a probe does, with the connector it does it through.
pub(super) struct Check {
    probe: Probe,
    by: By,
}

enum By {
    Pingora(Box<dyn HealthCheck + Send + Sync>),
    Grpc {
        service: Box<str>,
        dialer: Arc<Dialer>,
        peer: Box<HttpPeer>,
    },
    Tls(Box<Secure>),
}

impl Check {
    pub(super) fn new(probe: &Probe, dialer: &Arc<Dialer>) -> Self {
        let by = match (Secure::new(probe, dialer), &probe.kind) {
            (Some(secure), _) => By::Tls(Box::new(secure)),
            (None, ProbeKind::Tcp { .. }) => By::Pingora(tcp(probe, dialer)),
            (None, ProbeKind::Http(http)) => By::Pingora(http_check(probe, http, dialer)),
            (None, ProbeKind::Grpc { service, .. }) => By::Grpc {
                service: service.clone(),
                dialer: dialer.clone(),
                peer: Box::new(peer(probe, false)),
            },
        };
        Self {
            probe: probe.clone(),
            by,
        }
    }

    /// Probes an address once.
    ///
    /// # Errors
    /// Why it failed, in a few words.
    pub(super) async fn run(&self, mut addr: SocketAddr) -> Result<(), String> {
        if let Some(port) = self.probe.kind.port() {
            addr.set_port(port);
        }
        let checked = async {
            match &self.by {
                By::Pingora(check) => {
                    let backend = Backend {
                        addr: PeerAddr::Inet(addr),
                        weight: 1,
                        ext: Extensions::new(),
                    };
                    check.check(&backend).await.map_err(|error| words(&error))
                }
                By::Grpc {
                    service,
                    dialer,
                    peer,
                } => {
                    let mut peer = HttpPeer::clone(peer);
                    peer._address = PeerAddr::Inet(addr);
                    let stream = dialer.dial(peer, None, None).await;
                    let stream = stream.map_err(|error| words(&error))?;
                    grpc::serves(stream, addr, service).await
                }
                By::Tls(secure) => secure.check(addr, &self.probe.kind).await,
            }
        };
        // The crate's own limits are per step: a body that never ends would outlast them.
        match tokio::time::timeout(self.probe.timeout, checked).await {
            Ok(checked) => checked,
            Err(_) => Err(format!("no answer within {:?}", self.probe.timeout)),
        }
    }
}

/// A peer whose address is told later, with the probe's time to connect.
pub(super) fn peer(probe: &Probe, tls: bool) -> HttpPeer {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut peer = HttpPeer::new(nowhere, tls, String::new());
    peer.options.connection_timeout = Some(probe.timeout);
    peer.options.total_connection_timeout = Some(probe.timeout);
    peer
}

fn tcp(probe: &Probe, dialer: &Dialer) -> Box<TcpHealthCheck> {
    let mut check = TcpHealthCheck::new();
    let options = &mut check.peer_template.options;
    options.connection_timeout = Some(probe.timeout);
    options.upstream_tcp_sock_tweak_hook = dialer.locals().binding();
    check
}

fn http_check(probe: &Probe, http: &HttpProbe, dialer: &Dialer) -> Box<HttpHealthCheck> {
    // The request is replaced: `new` panics on a host that is no header value.
    let mut check = HttpHealthCheck::new("", false);
    if let Some(request) = request(http) {
        check.req = request;
    }
    let options = &mut check.peer_template.options;
    options.connection_timeout = Some(probe.timeout);
    options.read_timeout = Some(probe.timeout);
    options.upstream_tcp_sock_tweak_hook = dialer.locals().binding();
    let version = if http.http2 { 2 } else { 1 };
    options.set_http_version(version, version);
    let expected = http.expected.clone();
    check.validator = Some(Box::new(move |response: &ResponseHeader| {
        let status = response.status.as_u16();
        match expected.iter().any(|range| range.contains(&status)) {
            true => Ok(()),
            false => Err(Error::new(ErrorType::CustomCode("status", status))),
        }
    }));
    Box::new(check)
}

/// `None` if something of it is no header, which validation has ruled out.
pub(super) fn request(http: &HttpProbe) -> Option<RequestHeader> {
    let count = Some(http.headers.len() + 2);
    let mut request = RequestHeader::build("GET", http.path.as_bytes(), count).ok()?;
    request.insert_header("host", &*http.host).ok()?;
    request.insert_header("user-agent", USER_AGENT).ok()?;
    for (name, value) in &http.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_str(value).ok()?;
        request.insert_header(name, value).ok()?;
    }
    Some(request)
}

/// What the operator reads: the error's kind, without addresses and contexts.
pub(super) fn words(error: &Error) -> String {
    match error.etype() {
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => {
            let context = error
                .context
                .as_ref()
                .map_or("", |context| context.as_str());
            handshake_failure(context)
        }
        ErrorType::CustomCode("status", status) => format!("answered {status}"),
        ErrorType::ConnectRefused => "connection refused".into(),
        ErrorType::ConnectNoRoute => "no route to host".into(),
        ErrorType::ConnectTimedout => "no connection in time".into(),
        ErrorType::ConnectionClosed => "closed the connection".into(),
        other => other.as_str().to_owned(),
    }
}
