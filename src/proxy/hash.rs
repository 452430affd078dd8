//! The key of a request for a cluster with consistent hashing, and the cookie that keeps it.
//!
//! Called by `route` once the cluster is known. Hashes are Envoy's: XXH64 with seed 0 over the
//! value as it stands in the request. Nothing is allocated but a new cookie.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use smallvec::SmallVec;
use twox_hash::XxHash64;

use super::admit::authority;
use super::context::Context;
use crate::plan::HashKey;
use crate::plan::balance::{CookieOffer, HashCookie};

/// Notes the hash of the request's key, and the cookie to set if it is to get one.
pub(super) fn note(ctx: &mut Context, request: &RequestHeader) {
    let key = ctx
        .cluster()
        .and_then(|cluster| cluster.balancing.key.as_ref());
    let Some(key) = key else { return };
    let (hash, cookie) = match key {
        HashKey::Header(name) => (of_header(request, name), None),
        HashKey::Authority => (of_text(authority(request)), None),
        HashKey::Path => (of_text(ctx.target(request)), None),
        HashKey::Method => (of_text(request.method.as_str()), None),
        HashKey::SourceIp => (ctx.client.map(of_address), None),
        HashKey::Query(name) => (of_query(ctx.path_and_query(request).1, name), None),
        HashKey::Cookie(cookie) => of_cookie(ctx, request, cookie),
    };
    ctx.hash = hash;
    ctx.set_cookie = cookie;
}

fn xxh(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

fn of_text(text: &str) -> Option<u64> {
    (!text.is_empty()).then(|| xxh(text.as_bytes()))
}

/// Several values are hashed in order, each with the hash before it as seed.
fn of_header(request: &RequestHeader, name: &HeaderName) -> Option<u64> {
    let mut values: SmallVec<[&[u8]; 4]> = request
        .headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    values.sort_unstable();
    let hash = |seed, value: &&[u8]| XxHash64::oneshot(seed, value);
    (!values.is_empty()).then(|| values.iter().fold(0, hash))
}

pub(super) fn of_address(address: IpAddr) -> u64 {
    let mut buffer = [0_u8; 48];
    let mut cursor = Cursor::new(buffer.as_mut_slice());
    // The longest address has 45 bytes.
    let _ = write!(cursor, "{address}");
    let length = cursor.position() as usize;
    xxh(buffer.get(..length).unwrap_or_default())
}

/// The first value; an empty one counts, a missing one does not.
fn of_query(query: Option<&str>, name: &str) -> Option<u64> {
    let pairs = query?.split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(xxh(value.as_bytes()))
}

fn of_cookie(
    ctx: &Context,
    request: &RequestHeader,
    cookie: &HashCookie,
) -> (Option<u64>, Option<HeaderValue>) {
    if let Some(value) = received(request, &cookie.name) {
        return (Some(xxh(value)), None);
    }
    let offered = cookie.offer.as_ref().and_then(|offer| {
        let value = new_value(ctx)?;
        let header = set_cookie(&cookie.name, &value, offer)?;
        Some((xxh(value.as_bytes()), header))
    });
    offered.map_or((None, None), |(hash, header)| (Some(hash), Some(header)))
}

/// The value of a cookie, without quotes; an empty one counts as missing.
fn received<'r>(request: &'r RequestHeader, name: &str) -> Option<&'r [u8]> {
    let headers = request.headers.get_all(http::header::COOKIE).iter();
    let pairs = headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let value = pairs
        .filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            Some(pair.split_at(equals))
        })
        .find(|(key, _)| key.trim_ascii() == name.as_bytes())
        .and_then(|(_, value)| value.get(1..))?
        .trim_ascii();
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    Some(unquoted.unwrap_or(value)).filter(|value| !value.is_empty())
}

/// Of the connection's addresses, as in Envoy: requests that race on one get the same cookie.
fn new_value(ctx: &Context) -> Option<String> {
    let connection = ctx.connection.as_ref()?;
    let addresses = format!("{}{}", connection.peer?, connection.local?);
    Some(format!("{:016x}", xxh(addresses.as_bytes())))
}

fn set_cookie(name: &str, value: &str, offer: &CookieOffer) -> Option<HeaderValue> {
    let mut text = format!("{name}=\"{value}\"");
    let seconds = offer.ttl.as_secs();
    if seconds > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, "; Max-Age={seconds}");
    }
    text.push_str(&offer.attributes);
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).expect("a request");
        for (name, value) in headers {
            request.append_header(*name, *value).expect("a header");
        }
        request
    }

    #[test]
    fn hashes_are_envoys() {
        assert_eq!(of_text("foo"), Some(3_728_699_739_546_630_719));
        assert_eq!(of_text(""), None);
        let foo = request(&[("x-key", "foo")]);
        let key = HeaderName::from_static("x-key");
        assert_eq!(of_header(&foo, &key), Some(3_728_699_739_546_630_719));
        assert_eq!(of_header(&request(&[]), &key), None);
    }

    #[test]
    fn several_values_of_a_header_count_in_any_order() {
        let key = HeaderName::from_static("x-key");
        let one = of_header(&request(&[("x-key", "a"), ("x-key", "b")]), &key);
        let other = of_header(&request(&[("x-key", "b"), ("x-key", "a")]), &key);
        assert_eq!(one, other);
        assert_ne!(one, of_header(&request(&[("x-key", "a")]), &key));
    }

    #[test]
    fn a_query_value_is_taken_undecoded_and_the_first_counts() {
        assert_eq!(of_query(Some("a=1&k=foo&k=2"), "k"), Some(xxh(b"foo")));
        assert_eq!(of_query(Some("k=%66oo"), "k"), Some(xxh(b"%66oo")));
        assert_eq!(of_query(Some("k"), "k"), Some(xxh(b"")));
        assert_eq!(of_query(Some("kk=1"), "k"), None);
        assert_eq!(of_query(None, "k"), None);
    }

    #[test]
    fn a_cookie_is_found_among_others_with_or_without_quotes() {
        for (header, expected) in [
            ("k=1", Some("1")),
            ("a=b; k=\"x y\"; c=d", Some("x y")),
            ("kk=1; k=2", Some("2")),
            ("k=", None),
            ("k", None),
            ("K=1", None),
            ("k=a=b", Some("a=b")),
        ] {
            let request = request(&[("cookie", "other=1"), ("cookie", header)]);
            let expected = expected.map(str::as_bytes);
            assert_eq!(received(&request, "k"), expected, "{header}");
        }
    }

    #[test]
    fn a_cookie_is_set_in_envoys_form() {
        let offer = |seconds, attributes: &str| CookieOffer {
            ttl: Duration::from_secs(seconds),
            attributes: attributes.into(),
        };
        let text = |offer| {
            let header = set_cookie("k", "00ff", &offer).expect("a header");
            header.to_str().expect("text").to_owned()
        };
        assert_eq!(
            text(offer(60, "; Path=/; SameSite=Strict; HttpOnly")),
            "k=\"00ff\"; Max-Age=60; Path=/; SameSite=Strict; HttpOnly"
        );
        assert_eq!(text(offer(0, "; HttpOnly")), "k=\"00ff\"; HttpOnly");
    }

    #[test]
    fn an_address_is_hashed_as_text() {
        assert_eq!(of_address(IpAddr::from([10, 1, 2, 3])), xxh(b"10.1.2.3"));
    }
}
