//! Who may read the admin endpoint: not a web page in the operator's browser.
//!
//! The endpoint listens on loopback, where any page the operator opens could reach it. A page
//! gives itself away by its Host (DNS rebinding needs a name of its own) or by the headers
//! browsers put on requests of foreign pages.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::request::Parts;

/// The refusal's sentence; `None` if the request may be answered.
pub(super) fn refuse(request: &Parts, hosts: &[String]) -> Option<&'static str> {
    let text = |name: &str| {
        request
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    if !text(HOST.as_str()).is_some_and(|host| is_ours(host, hosts)) {
        return Some(
            "this endpoint answers only to localhost, to loopback addresses and to the names in gateway.admin.hosts",
        );
    }
    let cross_site = "this endpoint does not answer requests that a web page of another site makes";
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Some(cross_site);
    }
    let origin_is_ours = |origin: &str| {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| is_ours(authority, hosts))
    };
    if text(ORIGIN.as_str()).is_some_and(|origin| !origin_is_ours(origin)) {
        return Some(cross_site);
    }
    None
}

/// Whether an authority is loopback's or one of `hosts`; its port does not matter.
fn is_ours(authority: &str, hosts: &[String]) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') =>
        {
            host
        }
        _ => authority,
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback())
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|name| name.eq_ignore_ascii_case(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        refuse(&parts, &["ops.example.com".to_owned()]).is_some()
    }

    #[test]
    fn only_loopback_and_configured_hosts_are_answered() {
        for host in [
            "localhost",
            "LocalHost:15000",
            "127.0.0.1",
            "127.8.8.8:80",
            "[::1]",
            "[::1]:15000",
            "[::ffff:127.0.0.1]:1",
            "ops.example.com:15000",
            "OPS.example.com",
        ] {
            assert!(!refused(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example.com",
            "localhost.evil.example.com",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "[::2]:15000",
            "",
            "localhost:x",
            "localhost.",
            "xops.example.com",
            "0.0.0.0",
        ] {
            assert!(refused(&[("host", host)]), "{host}");
        }
        assert!(refused(&[]));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let host = ("host", "localhost:15000");
        for good in [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("origin", "http://localhost:15000"),
            ("origin", "https://ops.example.com"),
        ] {
            assert!(!refused(&[host, good]), "{good:?}");
        }
        for bad in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "unheard-of"),
            ("origin", "https://evil.example.com"),
            ("origin", "null"),
            ("origin", "http://localhost.evil.example.com"),
        ] {
            assert!(refused(&[host, bad]), "{bad:?}");
        }
    }
}
