//! Step 5: the request as the origin will see it.
//!
//! Pingora has copied the client's head and stripped the fields of one hop; path, Host and
//! headers are rewritten here, once per attempt.

use http::header::{COOKIE, HOST, PROXY_AUTHORIZATION, TE};
use http::{HeaderName, HeaderValue, Version};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admit::authority;
use super::context::Context;
use super::grpc_web;
use super::known::known;
use super::names;
use crate::policy::headers::edit_request;
use crate::policy::path::split_target;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Rewrites `request`, which Pingora is about to send.
///
/// # Errors
/// A rewritten target that is no target.
pub(super) fn prepare(session: &Session, ctx: &Context, request: &mut RequestHeader) -> Result<()> {
    let (Some(forward), Some(destination)) = (ctx.forward(), ctx.destination()) else {
        return Ok(());
    };
    let options = &ctx.plan().http;
    let received = session.req_header();
    let target = ctx.target(received);
    let host = authority(received);
    if !request.headers.contains_key(HOST) && !host.is_empty() {
        request.insert_header(HOST, host)?;
    }
    if ctx.target.is_some() {
        // Also turns absolute form into origin form. Edits below read the path as `:path`.
        request.set_raw_path(target.as_bytes())?;
    }
    join_cookies(request)?;
    request.remove_header(&PROXY_AUTHORIZATION);
    if request.version == Version::HTTP_2 && ctx.asks_grpc() {
        // Pingora strips it when an HTTP/1 client's request becomes HTTP/2; gRPC servers ask for it.
        request.insert_header(TE, "trailers")?;
    }
    grpc_web::ask(ctx, request)?;
    names::edit_request(request, |fields| {
        if options.attempt_count {
            fields.insert(ATTEMPT_COUNT, HeaderValue::from(1 + ctx.retrying.retries));
        }
        if options.envoy_debug_headers
            && let Some(timeout) = forward.timeout
        {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            fields.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
        }
    });
    if let Some(told) = &ctx.told {
        told.to_origin(request);
    }
    edit_request(&destination.request, request, &known(session, ctx, None));
    if let Some(wanted) = rewritten_authority(ctx) {
        if options.forwarded_host && wanted.as_bytes() != host.as_bytes() {
            request.append_header(FORWARDED_HOST, host)?;
        }
        request.insert_header(HOST, wanted.clone())?;
    }
    if let Some(rewrite) = &forward.rewrite.path {
        let (path, query) = split_target(target);
        let rewritten = rewrite.apply(path, query);
        if options.envoy_debug_headers {
            request.insert_header(ORIGINAL_PATH, target)?;
        }
        request.set_raw_path(rewritten.as_bytes())?;
    }
    if let (Some(trace), Some(tracing)) = (&ctx.trace, &ctx.plan().tracing) {
        trace.headers(tracing, |name, value| match value {
            // Both types are already those of the map: this cannot fail.
            Some(value) => drop(request.insert_header(name, value)),
            None => drop(request.remove_header(&name)),
        });
    }
    Ok(())
}

/// The Host that the origin sees, if it is not the client's.
pub(super) fn rewritten_authority(ctx: &Context) -> Option<&HeaderValue> {
    let rewrite = ctx.forward()?.rewrite.authority.as_ref();
    rewrite.or(ctx.destination()?.authority.as_ref())
}

/// HTTP/2 clients may send a cookie in crumbs; HTTP/1 origins know one field
/// (RFC 9113 section 8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let mut crumbs = request.headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return Ok(());
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&joined)
        .map_err(|_| pingora::Error::new_in(pingora::ErrorType::InvalidHTTPHeader))?;
    request.insert_header(COOKIE, joined)
}
