//! The request target in origin form with a normalised path: what is matched and forwarded.

use http::{HeaderValue, Method};
use pingora::proxy::Session;
use pingora_core::protocols::http::authority::{RawTargetAuthority, raw_target_authority};

use super::{Refusal, bad};
use crate::base::CauseKind;
use crate::plan::HttpOptions;
use crate::policy::path::{BadPath, PathNormalization, normalize, normalize_edge, split_target};
use crate::proxy::context::Context;
use crate::proxy::reply::Reply;

/// Normalises the target of the request into the context. An HTTP/1.0 request whose only
/// authority is that of its target gets a `Host`.
///
/// # Errors
/// A target that is no path, or that no two parsers read alike.
pub(super) fn normalise(
    session: &mut Session,
    ctx: &mut Context,
    options: &HttpOptions,
) -> Result<(), Refusal> {
    let request = session.req_header();
    let raw = std::str::from_utf8(request.raw_path())
        .map_err(|_| bad("the request target is not UTF-8"))?;
    let (authority, target) = origin_form(raw)?;
    if target == "*" && request.method != Method::OPTIONS {
        return Err(bad("only OPTIONS may ask for `*`"));
    }
    let (path, query) = split_target(target);
    let normal = if options.edge {
        normalize_edge(path)
    } else {
        normalize(path, options.path_normalization)
    }
    .map_err(|reason| {
        if reason == BadPath::EscapedSlash && request.method.is_safe() {
            ctx.reply = unescaped(path, query);
        }
        Refusal::new(CauseKind::BadPath, reason.to_string())
    })?;
    let length = normal.len() + query.map_or(0, |query| query.len() + 1);
    if *normal != *path || length != raw.len() {
        let mut text = String::with_capacity(length);
        text.push_str(&normal);
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        ctx.target = Some(text.into());
    }
    if let Some(authority) = authority
        && !request.headers.contains_key(http::header::HOST)
    {
        let host = HeaderValue::from_str(authority).map_err(|_| bad("bad authority"))?;
        super::host::validate(host.as_bytes()).map_err(bad)?;
        let _ = session
            .req_header_mut()
            .insert_header(http::header::HOST, host);
    }
    Ok(())
}

/// Sends a client that escaped slashes to the path they stand for (Envoy's
/// UNESCAPE_AND_REDIRECT, the edge profile's answer where repeating a request is harmless).
fn unescaped(path: &str, query: Option<&str>) -> Option<Reply> {
    let path = normalize(path, PathNormalization::DecodeAndMergeSlashes).ok()?;
    let location = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    Some(Reply {
        status: 307,
        location: HeaderValue::from_str(&location).ok(),
        ..Reply::default()
    })
}

/// Splits an absolute-form target into authority and the rest. Pingora has compared the
/// authority with `Host` already.
fn origin_form(raw: &str) -> Result<(Option<&str>, &str), Refusal> {
    if raw.starts_with('/') || raw == "*" {
        return Ok((None, raw));
    }
    match raw_target_authority(raw.as_bytes()) {
        RawTargetAuthority::Absolute {
            scheme,
            authority,
            path_and_query,
        } => {
            if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
                return Err(bad("the request target has a foreign scheme"));
            }
            let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
            Ok((Some(text(authority)), text(path_and_query)))
        }
        _ => Err(bad("the request target is not a path")),
    }
}
