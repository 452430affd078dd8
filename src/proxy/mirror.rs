//! Step 5, beside it: copies of the request for a rule's mirrors.
//!
//! A copy is made of the head as the first attempt sends it, and of the body as it passes. It
//! lives in a task of its own; nothing of the client's request waits for it.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use log::debug;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use smallvec::SmallVec;

use super::admit::FORWARDED_FOR;
use super::context::Context;
use super::known::addresses;
use super::limits::Limits;
use crate::base::Share;
use crate::plan::{Mirror, Target};
use crate::policy::mirror::apply::{Tee, tee};
use crate::policy::outcall::{Body, Caller, Outcall};
use crate::upstream::CopyResult;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");

/// The copies of one request.
pub(super) type Copies = SmallVec<[Tee; 1]>;

/// Bounds of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorLimits {
    /// Bytes of a body that a copy may lag behind.
    pub body: usize,
    /// For a whole copy, where the rule has no timeout.
    pub within: Duration,
}

impl Default for MirrorLimits {
    fn default() -> Self {
        Self {
            body: 256 * 1024,
            within: Duration::from_secs(60),
        }
    }
}

/// Begins the copies with the first attempt; a later one begins the body again.
pub(super) fn begin(
    session: &mut Session,
    ctx: &mut Context,
    limits: &Limits,
    sent: &RequestHeader,
) {
    if let Some(copies) = &mut ctx.copies {
        copies.iter_mut().for_each(Tee::restart);
        return;
    }
    let serving = ctx.serving.clone();
    let Some(forward) = ctx.forward().filter(|_| !ctx.upgrade) else {
        return;
    };
    let mirrors = &forward.policies.mirrors;
    if mirrors.is_empty() {
        return;
    }
    let within = forward.timeout.unwrap_or(limits.mirror.within);
    let is_empty = session.is_body_empty();
    let mut copies = Copies::new();
    for Mirror { target, share, .. } in mirrors {
        let Target::Cluster(id) = target else {
            continue;
        };
        let Some(caller) = serving
            .caller(*id)
            .filter(|_| share.takes(fastrand::u32(..Share::WHOLE)))
        else {
            continue;
        };
        let body = match is_empty {
            true => Body::Empty,
            false => {
                let (tee, copied) = tee(limits.mirror.body);
                copies.push(tee);
                Body::Copied(copied)
            }
        };
        let call = Outcall {
            head: head(session, ctx, sent),
            body,
            within,
            keep: 0,
        };
        caller.copies().begin();
        tokio::spawn(async move {
            let result = caller.call(call).await;
            if let Err(failed) = &result {
                debug!("a copy for {}: {failed}", caller.name());
            }
            caller.copies().note(CopyResult::of(&result));
        });
    }
    ctx.copies = Some(copies);
}

/// The head of a copy, with what Envoy adds to requests of its own.
fn head(session: &Session, ctx: &Context, sent: &RequestHeader) -> RequestHeader {
    let mut head = sent.clone();
    // Names and values are of the map's own types: none of this can fail.
    let _ = head.insert_header(INTERNAL, HeaderValue::from_static("true"));
    if let Some(local) = addresses(session, ctx).local {
        let local = local.ip().to_canonical();
        let before = head.headers.get(FORWARDED_FOR);
        let before = before.and_then(|value| value.to_str().ok());
        let after = match before {
            Some(before) => format!("{before},{local}"),
            None => local.to_string(),
        };
        let _ = head.insert_header(FORWARDED_FOR, after);
    }
    if ctx.plan().http.shadow_host
        && let Some(host) = head.headers.get(http::header::HOST)
        && let Ok(host) = host.to_str()
    {
        let shadow = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => format!("{name}-shadow:{port}"),
            _ => format!("{host}-shadow"),
        };
        let _ = head.insert_header(http::header::HOST, shadow);
    }
    head
}
