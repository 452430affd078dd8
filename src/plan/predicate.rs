//! Conditions of a route beside the order: on the path, method, authority, headers and query.
//!
//! `compile` makes them, [`decide`](super::decide) asks [`UriMatch::holds`] and
//! [`Predicate::holds`]; both print as the user wrote them.

use std::fmt;

use http::{HeaderMap, HeaderName, Method};
use regex::Regex;
use smallvec::SmallVec;

use super::decide::Request;

/// Condition on the normalised path without query.
#[derive(Clone, Debug, Default)]
pub enum UriMatch {
    #[default]
    Any,
    /// `ignore_case` texts are stored lower-case.
    Exact { text: Box<str>, ignore_case: bool },
    /// Textual: `/foo` matches `/foobar`.
    Prefix { text: Box<str>, ignore_case: bool },
    /// Anchored at both ends. Options stand in the pattern itself (`(?i)`).
    Regex(Regex),
}

/// Condition on a text.
#[derive(Clone, Debug)]
pub enum StringMatch {
    Exact(Box<str>),
    Prefix(Box<str>),
    /// Anchored at both ends.
    Regex(Regex),
    Present,
}

/// One condition of a match.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// `method.exact` of a standard or extension method.
    Method(Method),
    MethodMatch(StringMatch),
    Scheme(StringMatch),
    /// Tests the raw authority: port and case count.
    Authority(StringMatch),
    Header {
        name: HeaderName,
        matcher: StringMatch,
    },
    /// `withoutHeaders`: the condition must not hold; a missing header counts as empty for
    /// all matchers but `Present`.
    WithoutHeader {
        name: HeaderName,
        matcher: StringMatch,
    },
    /// `:path` among `headers`: the path with its query.
    Target(StringMatch),
    /// Not percent-decoded.
    Query {
        name: Box<str>,
        matcher: StringMatch,
    },
    /// Always holds: stands for a condition that could not be compiled, so that traffic does not
    /// fall through to a broader rule. Its route is fenced.
    Unreadable {
        text: Box<str>,
    },
}

impl UriMatch {
    /// Whether the condition holds for a normalised path without query.
    #[inline]
    pub fn holds(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact {
                text,
                ignore_case: false,
            } => path == &**text,
            Self::Exact {
                text,
                ignore_case: true,
            } => path.eq_ignore_ascii_case(text),
            Self::Prefix {
                text,
                ignore_case: false,
            } => path.starts_with(&**text),
            Self::Prefix {
                text,
                ignore_case: true,
            } => path
                .as_bytes()
                .get(..text.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(text.as_bytes())),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

impl StringMatch {
    /// Whether the condition holds for a text that is there.
    #[inline]
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Regex(regex) => regex.is_match(text),
            _ => self.holds_bytes(text.as_bytes()),
        }
    }

    /// The same for a value that need not be UTF-8. A regex sees a replacement character for each
    /// byte that is not, so that `.` matches it and a negated `.*` cannot be slipped past.
    #[inline]
    pub fn holds_bytes(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == text,
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Regex(regex) => regex.is_match(&String::from_utf8_lossy(text)),
            Self::Present => true,
        }
    }
}

impl Predicate {
    /// Whether the condition holds for a request.
    #[inline]
    pub fn holds(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Method(method) => method == request.method,
            Self::MethodMatch(matcher) => matcher.holds(request.method.as_str()),
            Self::Scheme(matcher) => matcher.holds(request.scheme),
            Self::Authority(matcher) => matcher.holds(request.authority),
            Self::Header { name, matcher } => header_value(request.headers, name, |value| {
                value.is_some_and(|value| matcher.holds_bytes(value))
            }),
            Self::WithoutHeader { name, matcher } => {
                header_value(request.headers, name, |value| match (value, matcher) {
                    (None, StringMatch::Present) => true,
                    (value, _) => !matcher.holds_bytes(value.unwrap_or_default()),
                })
            }
            Self::Target(matcher) => target(request, |target| matcher.holds_bytes(target)),
            Self::Query { name, matcher } => {
                query_value(request.query, name).is_some_and(|value| matcher.holds(value))
            }
            Self::Unreadable { .. } => true,
        }
    }
}

/// Gives `read` the value of a header as conditions see it: repeated values are joined with
/// commas, as Envoy does. Only a join copies, and only a long one allocates.
#[inline]
pub(super) fn header_value<R>(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl FnOnce(Option<&[u8]>) -> R,
) -> R {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => read(None),
        (Some(only), None) => read(Some(only.as_bytes())),
        (Some(first), Some(second)) => {
            let mut joined: SmallVec<[u8; 256]> = SmallVec::from_slice(first.as_bytes());
            for value in std::iter::once(second).chain(values) {
                joined.push(b',');
                joined.extend_from_slice(value.as_bytes());
            }
            read(Some(&joined))
        }
    }
}

/// Gives `read` the path with its query, as Envoy's `:path` holds it.
#[inline]
pub(super) fn target<R>(request: &Request<'_>, read: impl FnOnce(&[u8]) -> R) -> R {
    let Some(query) = request.query else {
        return read(request.path.as_bytes());
    };
    let mut joined: SmallVec<[u8; 256]> = SmallVec::from_slice(request.path.as_bytes());
    joined.push(b'?');
    joined.extend_from_slice(query.as_bytes());
    read(&joined)
}

/// The first value of a query parameter, undecoded. A parameter without `=` is empty.
#[inline]
pub(super) fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (key == name).then_some(value)
    })
}

/// A regex as the user wrote it, without the anchors `compile` adds.
pub(super) fn as_written(regex: &Regex) -> &str {
    let text = regex.as_str();
    text.strip_prefix("^(?:")
        .and_then(|text| text.strip_suffix(")$"))
        .unwrap_or(text)
}

impl fmt::Display for UriMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text, ignore_case) = match self {
            Self::Any => return f.write_str("any uri"),
            Self::Exact { text, ignore_case } => ("exact", &**text, *ignore_case),
            Self::Prefix { text, ignore_case } => ("prefix", &**text, *ignore_case),
            Self::Regex(regex) => ("regex", as_written(regex), false),
        };
        write!(
            f,
            "uri.{word} {text:?}{}",
            if ignore_case { " (ignoreUriCase)" } else { "" }
        )
    }
}

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, ".exact {text:?}"),
            Self::Prefix(text) => write!(f, ".prefix {text:?}"),
            Self::Regex(regex) => write!(f, ".regex {:?}", as_written(regex)),
            Self::Present => f.write_str(" present"),
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => write!(f, "method.exact {:?}", method.as_str()),
            Self::MethodMatch(matcher) => write!(f, "method{matcher}"),
            Self::Scheme(matcher) => write!(f, "scheme{matcher}"),
            Self::Authority(matcher) => write!(f, "authority{matcher}"),
            Self::Header { name, matcher } => write!(f, "headers[{name}]{matcher}"),
            Self::WithoutHeader { name, matcher } => write!(f, "withoutHeaders[{name}]{matcher}"),
            Self::Target(matcher) => write!(f, "headers[:path]{matcher}"),
            Self::Query { name, matcher } => write!(f, "queryParams[{name}]{matcher}"),
            Self::Unreadable { text } => write!(f, "unreadable {text:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
