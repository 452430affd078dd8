//! A redirect, ready to be rendered for a request.

/// The answer's status and which parts of the URL change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub path: Option<RedirectPath>,
    pub authority: Option<String>,
    pub scheme: Option<String>,
    pub port: RedirectPort,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RedirectPath {
    /// Replaces the whole path; the query is kept unless the text has a `?`.
    Full(String),
    /// Replaces the matched prefix of the given length textually.
    Prefix { length: usize, with: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedirectPort {
    /// The received Host's port stays unless it was the old scheme's default and the scheme changes.
    Keep,
    Fixed(u16),
    /// `derivePort: FROM_REQUEST_PORT`: the Gateway's declared port.
    FromRequest,
}
