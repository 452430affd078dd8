//! Limits whose buckets stand in Redis.

use std::sync::Arc;

use pingora::proxy::Session;

use super::service::{note, takes};
use super::{asked, obey};
use crate::base::{CauseKind, clock};
use crate::plan::LimitId;
use crate::policy::outcall::Failed;
use crate::policy::rate_limit::state::{Fate, Limiter};
use crate::policy::rate_limit::store::{OnError, Question};
use crate::proxy::context::Context;
use crate::proxy::reply::Reply;
use crate::upstream::RedisStore;

/// A question on its way to Redis.
pub(in crate::proxy) struct Asking {
    pub(super) place: usize,
    id: LimitId,
    limiter: Arc<Limiter>,
    store: Arc<RedisStore>,
    question: Question,
}

/// The question of a policy about a request, if there is one.
pub(super) fn question(
    session: &Session,
    ctx: &Context,
    place: usize,
    id: LimitId,
) -> Option<Box<Asking>> {
    let limiter = ctx.serving.limiter(id)?;
    if !takes(limiter.spec().enabled) {
        return None;
    }
    let question = limiter.spec().shared(&asked(session, ctx))?;
    Some(Box::new(Asking {
        place,
        id,
        limiter: limiter.clone(),
        store: ctx.serving.store(id)?.clone(),
        question,
    }))
}

impl Asking {
    pub(super) async fn answer(&self) -> Result<Vec<i64>, Failed> {
        let store = self.limiter.spec().store().ok_or(Failed::NoEndpoint)?;
        self.store.ask(&self.question, store.timeout).await
    }

    pub(super) fn heed(
        &self,
        session: &Session,
        ctx: &mut Context,
        said: Result<Vec<i64>, Failed>,
    ) -> Option<Reply> {
        let below = |limit| fastrand::u32(..limit);
        let verdict = said.and_then(|answer| {
            let verdict = self.limiter.heed(&self.question, &answer, below);
            verdict.ok_or(Failed::Broken)
        });
        let failed = match verdict {
            Ok(verdict) => return obey(ctx, self.id, verdict),
            Err(failed) => failed,
        };
        self.limiter.count_failure();
        match self.limiter.spec().store()?.on_error {
            OnError::Allow => {
                self.limiter.count(ctx.random, Fate::Unchecked);
                None
            }
            OnError::Deny => {
                self.limiter.count(ctx.random, Fate::Denied);
                let (id, place) = (&self.limiter.spec().id, self.store.place());
                let message = format!("{id} could not ask {place}: {failed}");
                note(ctx, self.id, CauseKind::RateLimitUnknown, message);
                Some(Reply::of(CauseKind::RateLimitUnknown))
            }
            OnError::Local => {
                let verdict = self.limiter.ask(&asked(session, ctx), clock::now(), below);
                obey(ctx, self.id, verdict)
            }
        }
    }
}
