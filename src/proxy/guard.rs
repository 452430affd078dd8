//! What may be served at all, once it is known what it is: limits on the rate of requests.
//!
//! Called by `answer` at the two places that Envoy's filters may have: in front of all others, and
//! right before the router. A listener without policies costs one look.

use http::HeaderValue;
use http::header::RETRY_AFTER;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::admit::authority;
use super::context::Context;
use super::reply::Reply;
use crate::base::{CauseKind, clock};
use crate::plan::{Guarding, Guards, LimitId, PlacedLimit};
use crate::policy::rate_limit::apply::{Reading, Verdict};
use crate::policy::rate_limit::key::Asked;

/// The answer of a limit that comes before everything else.
pub(super) fn front(session: &Session, ctx: &mut Context) -> Option<Reply> {
    limits(session, ctx, |guards| &guards.front)
}

/// The answer of a limit that comes after faults and CORS.
pub(super) fn back(session: &Session, ctx: &mut Context) -> Option<Reply> {
    limits(session, ctx, |guards| &guards.back)
}

/// Tells the client how the limit stands that is nearest to its end.
pub(super) fn announce(ctx: &Context, response: &mut ResponseHeader) {
    if let Some((id, reading)) = &ctx.reading
        && let Some(limiter) = ctx.serving.limiter(*id)
    {
        limiter.spec().announce(reading, response);
    }
}

fn guards(ctx: &Context) -> Option<&Guards> {
    let guarding: &Guarding = ctx
        .plan()
        .listeners
        .get(ctx.came_in?)?
        .guarding
        .as_deref()?;
    match &ctx.chosen {
        Some(chosen) => guarding.of(chosen.virtual_host, chosen.route),
        None => guarding.unrouted(),
    }
}

fn limits(
    session: &Session,
    ctx: &mut Context,
    place: impl Fn(&Guards) -> &[LimitId],
) -> Option<Reply> {
    let count = guards(ctx).map_or(0, |guards| place(guards).len());
    for index in 0..count {
        let id = *guards(ctx).and_then(|guards| place(guards).get(index))?;
        match ask(session, ctx, id) {
            Some(Verdict::Allowed(reading)) => note(ctx, id, reading),
            Some(Verdict::Limited(reading)) => return refuse(ctx, id, reading),
            Some(Verdict::Unconcerned | Verdict::Observed) | None => {}
        }
    }
    None
}

fn ask(session: &Session, ctx: &Context, id: LimitId) -> Option<Verdict> {
    let request = session.req_header();
    let (path, query) = ctx.path_and_query(request);
    let asked = Asked {
        client: ctx.client,
        headers: &request.headers,
        path,
        query,
        target: ctx.target(request),
        method: request.method.as_str(),
        authority: authority(request),
        scheme: ctx.scheme(),
        cluster: ctx.cluster().map(|cluster| &*cluster.name),
    };
    let limiter = ctx.serving.limiter(id)?;
    Some(limiter.ask(&asked, clock::now(), |limit| fastrand::u32(..limit)))
}

/// Keeps what is to be told.
fn note(ctx: &mut Context, id: LimitId, reading: Reading) {
    let limiter = ctx.serving.limiter(id);
    let is_told = limiter.is_some_and(|limiter| limiter.spec().announces());
    let is_nearer = ctx
        .reading
        .is_none_or(|(_, known)| reading.remaining < known.remaining);
    if is_told && is_nearer {
        ctx.reading = Some((id, reading));
    }
}

fn refuse(ctx: &mut Context, id: LimitId, reading: Reading) -> Option<Reply> {
    // What the limits before it say does not matter any more.
    ctx.reading = None;
    note(ctx, id, reading);
    let serving = ctx.serving.clone();
    let PlacedLimit {
        policy, origins, ..
    } = serving.plan.limits.get(id.0 as usize)?;
    let refusal = &policy.refusal;
    ctx.note(CauseKind::RateLimited, format!("{} is reached", policy.id));
    if let Some(cause) = &mut ctx.cause {
        cause.owner = origins.get(reading.limit).cloned();
    }
    let mut headers = refusal.headers.to_vec();
    if refusal.retry_after {
        headers.push((RETRY_AFTER, HeaderValue::from(reading.wait.max(1))));
    }
    Some(Reply {
        status: refusal.status,
        grpc_status: refusal.grpc_status,
        headers,
        ..Reply::of(CauseKind::RateLimited)
    })
}
