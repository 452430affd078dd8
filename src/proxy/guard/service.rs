//! Limits that a service counts: it is asked while the request waits, for as long as the policy
//! says and no longer.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::RETRY_AFTER;
use pingora::http::{RequestHeader, ResponseHeader};

use super::{Asking, below};
use crate::base::CauseKind;
use crate::plan::LimitId;
use crate::policy::global::apply::{Answer, Headers, METHOD};
use crate::policy::global::spec::Service;
use crate::policy::outcall::Failed;
use crate::policy::rate_limit::key::Asked;
use crate::policy::rate_limit::spec::RateLimit;
use crate::policy::rate_limit::state::Fate;
use crate::proxy::context::Context;
use crate::proxy::reply::Reply;
use crate::upstream::GrpcCaller;

const RATE_LIMITED: http::HeaderName = http::HeaderName::from_static("x-envoy-ratelimited");

/// A question on its way to a service.
pub(super) struct Question {
    caller: Arc<GrpcCaller>,
    message: Bytes,
}

/// What services said about a request that goes on.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Told {
    request: Headers,
    response: Headers,
}

impl Question {
    /// What a service is told about a request, if it is told anything.
    pub(super) fn of(
        ctx: &Context,
        id: LimitId,
        service: &Service,
        asked: &Asked<'_>,
    ) -> Option<Self> {
        Some(Self {
            message: service.question(asked)?,
            caller: ctx.serving.service(id)?.clone(),
        })
    }

    /// What the service says.
    ///
    /// # Errors
    /// It says nothing that can be used, in time.
    pub(super) async fn answer(&self, policy: &RateLimit) -> Result<Answer, Failed> {
        let Some(Service {
            authority, timeout, ..
        }) = policy.service()
        else {
            return Err(Failed::NoEndpoint);
        };
        let answer = self.caller.call(METHOD, authority, &self.message, *timeout);
        Answer::read(answer.await?).map_err(|_| Failed::Broken)
    }

    /// Does what the service said. The answer, if the request is refused.
    pub(super) fn heed(
        &self,
        asking: &Asking,
        ctx: &mut Context,
        said: Result<Answer, Failed>,
    ) -> Option<Reply> {
        let limiter = &asking.limiter;
        let policy = limiter.spec();
        let service = policy.service()?;
        let count = |fate| limiter.count(ctx.random, fate);
        let mut answer = match (said, service.deny) {
            (Ok(answer), _) => answer,
            (Err(_), None) => {
                limiter.count_failure();
                count(Fate::Unchecked);
                return None;
            }
            (Err(failed), Some(status)) => {
                limiter.count_failure();
                count(Fate::Denied);
                return Some(self.unknown(asking, ctx, status, failed));
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
        } else if policy.enforced.is_thrown(below) {
            count(Fate::Limited);
            return Some(refuse(asking, ctx, answer, headers));
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

    /// The answer to a request that could not be checked.
    fn unknown(&self, asking: &Asking, ctx: &mut Context, status: u16, failed: Failed) -> Reply {
        let (id, name) = (&asking.limiter.spec().id, self.caller.name());
        let message = format!("{id} could not ask {name}: {failed}");
        asking.blame(ctx, CauseKind::RateLimitUnknown, message);
        Reply {
            status,
            ..Reply::of(CauseKind::RateLimitUnknown)
        }
    }
}

/// The answer to a request that is over its limit.
fn refuse(asking: &Asking, ctx: &mut Context, answer: Answer, mut headers: Headers) -> Reply {
    let policy = asking.limiter.spec();
    let RateLimit { id, refusal, .. } = policy;
    let message = format!("{id} is reached");
    asking.blame(ctx, CauseKind::GlobalRateLimited, message);
    if policy.service().is_some_and(|service| service.marks) {
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
