//! Probes over TLS, with the cluster's certificate and demands: an endpoint that requests would not
//! be sent to does not pass.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::connectors::http::Connector;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::tls::ALPN;
use pingora_core::upstreams::peer::HttpPeer;

use crate::plan::{HttpProbe, Probe, ProbeKind};
use crate::upstream::dial::Dialer;
use crate::upstream::tls::{Tls, accepted};

use super::check::{peer, request, words};
use super::grpc;

/// How addresses are reached.
pub(super) struct Secure {
    peer: HttpPeer,
    host: Arc<str>,
    by: By,
}

enum By {
    Dialer(Arc<Dialer>),
    Http(Box<Connector>),
}

impl Secure {
    /// For a probe that has TLS.
    pub(super) fn new(probe: &Probe, dialer: &Arc<Dialer>) -> Option<Self> {
        let tls = probe.tls.as_ref()?;
        let mut peer = peer(probe, true);
        let (version, by) = match &probe.kind {
            ProbeKind::Tcp { .. } => (1, By::Dialer(dialer.clone())),
            ProbeKind::Grpc { .. } => (2, By::Dialer(dialer.clone())),
            ProbeKind::Http(http) => {
                let version = if http.http2 { 2 } else { 1 };
                let options = dialer.locals().options(0);
                (version, By::Http(Box::new(Connector::new(Some(options)))))
            }
        };
        peer.options.set_http_version(version, version);
        let secured = Tls::new(&tls.tls);
        secured.secure(&mut peer);
        secured.name(&mut peer, &tls.host);
        Some(Self {
            peer,
            host: tls.host.clone(),
            by,
        })
    }

    /// Probes an address once.
    ///
    /// # Errors
    /// Why it failed, in a few words.
    pub(super) async fn check(&self, addr: SocketAddr, kind: &ProbeKind) -> Result<(), String> {
        let mut peer = self.peer.clone();
        peer._address = PeerAddr::Inet(addr);
        match (&self.by, kind) {
            (By::Http(connector), ProbeKind::Http(http)) => {
                self.answers(connector, peer, http).await
            }
            (By::Dialer(dialer), ProbeKind::Grpc { service, .. }) => {
                let asked = dialer.dial(peer, Some(ALPN::H2), Some(&self.host)).await;
                let stream = asked.map_err(|error| words(&error))?;
                grpc::serves(stream, addr, service).await
            }
            (By::Dialer(dialer), _) => {
                let asked = dialer.dial(peer, None, Some(&self.host)).await;
                asked.map(drop).map_err(|error| words(&error))
            }
            (By::Http(_), _) => Err("the probe has another kind than its check".to_owned()),
        }
    }

    async fn answers(
        &self,
        connector: &Connector,
        peer: HttpPeer,
        http: &HttpProbe,
    ) -> Result<(), String> {
        let request = request(http).ok_or("the request cannot be made")?;
        let exchange = async {
            let (mut session, _) = connector.get_http_session(&peer).await?;
            if let Err(refusal) = accepted(&peer, session.digest(), &self.host) {
                return Ok(Err(refusal));
            }
            session.write_request_header(Box::new(request)).await?;
            session.finish_request_body().await?;
            session.read_response_header().await?;
            let head = session.response_header();
            Ok(Ok(head.map_or(0, |head| head.status.as_u16())))
        };
        let done: Result<_, Box<pingora_core::Error>> = exchange.await;
        let status = done.map_err(|error| words(&error))??;
        match http.expected.iter().any(|range| range.contains(&status)) {
            true => Ok(()),
            false => Err(format!("answered {status}")),
        }
    }
}
