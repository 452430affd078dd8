//! The authority of a request: whether it is one, and the host routing uses.

/// Checks `host[:port]` as an http URI may have it (RFC 9112 section 3.2, RFC 3986 section 3.2.2):
/// no userinfo, list, space or path; brackets and port well formed.
///
/// # Errors
/// What is wrong with it.
pub(in crate::proxy) fn validate(authority: &[u8]) -> Result<(), &'static str> {
    let (host, port) = split(authority);
    if let Some(port) = port {
        let number = std::str::from_utf8(port)
            .ok()
            .and_then(|text| text.parse::<u16>().ok());
        if number.is_none() || !port.iter().all(u8::is_ascii_digit) {
            return Err("Host has a bad port");
        }
    }
    if let Some(inner) = host.strip_prefix(b"[") {
        let address = inner
            .strip_suffix(b"]")
            .and_then(|inner| std::str::from_utf8(inner).ok());
        return match address.map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(_)) => Ok(()),
            _ => Err("Host has bad brackets"),
        };
    }
    if host.is_empty() {
        return Err("Host is empty");
    }
    // `%` is legal in a registered name, but no two parsers agree on what it decodes to; `,`
    // would be a list.
    if host
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte))
    {
        Ok(())
    } else {
        Err("Host is not a host name")
    }
}

/// The host of a valid authority, without its port.
pub(in crate::proxy) fn without_port(authority: &str) -> &str {
    let (host, _) = split(authority.as_bytes());
    authority.get(..host.len()).unwrap_or(authority)
}

/// Splits off a port. Colons inside brackets belong to the host.
fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = authority
        .iter()
        .rposition(|byte| *byte == b']')
        .map_or(0, |at| at + 1);
    let tail = authority.get(from..).unwrap_or_default();
    match tail.iter().position(|byte| *byte == b':') {
        Some(at) => (
            authority.get(..from + at).unwrap_or(authority),
            authority.get(from + at + 1..),
        ),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_userinfo_lists_spaces_paths_bad_ports_or_brackets_are_refused() {
        let refused = [
            "", "a@b", "a,b", "a b", "a/b", "a:", "a:b", "a:+80", "a:80:80", "a:70000", "[::1",
            "::1", "[::1]x", "[x]", "a?b", "a#b", "a\\b", "a%2fb", "é", ":80",
        ];
        for host in refused {
            assert!(validate(host.as_bytes()).is_err(), "{host}");
        }
        for host in [
            "a",
            "A.b.",
            "a:80",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:443",
            "a_b.c-d",
        ] {
            assert_eq!(validate(host.as_bytes()), Ok(()), "{host}");
        }
    }

    /// Gotchas 12 and 13: the port is ignored, a trailing dot is not.
    #[test]
    fn the_host_loses_its_port_and_nothing_else() {
        assert_eq!(without_port("a.com:80"), "a.com");
        assert_eq!(without_port("a.com.:80"), "a.com.");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("a"), "a");
    }
}
