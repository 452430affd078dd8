//! Step 3: answers that rules ask for instead of an origin.

use http::HeaderValue;
use pingora::http::RequestHeader;

use super::admit::authority;
use super::context::Context;
use super::reply::Reply;
use crate::base::CauseKind;
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::redirect::apply::{RedirectRequest, https_location, location};
use crate::policy::redirect::spec::Redirect;

/// A rule's redirect.
pub(super) fn redirect(
    ctx: &Context,
    request: &RequestHeader,
    redirect: &Redirect,
    declared_port: u16,
) -> Reply {
    let location = location(
        redirect,
        &RedirectRequest {
            scheme: ctx.scheme(),
            authority: authority(request),
            path_and_query: ctx.target(request),
            declared_port,
        },
    );
    to(redirect.status, &location)
}

/// `tls.httpsRedirect`.
pub(super) fn https_redirect(ctx: &Context, request: &RequestHeader) -> Reply {
    let location = https_location(authority(request), ctx.target(request));
    to(CauseKind::HttpsRedirect.status(), &location)
}

/// A rule's fixed response.
pub(super) fn direct(response: &DirectResponse) -> Reply {
    Reply {
        status: response.status,
        body: response.body.clone(),
        location: None,
    }
}

fn to(status: u16, location: &str) -> Reply {
    Reply {
        status,
        location: HeaderValue::from_str(location).ok(),
        ..Reply::default()
    }
}
