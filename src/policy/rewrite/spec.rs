//! How the path and the Host an origin sees differ from the request's.

use http::HeaderValue;
use regex::Regex;

/// Rewrites of one route.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    pub path: Option<PathRewrite>,
    /// Replaces Host. `rewrite.authority` wins over `host` in header edits.
    pub authority: Option<HeaderValue>,
}

/// What happens to the path; the query is always kept.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// The matched prefix is replaced textually, without slash repair.
    Prefix { length: usize, with: String },
    /// The whole path is replaced.
    Full(String),
    /// Every occurrence of the pattern is replaced; `with` is in the regex crate's `${1}` form.
    Regex { pattern: Regex, with: String },
}
