//! `rewrite`: what an origin sees instead of the request's path and Host.

use http::HeaderValue;

use crate::compile::pattern;
use crate::model::istio::virtual_service::{HttpRoute, Rewrite as Written};
use crate::policy::rewrite::spec::{PathRewrite, Rewrite};

/// Whether the action of a rule depends on the length of the prefix that a match names.
pub(super) fn needs_prefix(rule: &HttpRoute) -> bool {
    rule.rewrite
        .as_ref()
        .is_some_and(|rewrite| rewrite.uri.is_some())
        || rule
            .redirect
            .as_ref()
            .is_some_and(|redirect| redirect.prefix_rewrite.is_some())
}

/// Compiles a rewrite for a match whose prefix has the given length.
///
/// # Errors
/// One sentence that says which field is wrong.
pub(super) fn compile(written: &Written, prefix: Option<usize>) -> Result<Rewrite, String> {
    let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let path = match (&written.uri_regex_rewrite, text(&written.uri)) {
        (Some(regex), _) => {
            let pattern = pattern::part(&regex.pattern)?;
            let with = pattern::replacement(&regex.rewrite, &pattern)?;
            Some(PathRewrite::Regex { pattern, with })
        }
        (None, Some(with)) => Some(match prefix {
            Some(length) => PathRewrite::Prefix { length, with },
            None => PathRewrite::Full(with),
        }),
        (None, None) => None,
    };
    let authority = match text(&written.authority) {
        Some(text) => Some(
            HeaderValue::from_str(&text).map_err(|_| format!("`{text}` is not an authority"))?,
        ),
        None => None,
    };
    Ok(Rewrite { path, authority })
}
