//! The alternative names of a certificate, compared as Envoy does: DNS names by DNS's rules, with
//! a wildcard label, every other kind letter by letter. The common name does not count.

use std::net::IpAddr;

use boring::x509::{GeneralNameRef, X509Ref};

/// What a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlternativeNames(Box<[Name]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Dns(Box<str>),
    /// A URI, an address or an e-mail address.
    Plain(Box<str>),
}

impl AlternativeNames {
    pub fn of(certificate: &X509Ref) -> Self {
        let names = certificate.subject_alt_names();
        Self(names.iter().flatten().filter_map(Name::read).collect())
    }

    /// Whether the certificate is for this name.
    pub fn cover(&self, wanted: &str) -> bool {
        self.0.iter().any(|name| match name {
            Name::Dns(pattern) => is_dns_match(wanted, pattern),
            Name::Plain(text) => **text == *wanted,
        })
    }
}

impl Name {
    fn read(name: &GeneralNameRef) -> Option<Self> {
        if let Some(dns) = name.dnsname() {
            return Some(Self::Dns(dns.into()));
        }
        let text = name.uri().or_else(|| name.email()).map(Box::from);
        let address = || Some(address(name.ipaddress()?)?.to_string().into());
        text.or_else(address).map(Self::Plain)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?));
    v4().or_else(v6)
}

/// Without regard to case; one `*` in the first label stands for any part of that label, unless
/// one of the two is an internationalised label (RFC 6125 section 6.4.3).
fn is_dns_match(name: &str, pattern: &str) -> bool {
    if name.eq_ignore_ascii_case(pattern) {
        return true;
    }
    let (Some((label, rest)), Some((wild, above))) =
        (name.split_once('.'), pattern.split_once('.'))
    else {
        return false;
    };
    let Some((before, after)) = wild.split_once('*') else {
        return false;
    };
    let is_plain = |label: &str| {
        !label
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
    };
    let is_part =
        |part: Option<&str>, with: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(with));
    let one_star = !after.contains('*') && !above.contains('*');
    let is_whole = before.is_empty() && after.is_empty();
    one_star
        && (is_whole || (is_plain(label) && is_plain(wild)))
        && rest.eq_ignore_ascii_case(above)
        && label.len() >= before.len() + after.len()
        && !label.is_empty()
        && is_part(label.get(..before.len()), before)
        && is_part(label.get(label.len() - after.len()..), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_match_by_dns_rules() {
        for (name, pattern, expected) in [
            ("a.example.com", "a.example.com", true),
            ("A.example.com", "a.EXAMPLE.com", true),
            ("a.example.com", "*.example.com", true),
            ("a.example.com", "*.EXAMPLE.com", true),
            ("a.b.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            (".example.com", "*.example.com", false),
            ("api1.example.com", "api*.example.com", true),
            ("web1.example.com", "api*.example.com", false),
            ("a.example.com", "a.*.com", false),
            ("a.example.com", "*", false),
            ("a.example.com", "*.*.com", false),
            ("xn--a.example.com", "*.example.com", true),
            ("xn--a.example.com", "x*.example.com", false),
            ("ab.example.com", "a*b.example.com", true),
            ("a.example.com", "a*a.example.com", false),
        ] {
            assert_eq!(is_dns_match(name, pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn other_kinds_of_names_match_letter_by_letter() {
        let names = AlternativeNames(Box::new([
            Name::Plain("spiffe://td/ns/a/sa/b".into()),
            Name::Plain("10.0.0.1".into()),
            Name::Dns("a.example.com".into()),
        ]));
        for (wanted, expected) in [
            ("spiffe://td/ns/a/sa/b", true),
            ("spiffe://TD/ns/a/sa/b", false),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("a.example.com", true),
        ] {
            assert_eq!(names.cover(wanted), expected, "{wanted}");
        }
    }
}
