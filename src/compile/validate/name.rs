//! What Istio accepts as a name: hosts, labels, Gateway references, export targets.
//!
//! Called by the validators of this folder. Each function gives one sentence about what is wrong.

use std::net::IpAddr;

use crate::base::{Findings, HostPattern};
use crate::model::{FieldPath, Object};

use super::fault;

/// Whether a text is a DNS label: letters, digits and inner hyphens, at most 63.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Whether a text is labels joined by dots. Looks at each byte once: thousands of hosts are
/// checked on every load.
fn is_dotted(text: &str) -> bool {
    let mut length = 0;
    let mut last = b'-';
    for byte in text.bytes() {
        match byte {
            b'.' if length == 0 || last == b'-' => return false,
            b'.' => length = 0,
            b'-' if length == 0 => return false,
            b'-' => length += 1,
            byte if byte.is_ascii_alphanumeric() => length += 1,
            _ => return false,
        }
        if length > 63 {
            return false;
        }
        last = byte;
    }
    length > 0 && last != b'-'
}

/// Whether a text is an IP address.
pub(crate) fn is_address(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == ':' || c.is_ascii_hexdigit())
        && text.parse::<IpAddr>().is_ok()
}

/// A host of a VirtualService or destination: a DNS name, `*`, or `*.` before a DNS name.
pub(crate) fn host(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a host is empty".into());
    }
    if text.len() > 255 {
        return Err("a host is longer than 255 characters".into());
    }
    if text == "*" {
        return Ok(());
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    // A name may end in a dot; it stays part of what is compared.
    let name = name.strip_suffix('.').unwrap_or(name);
    if is_dotted(name) || is_address(text) {
        return Ok(());
    }
    if text.contains('*') && HostPattern::parse(text).is_none() {
        return Err(format!(
            "`{text}` has a `*` that is not the whole leftmost label"
        ));
    }
    Err(format!("`{text}` is not a host name"))
}

/// A host of a Gateway's server, without its namespace.
pub(crate) fn server_host(text: &str) -> Result<(), String> {
    host(text)?;
    if text != "*" && !text.contains('.') && !is_address(text) {
        return Err(format!(
            "the short name `{text}` is not allowed in a Gateway"
        ));
    }
    Ok(())
}

/// Checks `exportTo`.
pub(crate) fn check_export_to(object: &Object, export_to: &[String], findings: &mut Findings) {
    for (index, entry) in export_to.iter().enumerate() {
        if !matches!(entry.as_str(), "." | "*" | "~") && !is_label(entry) {
            let path = FieldPath::spec().field("exportTo").index(index);
            let message = format!("`{entry}` is not a namespace");
            findings.push(fault(
                object,
                &path,
                message,
                "write `.`, `*`, `~` or a namespace",
            ));
        } else if export_to.iter().take(index).any(|earlier| earlier == entry) {
            let path = FieldPath::spec().field("exportTo").index(index);
            findings.push(fault(
                object,
                &path,
                format!("`{entry}` is repeated"),
                "remove it",
            ));
        } else if export_to.len() > 1 && matches!(entry.as_str(), "*" | "~") {
            let path = FieldPath::spec().field("exportTo").index(index);
            let message = format!("`{entry}` stands beside other entries");
            findings.push(fault(
                object,
                &path,
                message,
                format!("write `{entry}` alone, or leave it out"),
            ));
        }
    }
}

/// Checks names of Gateways in a VirtualService.
pub(crate) fn check_gateways(
    object: &Object,
    names: &[String],
    path: impl Fn() -> FieldPath,
    findings: &mut Findings,
) {
    for (index, name) in names.iter().enumerate() {
        let is_fine = match name.split_once('/') {
            Some((namespace, name)) => (namespace == "." || is_label(namespace)) && is_label(name),
            None => name.split('.').all(is_label),
        };
        if !is_fine {
            let message = format!("`{name}` is not a Gateway's name");
            findings.push(fault(
                object,
                &path().index(index),
                message,
                "write `name` or `namespace/name`",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_dns_names_whole_label_wildcards_or_addresses() {
        for text in [
            "*", "a.com", "*.a.com", "A.com", "reviews", "10.0.0.1", "::1", "a.com.",
        ] {
            assert_eq!(host(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "*a.com",
            "a.*.com",
            "a_b.com",
            "-a.com",
            "http://a.com",
            "a.com:80",
            "a..com",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
        assert!(server_host("reviews").is_err());
        assert!(server_host("10.0.0.1").is_ok());
    }
}
