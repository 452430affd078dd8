//! Responses in a coding that the client can read, where a policy says so.
//!
//! A module of Pingora's, because only those hear of a response's end however it comes: with its
//! last part, after trailers, or by itself. It is made for requests that a policy concerns, and comes
//! behind all other steps: what they say about the response holds for what is compressed.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora::modules::http::{HttpModule, HttpModuleBuilder, HttpModules, Module};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::context::Context;
use super::guard;
use super::limits::Limits;
use super::to_client::is_final;
use crate::observe::CompressionRecord;
use crate::policy::compression::apply::{Asked, Meeting, encode};
use crate::policy::compression::encode::Encoder;
use crate::policy::compression::spec::{Compression, Leveled};

/// Room for so many responses at once.
pub(super) fn room(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(
        limits.compressions.min(Semaphore::MAX_PERMITS),
    ))
}

/// Has the response of a routed request compressed if a policy and what comes of it say so.
pub(super) fn begin(session: &mut Session, ctx: &Context, room: &Arc<Semaphore>) {
    let id = guard::guards(ctx).and_then(|guards| guards.compression);
    let Some(id) = id.filter(|_| !ctx.asks_grpc()) else {
        return;
    };
    let Some(policy) = ctx.plan().checks.compression.get(id.0) else {
        return;
    };
    let mut modules = HttpModules::new();
    modules.add_module(Box::new(Builder {
        asked: Asked::new(&policy.policy, session.req_header()),
        policy: policy.policy.clone(),
        room: room.clone(),
    }));
    session.downstream_modules_ctx = modules.build_ctx();
}

/// Sees that the response in a coding ends before its trailers: Pingora's modules can put its end
/// only in their place.
///
/// Pingora filters all that came together, then passes it through its modules, then writes it. So
/// either the last part of the body is still on its way to the module, which then ends with it, or
/// everything before is written.
///
/// Only HTTP/2 comes here: Pingora's HTTP/1 reads origins' trailers and forgets them, and writes
/// none to clients, compressed or not (RFC 9110 section 6.5.1 allows to drop them).
///
/// # Errors
/// The rest cannot be compressed or written.
pub(super) async fn before_trailers(session: &mut Session, ctx: &Context) -> Result<()> {
    let Some(response) = session.downstream_modules_ctx.get_mut::<Response>() else {
        return Ok(());
    };
    if response.parts < ctx.parts {
        response.last = Some(ctx.parts);
        return Ok(());
    }
    match response.finish(b"")?.filter(|rest| !rest.is_empty()) {
        Some(rest) => {
            let client = session.as_downstream_mut();
            client.write_response_body(rest, false).await
        }
        None => Ok(()),
    }
}

/// What became of the response.
pub(super) fn record(session: &Session) -> Option<CompressionRecord> {
    let response = session.downstream_modules_ctx.get::<Response>()?;
    match &response.body {
        Body::AsItIs => None,
        Body::NoRoom => Some(CompressionRecord::NoRoom),
        Body::Coded { encoder, .. } => {
            let (before, after) = encoder.bytes();
            Some(CompressionRecord::Compressed {
                coding: encoder.coding().token(),
                before,
                after,
            })
        }
    }
}

struct Builder {
    policy: Arc<Compression>,
    asked: Asked,
    room: Arc<Semaphore>,
}

/// The response of one request.
struct Response {
    policy: Arc<Compression>,
    asked: Asked,
    room: Arc<Semaphore>,
    body: Body,
    /// Parts of the body so far.
    parts: u64,
    /// After so many of them there are only trailers.
    last: Option<u64>,
}

enum Body {
    AsItIs,
    NoRoom,
    Coded {
        encoder: Box<Encoder>,
        /// Until the encoder has said that the body ends.
        room: Option<OwnedSemaphorePermit>,
    },
}

impl HttpModuleBuilder for Builder {
    fn init(&self) -> Module {
        Box::new(Response {
            policy: self.policy.clone(),
            asked: self.asked.clone(),
            room: self.room.clone(),
            body: Body::AsItIs,
            parts: 0,
            last: None,
        })
    }
}

#[async_trait]
impl HttpModule for Response {
    async fn response_header_filter(&mut self, head: &mut ResponseHeader, end: bool) -> Result<()> {
        if is_final(head.status) && !head.status.is_informational() {
            self.begin(head, end)?;
        }
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let part = body.as_deref().unwrap_or_default();
        self.parts = self.parts.saturating_add(1);
        if end || self.last == Some(self.parts) {
            if let Some(rest) = self.finish(part)? {
                *body = Some(rest);
            }
        } else if let (Body::Coded { encoder, .. }, false) = (&mut self.body, part.is_empty()) {
            *body = Some(encoder.push(part).or_err(FAILED, "")?);
        }
        Ok(())
    }

    /// What is returned would take the trailers' place; [`before_trailers`] saw to it that there is
    /// nothing.
    fn response_trailer_filter(&mut self, _: &mut Option<Box<HeaderMap>>) -> Result<Option<Bytes>> {
        self.finish(b"")
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        Ok(self.finish(b"")?.filter(|rest| !rest.is_empty()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

const FAILED: ErrorType = ErrorType::Custom("the response cannot be compressed");

impl Response {
    /// The final head has come.
    fn begin(&mut self, head: &mut ResponseHeader, end: bool) -> Result<()> {
        let Meeting::Wanted(coding) = self.policy.meet(&self.asked, head, end) else {
            return Ok(());
        };
        if self.asked.is_head() {
            let _ = encode(coding, &self.asked, head);
            return Ok(());
        }
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            self.body = Body::NoRoom;
            return Ok(());
        };
        let encoder = encoder(coding, head)?;
        if encode(coding, &self.asked, head) {
            self.body = Body::Coded {
                encoder: Box::new(encoder),
                room: Some(room),
            };
        }
        Ok(())
    }

    /// The rest of the response, if it is in a coding.
    fn finish(&mut self, part: &[u8]) -> Result<Option<Bytes>> {
        let Body::Coded { encoder, room } = &mut self.body else {
            return Ok(None);
        };
        if room.take().is_none() {
            return Ok(None);
        }
        encoder.finish(part).map(Some).or_err(FAILED, "")
    }
}

fn encoder(coding: Leveled, head: &ResponseHeader) -> Result<Encoder> {
    let length = head.headers.get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    Encoder::new(coding, length).map_err(|error| Error::because(FAILED, "", error))
}
