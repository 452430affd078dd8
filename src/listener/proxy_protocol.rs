//! PROXY protocol, versions 1 and 2: whom a load balancer in front speaks for (HAProxy's
//! `proxy-protocol.txt`; Envoy's `proxy_protocol` listener filter).
//!
//! On the ports that have it, a connection from a listed source must begin with a header, before
//! TLS and everything else; one without, with a broken one, or one that does not come in time is
//! closed. Other sources speak for themselves: their bytes are taken as they are, so that they can
//! claim no address.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use thiserror::Error;
use tokio::io::AsyncReadExt;

use crate::base::Cidr;

/// The longest header of version 1, with its line end.
const MOST_V1: usize = 107;

/// What follows the 16 bytes of version 2 at most: addresses and TLVs. Certificates a proxy may
/// tell fit; the format's own limit of 64 KiB would let each connection hold that much.
const MOST_V2: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Which connections begin with a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Bound ports; `None` for all.
    pub ports: Option<Vec<u16>>,
    /// From these addresses.
    pub sources: Vec<Cidr>,
}

/// Who is at both ends of the connection that a header tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

/// Why a connection has no usable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum HeaderError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header is broken or too long")]
    Broken,
    #[error("the connection ended within its PROXY header")]
    Ended,
    #[error("the PROXY header did not come in time")]
    TimedOut,
}

impl ProxyProtocol {
    /// Whether a connection to a port from an address begins with a header.
    pub(super) fn is_due(&self, port: u16, source: IpAddr) -> bool {
        let is_ours = self.ports.as_ref().is_none_or(|all| all.contains(&port));
        is_ours && self.sources.iter().any(|range| range.contains(source))
    }
}

/// Takes the header off a stream. Its addresses are `None` if the proxy speaks for itself, or does
/// not know (LOCAL, UNKNOWN).
///
/// # Errors
/// There is none, or it is broken.
pub(super) async fn strip(stream: Stream) -> Result<(Stream, Option<Told>), HeaderError> {
    let mut stream = stream
        .into_any()
        .downcast::<TcpStream>()
        .map_err(|_| HeaderError::Missing)?;
    let mut bytes = BytesMut::with_capacity(256);
    loop {
        let read = stream.read_buf(&mut bytes).await;
        if !matches!(read, Ok(count) if count > 0) {
            return Err(HeaderError::Ended);
        }
        if let Some((length, told)) = header(&bytes)? {
            let rest = bytes.get(length..).unwrap_or_default();
            if !rest.is_empty() {
                stream.rewind(rest);
            }
            return Ok((stream, told));
        }
    }
}

/// The length of the header at the beginning and what it tells; `None` if more bytes are needed.
fn header(bytes: &[u8]) -> Result<Option<(usize, Option<Told>)>, HeaderError> {
    if begins(bytes, SIGNATURE) {
        return version_2(bytes);
    }
    if begins(bytes, b"PROXY ") {
        return version_1(bytes);
    }
    Err(HeaderError::Missing)
}

/// Whether `bytes` begin with `start`, as far as there are any.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes.get(..common) == start.get(..common)
}

fn version_1(bytes: &[u8]) -> Result<Option<(usize, Option<Told>)>, HeaderError> {
    let longest = bytes.get(..MOST_V1).unwrap_or(bytes);
    let Some(end) = longest.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < MOST_V1 {
            true => Ok(None),
            false => Err(HeaderError::Broken),
        };
    };
    let line = longest.get(..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| HeaderError::Broken)?;
    let told = told_by(line).ok_or(HeaderError::Broken)?;
    Ok(Some((end + 2, told)))
}

/// What a line of version 1 tells; `None` if it is broken.
fn told_by(line: &str) -> Option<Option<Told>> {
    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next()? {
        "UNKNOWN" => return Some(None),
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        (address.is_ipv4() == is_v4).then_some(address)
    };
    let (client, local) = (address()?, address()?);
    let mut port = || {
        let word = words.next()?;
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| word.parse::<u16>().ok()).flatten()
    };
    let (from, to) = (port()?, port()?);
    words.next().is_none().then_some(Some(Told {
        client: SocketAddr::new(client, from),
        local: SocketAddr::new(local, to),
    }))
}

fn version_2(bytes: &[u8]) -> Result<Option<(usize, Option<Told>)>, HeaderError> {
    let Some(rest) = bytes.get(SIGNATURE.len()..) else {
        return Ok(None);
    };
    let [command, family, high, low, rest @ ..] = rest else {
        return match rest.first() {
            Some(command) if !matches!(command, 0x20 | 0x21) => Err(HeaderError::Broken),
            _ => Ok(None),
        };
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !matches!(command, 0x20 | 0x21) || length > MOST_V2 {
        return Err(HeaderError::Broken);
    }
    let whole = SIGNATURE.len() + 4 + length;
    let Some(content) = rest.get(..length) else {
        return Ok(None);
    };
    // LOCAL, UNSPEC and Unix sockets: the proxy itself, or somebody without an address. TLVs,
    // which follow the addresses, are skipped.
    let told = match (command, family) {
        (0x20, _) | (_, 0x00 | 0x31) => None,
        (_, 0x11) => Some(ends::<4>(content).ok_or(HeaderError::Broken)?),
        (_, 0x21) => Some(ends::<16>(content).ok_or(HeaderError::Broken)?),
        _ => return Err(HeaderError::Broken),
    };
    Ok(Some((whole, told)))
}

/// Two addresses of `N` bytes, then two ports.
fn ends<const N: usize>(content: &[u8]) -> Option<Told>
where
    IpAddr: From<[u8; N]>,
{
    let (client, content) = content.split_first_chunk::<N>()?;
    let (local, content) = content.split_first_chunk::<N>()?;
    let (from, content) = content.split_first_chunk::<2>()?;
    let (to, _) = content.split_first_chunk::<2>()?;
    Some(Told {
        client: SocketAddr::new(IpAddr::from(*client), u16::from_be_bytes(*from)),
        local: SocketAddr::new(IpAddr::from(*local), u16::from_be_bytes(*to)),
    })
}

#[cfg(test)]
mod tests;
