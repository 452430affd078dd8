//! Who asks, and under which id: client address, forwarding headers, request id.
//!
//! Every client is external: its `x-envoy-*` headers and request id are
//! not believed, and forwarding headers only as far as trusted proxies wrote them.

use std::io::Write;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::proxy::Session;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::listener::PeerCertificate;
use crate::observe::Trace;
use crate::plan::{ForwardClientCert, Plan};
use crate::proxy::context::Context;
use crate::proxy::names;

pub(in crate::proxy) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
pub(in crate::proxy) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request id tells the mesh's other proxies that its trace is sampled, and how: in place of
/// the UUID's version, as Envoy writes it.
const TRACE_REASON: usize = 14;
const SAMPLED: u8 = b'9';

/// Replaces what the client says about itself by what is known.
pub(super) fn stamp(session: &mut Session, ctx: &mut Context, plan: &Plan) {
    let options = &plan.http;
    let peer = ctx
        .connection
        .as_ref()
        .and_then(|connection| connection.peer)
        .or_else(|| {
            session
                .client_addr()
                .and_then(|address| address.as_inet())
                .copied()
        })
        .map(|address| address.ip().to_canonical());
    let local = ctx
        .connection
        .as_ref()
        .and_then(|connection| connection.local);
    let tls = session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some());
    let certificate = ctx
        .connection
        .as_ref()
        .and_then(|connection| connection.tls()?.peer.as_ref());
    let own = peer.and_then(address);
    names::edit_request(session.req_header_mut(), |fields| {
        strip_foreign(fields);
        forward_client_certificate(fields, certificate, options.client_cert);
        ctx.client = client(fields, peer, options.trusted_proxies);
        let proto = protocol(fields, tls, options.trusted_proxies);
        ctx.forwarded_https = proto == "https" && !tls;
        ctx.https = proto == "https";
        fields.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
        let external = match ctx.client == peer {
            true => own.clone(),
            false => ctx.client.and_then(address),
        };
        if let Some(value) = external {
            fields.insert(EXTERNAL_ADDRESS, value);
        }
        if let Some(value) = own.and_then(|own| forwarded_for(fields, own)) {
            fields.insert(FORWARDED_FOR, value);
        }
        if options.forwarded_port
            && (options.trusted_proxies == 0 || !fields.contains_key(FORWARDED_PORT))
            && let Some(local) = local
        {
            fields.insert(FORWARDED_PORT, HeaderValue::from(local.port()));
        }
        if let Some(tracing) = &plan.tracing {
            ctx.trace = Some(Box::new(Trace::begin(fields, tracing)));
        }
        let id = Uuid::new_v4();
        // All but the two variant bits of this half are random.
        ctx.random = id.as_u64_pair().1 & (u64::MAX >> 2);
        if options.request_id
            && let Some(value) = request_id(id, ctx.trace.as_deref())
        {
            fields.insert(REQUEST_ID, value);
        }
    });
}

/// A request's id as it is told.
fn request_id(id: Uuid, trace: Option<&Trace>) -> Option<HeaderValue> {
    let mut text = Uuid::encode_buffer();
    let length = id.hyphenated().encode_lower(&mut text).len();
    if trace.is_some_and(Trace::is_sampled)
        && let Some(version) = text.get_mut(TRACE_REASON)
    {
        *version = SAMPLED;
    }
    HeaderValue::from_bytes(text.get(..length)?).ok()
}

/// Says who the client's certificate is, and what becomes of the client's own word for it.
fn forward_client_certificate(
    fields: &mut HeaderMap,
    certificate: Option<&PeerCertificate>,
    mode: ForwardClientCert,
) {
    use ForwardClientCert::*;
    match (mode, certificate) {
        (AlwaysForwardOnly, _) | (ForwardOnly, Some(_)) => {}
        (SanitizeSet, Some(peer)) => {
            fields.insert(CLIENT_CERT, peer.element.clone());
        }
        (AppendForward, Some(peer)) => {
            let received = fields.get_all(CLIENT_CERT).iter();
            let mut list: Vec<&[u8]> = received.map(HeaderValue::as_bytes).collect();
            list.push(peer.element.as_bytes());
            if let Ok(value) = HeaderValue::from_bytes(&list.join(&b","[..])) {
                fields.insert(CLIENT_CERT, value);
            }
        }
        (Sanitize, _) | (ForwardOnly | SanitizeSet | AppendForward, None) => {
            fields.remove(&CLIENT_CERT);
        }
    }
}

