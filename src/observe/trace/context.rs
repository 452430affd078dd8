//! One request's place in a trace.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use crate::base::Share;
use crate::plan::tracing::Tracing;

use super::propagation::{self, Parent, Step};

/// A header by which an outside client asks for a trace; Envoy honours it too. Its
/// `x-envoy-force-trace` is believed from inside the mesh only, and all clients are outside.
const CLIENT_TRACE: &str = "x-client-trace-id";

/// The trace of one request, and what became of each attempt at an origin.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(super) trace_id: TraceId,
    /// Of the request's own span.
    pub(super) span_id: SpanId,
    /// The client's span.
    pub(super) parent: Option<SpanId>,
    pub(super) sampled: bool,
    /// B3's flag of a trace that somebody is waiting for.
    pub(super) debug: bool,
    /// The trace id came with 64 bits, and goes on so where the format allows it.
    pub(super) short: bool,
    /// `tracestate` belongs to this trace.
    keeps_state: bool,
    /// Of a request that is not sampled, none is kept.
    pub(super) attempts: Vec<Attempt>,
}

/// One attempt at an origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub span_id: SpanId,
    /// Since the request began.
    pub from: Duration,
    /// Until the request's end if there is none.
    pub until: Option<Duration>,
    pub address: SocketAddr,
    pub status: Option<u16>,
    pub failure: Option<&'static str>,
}

/// How an attempt ended that was not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Answered with a status that is retried.
    Status(u16),
    /// Failed, in Envoy's words for the response flag (`UF`, `UC`).
    Failed(&'static str),
}

impl Trace {
    /// Goes on with the client's trace, or begins one.
    pub fn begin(headers: &HeaderMap, tracing: &Tracing) -> Self {
        let received = propagation::read(headers, &tracing.propagation);
        let decide = || {
            let share = match headers.contains_key(CLIENT_TRACE) {
                true => Share::ALL,
                false => tracing.sampling,
            };
            share.takes(fastrand::u32(..Share::WHOLE))
        };
        let sampled = received.sampled.unwrap_or_else(decide);
        let made = RandomIdGenerator::default();
        let (trace_id, parent, short, keeps_state) = match received.parent {
            Some(Parent {
                trace_id,
                span_id,
                short,
                has_state,
            }) => (trace_id, Some(span_id), short, has_state),
            None => (made.new_trace_id(), None, false, false),
        };
        Self {
            trace_id,
            span_id: made.new_span_id(),
            parent,
            sampled,
            debug: received.debug,
            short,
            keeps_state,
            attempts: Vec::new(),
        }
    }

    /// Whether its spans are exported.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// An attempt at an origin begins, this long after the request.
    pub fn attempt_begins(&mut self, from: Duration, address: SocketAddr) {
        if self.sampled {
            self.attempts.push(Attempt {
                span_id: RandomIdGenerator::default().new_span_id(),
                from,
                until: None,
                address,
                status: None,
                failure: None,
            });
        }
    }

    /// The attempt was none: there was no connection to begin it on.
    pub fn attempt_unsent(&mut self) {
        self.attempts.pop();
    }

    /// The attempt is over and was not the answer.
    pub fn attempt_ends(&mut self, until: Duration, end: AttemptEnd) {
        if let Some(attempt) = self.attempts.last_mut().filter(|it| it.until.is_none()) {
            attempt.until = Some(until);
            match end {
                AttemptEnd::Status(status) => attempt.status = Some(status),
                AttemptEnd::Failed(flag) => attempt.failure = Some(flag),
            }
        }
    }

    /// Gives the headers by which the current attempt's origin goes on with the trace: each to be
    /// set, or removed where there is no value. Also of a request that is not sampled, so that the
    /// decision holds for the whole trace. Where spans are not reported, the origin's hang on the
    /// client's: ours would be missing from the trace.
    pub fn headers(&self, tracing: &Tracing, mut put: impl FnMut(HeaderName, Option<HeaderValue>)) {
        let step = match self.parent {
            Some(client) if !tracing.reports => Step::Through(client),
            _ => Step::Own(self.attempts.last().map_or(self.span_id, |it| it.span_id)),
        };
        for format in &tracing.propagation {
            propagation::write(self, step, *format, self.keeps_state, &mut put);
        }
    }

    /// As `%TRACE_ID%` prints it.
    pub(in crate::observe) fn trace_id(&self) -> TraceId {
        self.trace_id
    }
}
