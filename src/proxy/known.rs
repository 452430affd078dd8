//! What header edits may ask about a request (`%…%` substitutions).

use std::borrow::Cow;
use std::net::SocketAddr;

use http::Version;
use pingora::proxy::Session;

use super::context::Context;
use crate::listener::TlsDetails;
use crate::observe::record::TlsRecord;
use crate::policy::headers::Substitutions;
use crate::policy::headers::spec::TemplatePart;

/// A request's handling as far as it got.
pub(super) struct Known<'a> {
    pub ctx: &'a Context,
    pub version: Version,
    /// Status of the response being edited.
    pub status: Option<u16>,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
}

impl Substitutions for Known<'_> {
    fn value(&self, part: &TemplatePart) -> Option<Cow<'_, str>> {
        use TemplatePart::*;
        let ctx = self.ctx;
        let ip = |address: Option<SocketAddr>| {
            address.map(|address| address.ip().to_canonical().to_string().into())
        };
        match part {
            Request { name, .. } if name == ":scheme" => Some(ctx.scheme().into()),
            DownstreamRemoteAddress => {
                downstream_remote(ctx, self.remote).map(|address| address.to_string().into())
            }
            DownstreamRemoteAddressWithoutPort => match ctx.client {
                Some(client) => Some(client.to_string().into()),
                None => ip(self.remote),
            },
            DownstreamLocalAddress => self.local.map(|local| local.to_string().into()),
            DownstreamLocalAddressWithoutPort => ip(self.local),
            DownstreamLocalPort => self.local.map(|local| local.port().to_string().into()),
            Protocol => Some(protocol(self.version).into()),
            ResponseCode => self.status.map(|status| status.to_string().into()),
            ResponseFlags => Some(
                ctx.cause
                    .as_ref()
                    .map_or("-", |cause| cause.kind.flag())
                    .into(),
            ),
            RouteName => ctx.route().map(|route| (&*route.name).into()),
            UpstreamCluster => ctx.cluster().map(|cluster| (&*cluster.name).into()),
            UpstreamHost | UpstreamRemoteAddress => {
                ctx.pick.as_ref().map(|pick| pick.addr().to_string().into())
            }
            Hostname => std::env::var("HOSTNAME").ok().map(Cow::Owned),
            StartTime => jiff::Timestamp::from_duration(ctx.start.try_into().ok()?)
                .ok()
                .map(|time| format!("{time:.3}").into()),
            _ => None,
        }
    }
}

/// The sockets of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    /// Key of the listener in the plan.
    pub listener: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
}

/// Where the request came in: as `listener` noted it, else as Pingora knows it.
pub(super) fn addresses(session: &Session, ctx: &Context) -> Addresses {
    if let Some(connection) = &ctx.connection {
        return Addresses {
            listener: Some(connection.listener),
            local: connection.local,
            remote: connection.peer,
        };
    }
    let local = session
        .server_addr()
        .and_then(|address| address.as_inet())
        .copied();
    let remote = session
        .client_addr()
        .and_then(|address| address.as_inet())
        .copied();
    Addresses {
        listener: local,
        local,
        remote,
    }
}

/// What the access log tells of a connection's TLS.
pub(super) fn tls_record(tls: &TlsDetails) -> TlsRecord<'_> {
    TlsRecord {
        version: tls.version,
        cipher: tls.cipher,
        subject: tls.peer.as_ref().map(|peer| &*peer.subject),
    }
}

/// Envoy's remote address: the trusted client, whose port is known only if it is the peer.
pub(super) fn downstream_remote(ctx: &Context, peer: Option<SocketAddr>) -> Option<SocketAddr> {
    match (ctx.client, peer) {
        (Some(client), Some(peer)) if client == peer.ip().to_canonical() => {
            Some(SocketAddr::new(client, peer.port()))
        }
        (Some(client), _) => Some(SocketAddr::new(client, 0)),
        (None, peer) => peer,
    }
}

/// What is known of a request now.
pub(super) fn known<'a>(session: &Session, ctx: &'a Context, status: Option<u16>) -> Known<'a> {
    let Addresses { local, remote, .. } = addresses(session, ctx);
    Known {
        ctx,
        version: session.req_header().version,
        status,
        local,
        remote,
    }
}

/// Envoy's name of an HTTP version.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
