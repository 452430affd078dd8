//! Limits whose buckets stand in Redis.

use std::sync::Arc;

use pingora::proxy::Session;

use super::{Asking, asked, below, obey};
use crate::base::{CauseKind, clock};
use crate::plan::LimitId;
use crate::policy::outcall::Failed;
use crate::policy::rate_limit::key::Asked;
use crate::policy::rate_limit::spec::RateLimit;
use crate::policy::rate_limit::state::Fate;
use crate::policy::rate_limit::store::{self, OnError};
use crate::proxy::context::Context;
use crate::proxy::reply::Reply;
use crate::upstream::RedisStore;

/// A question on its way to Redis.
pub(super) struct Question {
    store: Arc<RedisStore>,
    buckets: store::Question,
}

impl Question {
    /// The buckets that a policy asks for about a request, if there are any.
    pub(super) fn of(
        ctx: &Context,
        id: LimitId,
        policy: &RateLimit,
        asked: &Asked<'_>,
    ) -> Option<Self> {
        Some(Self {
            buckets: policy.shared(asked)?,
            store: ctx.serving.store(id)?.clone(),
        })
    }

    pub(super) async fn answer(&self, policy: &RateLimit) -> Result<Vec<i64>, Failed> {
        let store = policy.store().ok_or(Failed::NoEndpoint)?;
        self.store.ask(&self.buckets, store.timeout).await
    }

    pub(super) fn heed(
        &self,
        asking: &Asking,
        session: &Session,
        ctx: &mut Context,
        said: Result<Vec<i64>, Failed>,
    ) -> Option<Reply> {
        let Asking { id, limiter, .. } = asking;
        let verdict = said.and_then(|answer| {
            let verdict = limiter.heed(&self.buckets, &answer, below);
            verdict.ok_or(Failed::Broken)
        });
        let failed = match verdict {
            Ok(verdict) => return obey(ctx, *id, verdict),
            Err(failed) => failed,
        };
        limiter.count_failure();
        match limiter.spec().store()?.on_error {
            OnError::Allow => {
                limiter.count(ctx.random, Fate::Unchecked);
                None
            }
            OnError::Deny => {
                limiter.count(ctx.random, Fate::Denied);
                let (name, place) = (&limiter.spec().id, self.store.place());
                let message = format!("{name} could not ask {place}: {failed}");
                asking.blame(ctx, CauseKind::RateLimitUnknown, message);
                Some(Reply::of(CauseKind::RateLimitUnknown))
            }
            OnError::Local => {
                let verdict = limiter.ask(&asked(session, ctx), clock::now(), below);
                obey(ctx, *id, verdict)
            }
        }
    }
}
