//! What may be served at all, once it is known what it is: whose requests, with how large bodies,
//! and how many.
//!
//! Called by `answer` at the two places that Envoy's filters may have: in front of all others, and
//! right before the router. A listener without policies costs one look.

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use std::sync::Arc;

use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::admit::authority;
use super::context::Context;
use super::reply::Reply;
use crate::base::{CauseKind, clock};
use crate::plan::{BodyLimitId, Guarding, Guards, LimitId, PlacedLimit};
use crate::policy::global::apply::Answer;
use crate::policy::outcall::Failed;
use crate::policy::rate_limit::apply::{Reading, Verdict};
use crate::policy::rate_limit::key::Asked;
use crate::policy::rate_limit::spec::Counted;
use crate::policy::rate_limit::state::Limiter;

mod service;
mod store;

pub(super) use service::Told;

/// Where policies stand among Envoy's filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Before all others.
    Front,
    /// After faults and CORS.
    Back,
}

/// How far a request comes.
pub(super) enum Passage {
    Free,
    Refused(Reply),
    /// Somebody is to be asked; then it goes on with the next policy.
    Asks(Box<Asking>),
}

/// A policy whose requests are not counted here, and its question about one.
pub(super) struct Asking {
    /// The policy's place among its request's.
    pub(super) place: usize,
    id: LimitId,
    limiter: Arc<Limiter>,
    question: Question,
}

enum Question {
    Service(service::Question),
    Store(store::Question),
}

/// What is said to a question.
pub(super) enum Said {
    Service(Result<Answer, Failed>),
    Store(Result<Vec<i64>, Failed>),
}

impl Asking {
    /// Asks; takes as long as the policy allows and no longer.
    pub(super) async fn answer(&self) -> Said {
        let policy = self.limiter.spec();
        match &self.question {
            Question::Service(question) => Said::Service(question.answer(policy).await),
            Question::Store(question) => Said::Store(question.answer(policy).await),
        }
    }

    /// Does what was said. The answer, if the request is refused.
    pub(super) fn heed(&self, session: &Session, ctx: &mut Context, said: Said) -> Option<Reply> {
        match (&self.question, said) {
            (Question::Service(question), Said::Service(said)) => question.heed(self, ctx, said),
            (Question::Store(question), Said::Store(said)) => {
                question.heed(self, session, ctx, said)
            }
            _ => None,
        }
    }

    /// Notes a cause that the policy owns.
    fn blame(&self, ctx: &mut Context, kind: CauseKind, message: String) {
        let limit = ctx.plan().limits.get(self.id.0 as usize);
        let owner = limit.map(|limit| limit.origin.clone());
        ctx.blame(kind, message, owner);
    }
}

/// Whether the request passes a position, from a place among its policies on.
pub(super) fn pass(
    session: &Session,
    ctx: &mut Context,
    position: Position,
    from: usize,
) -> Passage {
    if position == Position::Back {
        return limits(session, ctx, from, |guards| &guards.back);
    }
    let answer = match from {
        0 => access(ctx).or_else(|| body(session, ctx)),
        _ => None,
    };
    match answer {
        Some(reply) => Passage::Refused(reply),
        None => limits(session, ctx, from, |guards| &guards.front),
    }
}

/// The answer to a client that is not let in.
fn access(ctx: &mut Context) -> Option<Reply> {
    let checks = &ctx.plan().checks;
    let ids = guards(ctx)?.access.iter();
    let mut policies = ids.filter_map(|id| checks.access.get(id.0));
    let refusing = policies.find(|policy| !policy.policy.admits(ctx.client))?;
    ctx.cause = Some(refusing.refusal());
    Some(Reply::of(CauseKind::AccessDenied))
}

/// The answer to a request that says that its body is too large. Notes the least limit for one that
/// does not say.
fn body(session: &Session, ctx: &mut Context) -> Option<Reply> {
    let checks = &ctx.plan().checks;
    let ids = guards(ctx)?.bodies.iter().copied();
    let bytes = |id: &BodyLimitId| checks.bodies.get(id.0).map(|policy| policy.policy);
    // An upgraded stream is no body.
    ctx.body_limit = ids.filter(|_| !ctx.upgrade).min_by_key(bytes);
    let length = session.req_header().headers.get(CONTENT_LENGTH)?;
    let length: u64 = length.to_str().ok()?.parse().ok()?;
    if length <= body_limit(ctx)? {
        return None;
    }
    too_large(ctx);
    Some(Reply::of(CauseKind::BodyTooLarge))
}

