//! A trace in headers: W3C Trace Context and B3.
//!
//! Read strictly: what is not in the format's grammar is as good as absent, and a new trace begins
//! (Trace Context section 3.2.4).

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};

use super::context::Trace;
use crate::plan::tracing::Propagation;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// What a client says of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub parent: Option<Parent>,
    /// `None`: the decision is left to us.
    pub sampled: Option<bool>,
    pub debug: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The trace id came with 64 bits.
    pub short: bool,
    /// It came with the headers that `tracestate` belongs to.
    pub has_state: bool,
}

/// Reads the first of the formats that is there.
pub(super) fn read(headers: &HeaderMap, formats: &[Propagation]) -> Received {
    let found = formats.iter().find_map(|format| match format {
        Propagation::TraceContext => traceparent(headers),
        // Whoever writes one of B3's encodings is expected to read both.
        Propagation::B3 | Propagation::B3Multi => b3(headers).or_else(|| b3_multi(headers)),
    });
    found.unwrap_or_default()
}

fn traceparent(headers: &HeaderMap) -> Option<Received> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let mut parts = only.as_bytes().split(|byte| *byte == b'-');
    let version = digits(parts.next()?, 2)?;
    let trace_id = digits(parts.next()?, 32)?;
    let span_id = digits(parts.next()?, 16)?;
    let flags = digits(parts.next()?, 2)?;
    // A later version may have more parts.
    let is_known = version != 0xff && (version > 0 || parts.next().is_none());
    if !is_known || trace_id == 0 || span_id == 0 {
        return None;
    }
    Some(Received {
        parent: Some(Parent {
            trace_id: trace_id.into(),
            span_id: u64::try_from(span_id).ok()?.into(),
            short: false,
            has_state: true,
        }),
        sampled: Some(flags & 1 == 1),
        debug: false,
    })
}

/// `{trace}-{span}[-{decision}[-{parent}]]`, or the decision alone.
fn b3(headers: &HeaderMap) -> Option<Received> {
    let mut parts = headers.get(B3)?.as_bytes().split(|byte| *byte == b'-');
    let first = parts.next()?;
    let Some(span_id) = parts.next() else {
        let (sampled, debug) = decision(first)?;
        return Some(Received {
            parent: None,
            sampled: Some(sampled),
            debug,
        });
    };
    let parent = b3_parent(first, span_id)?;
    let said = match parts.next() {
        Some(text) => Some(decision(text)?),
        None => None,
    };
    Some(Received {
        parent: Some(parent),
        sampled: said.map(|(sampled, _)| sampled),
        debug: said.is_some_and(|(_, debug)| debug),
    })
}

fn b3_multi(headers: &HeaderMap) -> Option<Received> {
    let get = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let debug = get(&B3_FLAGS) == Some(b"1");
    let sampled = match get(&B3_SAMPLED) {
        _ if debug => Some(true),
        // Old tracers write words.
        Some(b"true") => Some(true),
        Some(b"false") => Some(false),
        Some(text) => decision(text).map(|(sampled, _)| sampled),
        None => None,
    };
    let ids = get(&B3_TRACE).zip(get(&B3_SPAN));
    let parent = ids.and_then(|(trace_id, span_id)| b3_parent(trace_id, span_id));
    (parent.is_some() || sampled.is_some()).then_some(Received {
        parent,
        sampled,
        debug,
    })
}

fn b3_parent(trace_id: &[u8], span_id: &[u8]) -> Option<Parent> {
    let short = trace_id.len() == 16;
    let trace_id = digits(trace_id, if short { 16 } else { 32 })?;
    let span_id = digits(span_id, 16)?;
    (trace_id != 0 && span_id != 0).then_some(Parent {
        trace_id: trace_id.into(),
        span_id: u64::try_from(span_id).ok()?.into(),
        short,
        has_state: false,
    })
}

/// Sampled, and debug.
fn decision(text: &[u8]) -> Option<(bool, bool)> {
    match text {
        b"0" => Some((false, false)),
        b"1" => Some((true, false)),
        b"d" => Some((true, true)),
        _ => None,
    }
}

/// A number of exactly so many lower-case hexadecimal digits, at most 32.
fn digits(text: &[u8], count: usize) -> Option<u128> {
    if text.len() != count {
        return None;
    }
    text.iter().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// The span that an origin's hang on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The gateway's, of the request or of an attempt.
    Own(SpanId),
    /// The client's.
    Through(SpanId),
}

/// Gives one format's headers for an origin whose parent span is `span_id`.
pub(super) fn write(
    trace: &Trace,
    step: Step,
    format: Propagation,
    keeps_state: bool,
    put: &mut impl FnMut(HeaderName, Option<HeaderValue>),
) {
    let trace_id = trace.trace_id;
    let (Step::Own(span_id) | Step::Through(span_id)) = step;
    let value = |text: String| HeaderValue::try_from(text).ok();
    let b3_id = || match trace.short {
        true => format!("{:016x}", u128::from_be_bytes(trace_id.to_bytes())),
        false => format!("{trace_id}"),
    };
    match format {
        Propagation::TraceContext => {
            let flags = u8::from(trace.sampled);
            put(
                TRACEPARENT,
                value(format!("00-{trace_id}-{span_id}-{flags:02x}")),
            );
            if !keeps_state {
                put(TRACESTATE, None);
            }
        }
        Propagation::B3 => {
            let decision = match (trace.debug, trace.sampled) {
                (true, _) => 'd',
                (false, true) => '1',
                (false, false) => '0',
            };
            put(B3, value(format!("{}-{span_id}-{decision}", b3_id())));
        }
        Propagation::B3Multi => {
            put(B3_TRACE, value(b3_id()));
            put(B3_SPAN, value(format!("{span_id}")));
            // The client's own span keeps the client's own parent.
            if let Step::Own(_) = step {
                put(
                    B3_PARENT,
                    value(format!("{}", trace.span_id)).filter(|_| trace.span_id != span_id),
                );
            }
            match trace.debug {
                true => {
                    put(B3_FLAGS, Some(HeaderValue::from_static("1")));
                    put(B3_SAMPLED, None);
                }
                false => {
                    let sampled = if trace.sampled { "1" } else { "0" };
                    put(B3_FLAGS, None);
                    put(B3_SAMPLED, Some(HeaderValue::from_static(sampled)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
