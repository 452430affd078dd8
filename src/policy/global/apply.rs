//! Makes of a request what the service is asked, and of its answer what becomes of the request.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use prost::Message;

use super::message::{
    self, DescriptorStatus, Entry as Said, OVER_LIMIT, RateLimitDescriptor, RateLimitOverride,
    RateLimitRequest, RateLimitResponse,
};
use super::spec::{Absent, Descriptor, Hits, Override, Service, Value};
use crate::policy::rate_limit::key::Asked;
use crate::policy::rate_limit::spec::{Announce, Source};

const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The method that is called.
pub const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Headers that a message's framing depends on: not the service's to write.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a request counts as at most, as in Envoy.
pub const MOST_HITS: u32 = 1_000_000_000;

/// Headers in their order.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// What the service says about a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub is_over: bool,
    /// For the client, whatever becomes of its request.
    pub response: Headers,
    /// For the origin.
    pub request: Headers,
    /// Of the answer to a request that is refused.
    pub body: Bytes,
    statuses: Vec<DescriptorStatus>,
}

impl Service {
    /// The message about a request. `None` if there is nothing to ask.
    #[must_use]
    pub fn question(&self, asked: &Asked<'_>) -> Option<Bytes> {
        let descriptors: Vec<_> = self
            .descriptors
            .iter()
            .filter_map(|descriptor| descriptor.of(asked))
            .collect();
        if descriptors.is_empty() {
            return None;
        }
        let request = RateLimitRequest {
            domain: (*self.domain).to_owned(),
            descriptors,
            hits_addend: 0,
        };
        Some(request.encode_to_vec().into())
    }
}

impl Descriptor {
    fn of(&self, asked: &Asked<'_>) -> Option<RateLimitDescriptor> {
        let hits = match &self.hits {
            Some(hits) => Some(hits.of(asked)?),
            None => None,
        };
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let value = match &entry.value {
                Value::Fixed(text) => Cow::Borrowed(&**text),
                Value::When {
                    text,
                    conditions,
                    expected,
                } => {
                    let all = conditions.iter().all(|condition| condition.holds(asked));
                    if all != *expected {
                        return None;
                    }
                    Cow::Borrowed(&**text)
                }
                Value::Of { source, absent } => match (source.text(asked), absent) {
                    (Some(text), _) if !text.is_empty() => text,
                    // Of a parameter it is told.
                    (Some(text), _) if matches!(source, Source::Parameter(_)) => text,
                    // As in Envoy: a header that is there and empty makes no entry.
                    (Some(_), Absent::Drops | Absent::Skips) | (None, Absent::Skips) => continue,
                    // A template says itself which requests it concerns.
                    (None, Absent::Empty) if !matches!(source, Source::Path(_)) => "".into(),
                    (None, _) => return None,
                    (Some(text), Absent::Empty) => text,
                },
            };
            entries.push(Said {
                key: (*entry.key).to_owned(),
                value: value.into_owned(),
            });
        }
        let limit = self.limit.map(|Override { requests, unit }| {
            let unit = unit as i32;
            RateLimitOverride {
                requests_per_unit: requests,
                unit,
            }
        });
        (!entries.is_empty()).then_some(RateLimitDescriptor {
            entries,
            limit,
            hits_addend: hits,
        })
    }
}

impl Hits {
    /// Envoy's reading (1.40): any number from 0 to [`MOST_HITS`].
    fn of(&self, asked: &Asked<'_>) -> Option<u64> {
        let number = match self {
            Self::Number(number) => return Some(u64::from(*number)),
            Self::Of(source) => source.text(asked)?.parse::<f64>().ok()?,
        };
        // A cast cuts to a whole number.
        (0.0..=f64::from(MOST_HITS))
            .contains(&number)
            .then_some(number as u64)
    }
}

impl Answer {
    /// Reads a message.
    ///
    /// # Errors
    /// It is no `RateLimitResponse`.
    pub fn read(message: Bytes) -> Result<Self, prost::DecodeError> {
        let RateLimitResponse {
            overall_code,
            statuses,
            response_headers_to_add,
            request_headers_to_add,
            raw_body,
        } = RateLimitResponse::decode(message)?;
        Ok(Self {
            is_over: overall_code == OVER_LIMIT,
            response: headers(response_headers_to_add),
            request: headers(request_headers_to_add),
            body: raw_body,
            statuses,
        })
    }

    /// What the client is to be told about its limits.
    #[must_use]
    pub fn announced(&self, announce: &Announce) -> Headers {
        let mut headers = Headers::new();
        let Some((nearest, limit)) = self.nearest() else {
            return headers;
        };
        let reset = reset(nearest);
        if announce.x_ratelimit {
            let mut text = limit.requests_per_unit.to_string();
            for limit in self
                .limits()
                .filter(|limit| message::seconds(limit.unit) > 0)
            {
                let window = message::seconds(limit.unit);
                // Writing to a string cannot fail.
                let _ = write!(text, ", {};w={window}", limit.requests_per_unit);
                if !limit.name.is_empty() {
                    let _ = write!(text, ";name=\"{}\"", limit.name);
                }
            }
            if let Ok(text) = HeaderValue::from_str(&text) {
                headers.push((X_LIMIT, text));
            }
            let remaining = HeaderValue::from(nearest.limit_remaining);
            headers.push((X_REMAINING, remaining));
            headers.push((X_RESET, HeaderValue::from(reset)));
        }
        if let Some(name) = &announce.ietf {
            let window = message::seconds(limit.unit);
            let policy = format!("\"{name}\";q={};w={window}", limit.requests_per_unit);
            let text = format!("\"{name}\";r={};t={reset}", nearest.limit_remaining);
            for (header, text) in [(POLICY, policy), (LIMIT, text)] {
                if let Ok(text) = HeaderValue::from_str(&text) {
                    headers.push((header, text));
                }
            }
        }
        headers
    }

    /// Seconds until a refused request may come again, as far as that is known.
    #[must_use]
    pub fn wait(&self) -> Option<u64> {
        let over = self
            .statuses
            .iter()
            .filter(|status| status.code == OVER_LIMIT);
        over.map(reset).max().filter(|wait| *wait > 0)
    }

    fn limits(&self) -> impl Iterator<Item = &message::RateLimit> {
        let limits = self.statuses.iter();
        limits.filter_map(|status| status.current_limit.as_ref())
    }

    /// The limit that is nearest to its end: the first of those with the least left.
    fn nearest(&self) -> Option<(&DescriptorStatus, &message::RateLimit)> {
        let limits = self.statuses.iter();
        let limits = limits.filter_map(|status| Some((status, status.current_limit.as_ref()?)));
        limits.min_by_key(|(status, _)| status.limit_remaining)
    }
}

/// Whole seconds until a limit begins anew.
fn reset(status: &DescriptorStatus) -> u64 {
    let seconds = status.duration_until_reset.map(|until| until.seconds);
    u64::try_from(seconds.unwrap_or(0)).unwrap_or(0)
}

/// The headers that can be written.
fn headers(values: Vec<message::HeaderValue>) -> Headers {
    let read = values.into_iter().filter_map(|header| {
        let name = HeaderName::try_from(header.key).ok()?;
        let value = match header.raw_value.is_empty() {
            true => HeaderValue::try_from(header.value),
            false => HeaderValue::from_maybe_shared(header.raw_value),
        };
        Some((name, value.ok()?))
    });
    read.filter(|(name, _)| !FRAMING.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests;
