//! `corsPolicy`: its lists as the header values that Istio makes of them.

use http::HeaderValue;

use crate::base::quantity::parse_duration;
use crate::compile::pattern::Patterns;
use crate::model::Slot;
use crate::model::istio::virtual_service::CorsPolicy;
use crate::plan::StringMatch;
use crate::policy::cors::spec::{Allowed, Cors, OriginMatch};

use super::matching;

/// Compiles a policy.
///
/// # Errors
/// One sentence that says which value is wrong.
pub(super) fn compile(written: &CorsPolicy, patterns: &Patterns) -> Result<Cors, String> {
    let mut origins = Vec::with_capacity(written.allow_origins.len());
    for slot in &written.allow_origins {
        let Slot::Good(origin) = &slot.value else {
            return Err("an entry of `allowOrigins` cannot be read".into());
        };
        origins.push(match matching::text(origin, patterns)? {
            StringMatch::Exact(text) => OriginMatch::Exact(text),
            StringMatch::Prefix(text) => OriginMatch::Prefix(text),
            StringMatch::Regex(regex) => OriginMatch::Regex(regex),
            StringMatch::Present => return Err("an entry of `allowOrigins` is empty".into()),
        });
    }
    if written.allow_origins.is_empty() {
        let exact = |text: &String| OriginMatch::Exact(text.as_str().into());
        origins.extend(written.allow_origin.iter().map(exact));
    }
    let max_age = match &written.max_age {
        Some(text) => Some(HeaderValue::from(parse_duration(text, false)?.as_secs())),
        None => None,
    };
    Ok(Cors {
        origins,
        methods: allowed(&written.allow_methods)?,
        headers: allowed(&written.allow_headers)?,
        expose: list(&written.expose_headers)?,
        max_age,
        credentials: written.allow_credentials == Some(true),
        forward_unmatched: written.unmatched_preflights.as_deref() != Some("IGNORE"),
    })
}

fn allowed(words: &[String]) -> Result<Allowed, String> {
    Ok(match list(words)? {
        None => Allowed::Unsaid,
        Some(value) if value == "*" => Allowed::Asked,
        Some(value) => Allowed::These(value),
    })
}

fn list(words: &[String]) -> Result<Option<HeaderValue>, String> {
    let text = words.join(",");
    if text.is_empty() {
        return Ok(None);
    }
    let value = HeaderValue::from_str(&text);
    value
        .map(Some)
        .map_err(|_| format!("`{text}` is no header value"))
}
