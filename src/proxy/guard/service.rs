//! Limits that a service counts: it is asked while the request waits, for as long as the policy
//! says and no longer.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::RETRY_AFTER;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::asked;
use crate::base::{CauseKind, Share};
use crate::plan::LimitId;
use crate::policy::global::apply::{Answer, Headers, METHOD};
use crate::policy::global::spec::Service;
use crate::policy::outcall::Failed;
use crate::policy::rate_limit::spec::RateLimit;
use crate::policy::rate_limit::state::{Fate, Limiter};
use crate::proxy::context::Context;
use crate::proxy::reply::Reply;
use crate::upstream::GrpcCaller;

const RATE_LIMITED: http::HeaderName = http::HeaderName::from_static("x-envoy-ratelimited");

/// A question on its way to a service.
pub(in crate::proxy) struct Asking {
    /// The policy's place among its request's.
    pub place: usize,
    id: LimitId,
    limiter: Arc<Limiter>,
    caller: Arc<GrpcCaller>,
    message: Bytes,
}

/// What services said about a request that goes on.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Told {
    request: Headers,
    response: Headers,
}

/// The question of a policy about a request, if there is one.
pub(super) fn question(
    session: &Session,
    ctx: &Context,
    place: usize,
    id: LimitId,
) -> Option<Box<Asking>> {
    let limiter = ctx.serving.limiter(id)?;
    let service = limiter.spec().service()?;
    if !takes(limiter.spec().enabled) {
        return None;
    }
    let message = service.question(&asked(session, ctx))?;
    Some(Box::new(Asking {
        place,
        id,
        limiter: limiter.clone(),
        caller: ctx.serving.service(id)?.clone(),
        message,
    }))
}

impl Asking {
    /// What the service says.
    ///
    /// # Errors
    /// It says nothing that can be used, in time.
    pub(in crate::proxy) async fn answer(&self) -> Result<Answer, Failed> {
        let Some(Service {
            authority, timeout, ..
        }) = self.limiter.spec().service()
        else {
            return Err(Failed::NoEndpoint);
        };
        let answer = self.caller.call(METHOD, authority, &self.message, *timeout);
        Answer::read(answer.await?).map_err(|_| Failed::Broken)
    }

    /// Does what the service said. The answer, if the request is refused.
    pub(in crate::proxy) fn heed(
        &self,
        ctx: &mut Context,
        said: Result<Answer, Failed>,
    ) -> Option<Reply> {
        let policy = self.limiter.spec();
        let service = policy.service()?;
        let count = |fate| self.limiter.count(ctx.random, fate);
        let mut answer = match (said, service.deny) {
            (Ok(answer), _) => answer,
            (Err(_), None) => {
                count(Fate::Unchecked);
                return None;
            }
            (Err(failed), Some(status)) => {
                count(Fate::Denied);
                return Some(self.unknown(ctx, status, failed));
            }
        };
        // Who only observes is not seen.
        let is_quiet = policy.enforced.is_none();
        let mut headers = match is_quiet {
            true => Headers::new(),
            false => std::mem::take(&mut answer.response),
        };
        headers.extend(answer.announced(&policy.announce));
        if !answer.is_over {
            count(Fate::Allowed);
        } else if takes(policy.enforced) {
            count(Fate::Limited);
            return Some(self.refuse(ctx, answer, headers));
        } else {
            count(Fate::Observed);
        }
        let is_silent = headers.is_empty() && answer.request.is_empty();
        if !is_quiet && !is_silent {
            let told = ctx.told.get_or_insert_default();
            told.request.append(&mut answer.request);
            told.response.append(&mut headers);
        }
        None
    }

    fn refuse(&self, ctx: &mut Context, answer: Answer, mut headers: Headers) -> Reply {
        let RateLimit { id, refusal, .. } = self.limiter.spec();
        self.note(
            ctx,
            CauseKind::GlobalRateLimited,
            format!("{id} is reached"),
        );
        if self
            .limiter
            .spec()
            .service()
            .is_some_and(|service| service.marks)
        {
            headers.push((RATE_LIMITED, HeaderValue::from_static("true")));
        }
        headers.extend(refusal.headers.iter().cloned());
        if let Some(wait) = answer.wait().filter(|_| refusal.retry_after) {
            headers.push((RETRY_AFTER, HeaderValue::from(wait)));
        }
        Reply {
            status: refusal.status,
            grpc_status: refusal.grpc_status,
            headers,
            body: answer.body,
            ..Reply::of(CauseKind::GlobalRateLimited)
        }
    }

    /// The answer to a request that could not be checked.
    fn unknown(&self, ctx: &mut Context, status: u16, failed: Failed) -> Reply {
        let (id, name) = (&self.limiter.spec().id, self.caller.name());
        let message = format!("{id} could not ask {name}: {failed}");
        self.note(ctx, CauseKind::RateLimitUnknown, message);
        Reply {
            status,
            ..Reply::of(CauseKind::RateLimitUnknown)
        }
    }

    fn note(&self, ctx: &mut Context, kind: CauseKind, message: String) {
        let limits = &ctx.plan().limits;
        let origin = limits
            .get(self.id.0 as usize)
            .map(|limit| limit.origin.clone());
        ctx.note(kind, message);
        if let Some(cause) = &mut ctx.cause {
            cause.owner = origin;
        }
    }
}

impl Told {
    /// Adds what the origin is to be told.
    pub(in crate::proxy) fn to_origin(&self, request: &mut RequestHeader) {
        for (name, value) in &self.request {
            // Names and values are of the map's own types: appending cannot fail.
            let _ = request.append_header(name.clone(), value.clone());
        }
    }

    /// Adds what the client is to be told.
    pub(super) fn to_client(&self, response: &mut ResponseHeader) {
        for (name, value) in &self.response {
            let _ = response.append_header(name.clone(), value.clone());
        }
    }
}

fn takes(share: Share) -> bool {
    share.is_all() || share.takes(fastrand::u32(..Share::WHOLE))
}
