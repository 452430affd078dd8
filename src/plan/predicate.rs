//! Conditions of a route beside the order: on the path, method, authority, headers and query.

use http::{HeaderName, Method};
use regex::Regex;

/// Condition on the normalised path without query (istio.md section 3).
#[derive(Clone, Debug, Default)]
pub enum UriMatch {
    #[default]
    Any,
    /// `ignore_case` texts are stored lower-case.
    Exact { text: Box<str>, ignore_case: bool },
    /// Textual: `/foo` matches `/foobar`.
    Prefix { text: Box<str>, ignore_case: bool },
    /// Anchored at both ends.
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
    Header { name: HeaderName, matcher: StringMatch },
    /// `withoutHeaders`: the condition must not hold; a missing header counts as empty for
    /// all matchers but `Present`.
    WithoutHeader { name: HeaderName, matcher: StringMatch },
    /// Not percent-decoded.
    Query { name: Box<str>, matcher: StringMatch },
    /// Always holds: stands for a condition that could not be compiled, so that traffic does not
    /// fall through to a broader rule (design 4.3). Its route is fenced.
    Unreadable { text: Box<str> },
}
