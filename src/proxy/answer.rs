//! Step 3: answers that rules ask for instead of an origin, and what comes before them.
//!
//! Istio's order of filters: limits at the front, fault, CORS, limits before the router, then what
//! a route is for.

use http::HeaderValue;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admit::authority;
use super::attended::attended;
use super::context::Context;
use super::fault;
use super::guard::{self, Passage, Position};
use super::panics::caught;
use super::reply::Reply;
use super::route::{self, Routed, Step};
use crate::base::CauseKind;
use crate::policy::cors::apply::Meeting;
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::redirect::apply::{RedirectRequest, https_location, location};
use crate::policy::redirect::spec::Redirect;

/// What becomes of a routed request.
///
/// # Errors
/// The client left, or a step panicked.
pub(super) async fn answer(session: &mut Session, ctx: &mut Context, to: Routed) -> Result<Step> {
    let nowhere = match to {
        Routed::Fenced(reply) => return Ok(Step::Answer(reply)),
        Routed::Nowhere(reply) => Some(reply),
        Routed::Rule => None,
    };
    if let Some(reply) = guarded(session, ctx, Position::Front).await? {
        return Ok(Step::Answer(reply));
    }
    let fault = ctx
        .forward()
        .and_then(|forward| forward.policies.fault.clone());
    if let Some(fault) = fault
        && let Some(reply) = fault::inject(session, ctx, &fault).await?
    {
        return Ok(Step::Answer(reply));
    }
    if let Some(reply) = caught(ctx, |ctx| Ok(cors(ctx, session.req_header())))? {
        return Ok(Step::Answer(reply));
    }
    if let Some(reply) = guarded(session, ctx, Position::Back).await? {
        return Ok(Step::Answer(reply));
    }
    caught(ctx, |ctx| {
        Ok(match nowhere {
            Some(reply) => Step::Answer(reply),
            None => route::serve(session, ctx),
        })
    })
}

/// The answer of a policy at a position, if one does not let the request pass. Nothing is waited
/// for but services that count.
async fn guarded(
    session: &mut Session,
    ctx: &mut Context,
    position: Position,
) -> Result<Option<Reply>> {
    let mut from = 0;
    loop {
        let asking = match caught(ctx, |ctx| Ok(guard::pass(session, ctx, position, from)))? {
            Passage::Free => return Ok(None),
            Passage::Refused(reply) => return Ok(Some(reply)),
            Passage::Asks(asking) => asking,
        };
        // Apart, so that requests without such a policy do not carry room for it.
        let said = Box::pin(attended(session, ctx, "checked", asking.answer())).await?;
        if let Some(reply) = caught(ctx, |ctx| Ok(asking.heed(session, ctx, said)))? {
            return Ok(Some(reply));
        }
        from = asking.place + 1;
    }
}

/// Notes who asks from another origin, and answers preflights.
fn cors(ctx: &mut Context, request: &RequestHeader) -> Option<Reply> {
    let policy = ctx.forward()?.policies.cors.as_deref()?;
    match policy.meet(&request.method, &request.headers)? {
        Meeting::Served(asker) => {
            ctx.asker = Some(asker);
            None
        }
        Meeting::Answered(asker, headers) => {
            ctx.asker = Some(asker);
            ctx.note(
                CauseKind::CorsPreflight,
                "the rule's CORS policy answers the preflight",
            );
            Some(Reply {
                headers,
                ..Reply::of(CauseKind::CorsPreflight)
            })
        }
    }
}

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
        ..Reply::default()
    }
}

fn to(status: u16, location: &str) -> Reply {
    Reply {
        status,
        location: HeaderValue::from_str(location).ok(),
        ..Reply::default()
    }
}