/// Bytes that the request's body may have.
fn body_limit(ctx: &Context) -> Option<u64> {
    let policy = ctx.plan().checks.bodies.get(ctx.body_limit?.0)?;
    Some(policy.policy)
}

/// Counts a part of the body that an attempt is given; `is_first` begins it.
///
/// # Errors
/// It is too much.
pub(super) fn count_body(ctx: &mut Context, length: usize, is_first: bool) -> Result<()> {
    let Some(limit) = body_limit(ctx) else {
        return Ok(());
    };
    let before = if is_first { 0 } else { ctx.body_seen };
    ctx.body_seen = before.saturating_add(length as u64);
    if ctx.body_seen <= limit {
        return Ok(());
    }
    too_large(ctx);
    Err(ctx.fail(CauseKind::BodyTooLarge, "").into_down())
}

fn too_large(ctx: &mut Context) {
    let checks = &ctx.plan().checks;
    let policy = ctx.body_limit.and_then(|id| checks.bodies.get(id.0));
    let known = policy.map(|policy| (policy.id.clone(), policy.policy, policy.origin.clone()));
    let Some((id, limit, origin)) = known else {
        return;
    };
    let message = format!("the body is larger than the {limit} bytes of {id}");
    ctx.blame(CauseKind::BodyTooLarge, message, Some(origin));
}

/// Tells the client how the limit stands that is nearest to its end, and what services have to say.
pub(super) fn announce(ctx: &Context, response: &mut ResponseHeader) {
    if let Some(told) = &ctx.told {
        told.to_client(response);
    }
    if let Some((id, reading)) = &ctx.reading
        && let Some(limiter) = ctx.serving.limiter(*id)
    {
        limiter.spec().announce(reading, response);
    }
}

pub(super) fn guards(ctx: &Context) -> Option<&Guards> {
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
    from: usize,
    place: impl Fn(&Guards) -> &[LimitId],
) -> Passage {
    let count = guards(ctx).map_or(0, |guards| place(guards).len());
    for index in from..count {
        let id = guards(ctx).and_then(|guards| place(guards).get(index).copied());
        let known = id.and_then(|id| Some((id, ctx.serving.limiter(id)?)));
        let Some((id, limiter)) = known.filter(|(_, limiter)| limiter.is_asked(below)) else {
            continue;
        };
        let asked = asked(session, ctx);
        let question = match &limiter.spec().counted {
            Counted::Here => {
                let verdict = limiter.ask(&asked, clock::now(), below);
                if let Some(reply) = obey(ctx, id, verdict) {
                    return Passage::Refused(reply);
                }
                continue;
            }
            Counted::Service(service) => {
                service::Question::of(ctx, id, service, &asked).map(Question::Service)
            }
            Counted::Store(_) => {
                store::Question::of(ctx, id, limiter.spec(), &asked).map(Question::Store)
            }
        };
        if let Some(question) = question {
            return Passage::Asks(Box::new(Asking {
                place: index,
                id,
                limiter: limiter.clone(),
                question,
            }));
        }
    }
    Passage::Free
}

/// A random number below another.
fn below(limit: u32) -> u32 {
    fastrand::u32(..limit)
}

/// Does what a policy says. The answer, if the request is refused.
fn obey(ctx: &mut Context, id: LimitId, verdict: Verdict) -> Option<Reply> {
    match verdict {
        // Of a policy of ours that only observes, nothing is told.
        Verdict::Allowed(reading) | Verdict::Observed(reading) => note(ctx, id, reading),
        Verdict::Limited(reading) => return refuse(ctx, id, reading),
        Verdict::Unconcerned => {}
    }
    None
}

/// A request as limits see it.
fn asked<'r>(session: &'r Session, ctx: &'r Context) -> Asked<'r> {
    let request = session.req_header();
    let (path, query) = ctx.path_and_query(request);
    Asked {
        client: ctx.client,
        headers: &request.headers,
        path,
        query,
        target: ctx.target(request),
        method: request.method.as_str(),
        authority: authority(request),
        scheme: ctx.scheme(),
        cluster: ctx.cluster().map(|cluster| &*cluster.name),
        connection: ctx
            .connection
            .as_ref()
            .map_or(0, |connection| connection.id),
    }
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
    let message = format!("{} is reached", policy.id);
    let owner = origins.get(reading.limit).cloned();
    ctx.blame(CauseKind::RateLimited, message, owner);
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