/// Headers only Envoy-like proxies may write.
fn strip_foreign(fields: &mut HeaderMap) {
    let foreign: SmallVec<[HeaderName; 4]> = fields
        .keys()
        .filter(|name| name.as_str().starts_with("x-envoy-"))
        .cloned()
        .collect();
    for name in foreign {
        fields.remove(&name);
    }
}

/// The Nth address from the right of `x-forwarded-for`, which the outermost trusted proxy saw;
/// the peer if there are too few or none is trusted.
fn client(headers: &HeaderMap, peer: Option<IpAddr>, trusted: u32) -> Option<IpAddr> {
    if trusted == 0 {
        return peer;
    }
    let mut left = trusted;
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        let Ok(line) = line.to_str() else { return peer };
        for item in line.rsplit(',').map(str::trim) {
            left -= 1;
            if left == 0 {
                return item.parse().ok().or(peer);
            }
        }
    }
    peer
}

fn protocol(headers: &HeaderMap, tls: bool, trusted: u32) -> &'static str {
    let received = headers
        .get(FORWARDED_PROTO)
        .map(HeaderValue::as_bytes)
        .filter(|_| trusted > 0);
    match received {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ if tls => "https",
        _ => "http",
    }
}

/// The received list with the peer appended, as Envoy writes it: without a space.
fn forwarded_for(headers: &HeaderMap, peer: HeaderValue) -> Option<HeaderValue> {
    let mut received = headers.get_all(FORWARDED_FOR).iter();
    let Some(first) = received.next() else {
        return Some(peer);
    };
    let mut list = Vec::with_capacity(first.len() + 48);
    list.extend_from_slice(first.as_bytes());
    for more in received {
        list.push(b',');
        list.extend_from_slice(more.as_bytes());
    }
    list.push(b',');
    list.extend_from_slice(peer.as_bytes());
    HeaderValue::from_bytes(&list).ok()
}

fn address(ip: IpAddr) -> Option<HeaderValue> {
    // The longest IPv6 address has 39 characters.
    let mut text = [0; 48];
    let mut rest = text.as_mut_slice();
    write!(rest, "{ip}").ok()?;
    let left = rest.len();
    HeaderValue::from_bytes(text.get(..text.len() - left)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (FORWARDED_FOR, HeaderValue::from_static(line)))
            .collect()
    }

    fn seen(lines: &[&'static str], trusted: u32) -> String {
        client(&headers(lines), PEER.parse().ok(), trusted)
            .map(|ip| ip.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn the_client_is_the_nth_address_from_the_right() {
        let list = ["56.5.6.7, 72.9.5.6, 98.1.2.3"];
        assert_eq!(seen(&list, 0), PEER);
        assert_eq!(seen(&list, 1), "98.1.2.3");
        assert_eq!(seen(&list, 2), "72.9.5.6");
        assert_eq!(seen(&list, 4), PEER);
        assert_eq!(seen(&["1.1.1.1", "2.2.2.2, 3.3.3.3"], 3), "1.1.1.1");
        assert_eq!(seen(&["what"], 1), PEER);
    }

    #[test]
    fn the_peer_is_appended_without_a_space() {
        let value = forwarded_for(
            &headers(&["1.1.1.1", "2.2.2.2, 3.3.3.3"]),
            HeaderValue::from_static(PEER),
        );
        assert_eq!(value.unwrap(), "1.1.1.1,2.2.2.2, 3.3.3.3,10.0.0.1");
    }

    #[test]
    fn the_forwarded_protocol_counts_only_from_trusted_proxies() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        assert_eq!(protocol(&headers, false, 0), "http");
        assert_eq!(protocol(&headers, false, 1), "https");
        assert_eq!(protocol(&HeaderMap::new(), true, 1), "https");
    }
}
