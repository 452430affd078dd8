//! Connections that begin with the client's address: HAProxy's PROXY protocol, as a sender
//! (DestinationRule `proxyProtocol`).
//!
//! The header comes before everything else, TLS included, so a connection belongs to one client
//! connection for as long as it lives: as in Envoy, address and port tell them apart.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use pingora_core::connectors::l4::{BindTo, Connect};
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use super::dial::SocketHook;
use crate::plan::ProxyVersion;

/// Begins each header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, "on behalf of another"; and "the proxy's own".
const PROXIED: u8 = 0x21;
const LOCAL: u8 = 0x20;

const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a client's connection, given its two ends; without them, as for a probe, it says
/// that the connection is the gateway's own.
pub(super) fn header(version: ProxyVersion, ends: Option<(SocketAddr, SocketAddr)>) -> Bytes {
    let ends = ends.map(|(source, destination)| alike(source, destination));
    match (version, ends) {
        (ProxyVersion::V1, None) => Bytes::from_static(b"PROXY UNKNOWN\r\n"),
        (ProxyVersion::V1, Some((source, destination))) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            let ports = format!("{} {}", source.port(), destination.port());
            format!("PROXY {family} {from} {to} {ports}\r\n").into()
        }
        (ProxyVersion::V2, ends) => binary(ends),
    }
}

fn binary(ends: Option<(SocketAddr, SocketAddr)>) -> Bytes {
    let mut out = BytesMut::with_capacity(52);
    out.put_slice(SIGNATURE);
    let Some((source, destination)) = ends else {
        out.put_slice(&[LOCAL, 0, 0, 0]);
        return out.freeze();
    };
    out.put_u8(PROXIED);
    let (family, length) = if source.is_ipv4() {
        (TCP4, 12)
    } else {
        (TCP6, 36)
    };
    out.put_u8(family);
    out.put_u16(length);
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => out.put_slice(&ip.octets()),
            IpAddr::V6(ip) => out.put_slice(&ip.octets()),
        }
    }
    out.put_u16(source.port());
    out.put_u16(destination.port());
    out.freeze()
}

/// Both ends in one family, as the header has room for one.
fn alike(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (source, destination) = (plain(source), plain(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (mapped(source), mapped(destination))
}

/// Makes `peer` be dialled here, with `header` as the first bytes. What is to happen to its socket
/// has been set before.
pub(super) fn dial(peer: &mut HttpPeer, header: Bytes) {
    let bind = peer.options.bind_to.take();
    let hook = peer.options.upstream_tcp_sock_tweak_hook.take();
    peer.options.custom_l4 = Some(Arc::new(Dial { header, bind, hook }));
}

struct Dial {
    header: Bytes,
    bind: Option<BindTo>,
    hook: Option<SocketHook>,
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dial").finish_non_exhaustive()
    }
}

#[async_trait]
impl Connect for Dial {
    async fn connect(&self, address: &PeerAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "the endpoint has no IP address");
        };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .or_err(ErrorType::SocketError, "no socket")?;
        if let Some(local) = self.bind.as_ref().and_then(|bind| bind.addr) {
            socket.bind(local).or_err_with(ErrorType::BindError, || {
                format!("cannot connect from {local}")
            })?;
        }
        if let Some(hook) = &self.hook {
            hook(&socket)?;
        }
        let stream = socket.connect(*address).await;
        let mut stream = stream.map_err(|error| connect_error(&error, address))?;
        stream
            .write_all(&self.header)
            .await
            .or_err(ErrorType::ConnectError, "the PROXY header was not taken")?;
        Ok(stream.into())
    }
}

fn connect_error(error: &std::io::Error, address: &SocketAddr) -> Box<Error> {
    use std::io::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::explain(kind, format!("cannot connect to {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((source.parse().unwrap(), destination.parse().unwrap()))
    }

    #[test]
    fn a_header_of_text_names_both_ends() {
        for (ends, expected) in [
            (
                ends("192.0.2.1:5000", "10.0.0.1:443"),
                "PROXY TCP4 192.0.2.1 10.0.0.1 5000 443\r\n",
            ),
            (
                ends("[2001:db8::1]:5000", "[::1]:443"),
                "PROXY TCP6 2001:db8::1 ::1 5000 443\r\n",
            ),
            (
                ends("[::ffff:192.0.2.1]:5000", "10.0.0.1:443"),
                "PROXY TCP4 192.0.2.1 10.0.0.1 5000 443\r\n",
            ),
            (
                ends("192.0.2.1:5000", "[::1]:443"),
                "PROXY TCP6 ::ffff:192.0.2.1 ::1 5000 443\r\n",
            ),
            (None, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(header(ProxyVersion::V1, ends), expected);
        }
    }

    #[test]
    fn a_binary_header_has_haproxys_layout() {
        let v4 = header(ProxyVersion::V2, ends("192.0.2.1:256", "10.0.0.1:443"));
        let (signature, rest) = v4.split_at(12);
        assert_eq!(
            signature,
            b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
        );
        assert_eq!(
            rest,
            [0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 1, 1, 0, 1, 187]
        );
        let v6 = header(ProxyVersion::V2, ends("[::1]:1", "[::2]:2"));
        assert_eq!((v6.len(), &v6[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        let own = header(ProxyVersion::V2, None);
        assert_eq!(own[12..], [0x20, 0, 0, 0]);
    }
}
