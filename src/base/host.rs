//! Host names and wildcard patterns, as Gateways and VirtualServices write them.
//!
//! A pattern is `*`, `*.suffix` or a literal name, always lower case.

use std::fmt;
use std::sync::Arc;

/// A literal host, a whole-label leftmost wildcard, or any host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    Exact(Arc<str>),
    /// Holds what follows the star, with its dot: `.example.com` for `*.example.com`.
    Suffix(Arc<str>),
    Any,
}

impl HostPattern {
    /// Reads a pattern, lower-casing it. `None` if a `*` stands anywhere but as the whole leftmost label.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some(suffix) = text.strip_prefix('*') {
            return (suffix.len() > 1 && suffix.starts_with('.') && !suffix.contains('*'))
                .then(|| Self::Suffix(suffix.into()));
        }
        (!text.is_empty() && !text.contains('*')).then(|| Self::Exact(text.into()))
    }

    /// Whether a lower-case host without port matches.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }

    /// Whether every host that `other` matches is matched by `self`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Suffix(_)) => false,
            (Self::Suffix(a), Self::Suffix(b)) => b.ends_with(&**a),
            (Self::Suffix(_), Self::Exact(b)) => self.matches(b),
        }
    }

    /// The hosts both match: the more specific of the two, or nothing.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if self.covers(other) {
            Some(other.clone())
        } else if other.covers(self) {
            Some(self.clone())
        } else {
            None
        }
    }

    pub fn is_wildcard(&self) -> bool {
        !matches!(self, Self::Exact(_))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_excludes_its_own_apex_and_includes_deeper_names() {
        let wildcard = pattern("*.A.com");
        assert!(wildcard.matches("x.a.com"));
        assert!(wildcard.matches("x.y.a.com"));
        assert!(!wildcard.matches("a.com"));
        assert!(!wildcard.matches("xa.com"));
    }

    #[test]
    fn an_intersection_keeps_the_more_specific_pattern() {
        assert_eq!(
            pattern("*.a.com").intersect(&pattern("*")),
            Some(pattern("*.a.com"))
        );
        assert_eq!(
            pattern("x.a.com").intersect(&pattern("*.a.com")),
            Some(pattern("x.a.com"))
        );
        assert_eq!(
            pattern("*.b.a.com").intersect(&pattern("*.a.com")),
            Some(pattern("*.b.a.com"))
        );
        assert_eq!(pattern("a.com").intersect(&pattern("*.a.com")), None);
        assert_eq!(pattern("a.com").intersect(&pattern("b.com")), None);
    }

    #[test]
    fn a_partial_wildcard_label_is_refused() {
        for text in ["*a.com", "a.*.com", "*.*.com", "*.", "", "**"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
