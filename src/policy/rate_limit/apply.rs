//! Asks a policy's limits about a request, and tells the client how it stands.

use std::fmt::Write;
use std::time::Instant;

use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use super::key::Asked;
use super::spec::{Manner, RateLimit};
use super::state::{Fate, Limiter, State};
use super::table::{Meter, Terms};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What a policy says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None of its limits concerns the request.
    Unconcerned,
    Allowed(Reading),
    /// To be refused.
    Limited(Reading),
    /// Over a limit and to be served all the same.
    Observed(Reading),
}

/// How the bucket stands that is nearest to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The place of its limit in the policy.
    pub limit: usize,
    /// Tokens left.
    pub remaining: u64,
    /// Seconds until there is a token, rounded up.
    pub wait: u64,
    /// Seconds until the bucket is full, rounded up.
    pub full: u64,
}

impl Limiter {
    /// Whether one request is asked about at all; `below` gives uniformly random numbers below its
    /// argument.
    pub fn is_asked(&self, below: impl FnOnce(u32) -> u32) -> bool {
        self.spec.enabled.is_thrown(below)
    }

    /// Asks about one request. Tokens are taken of every limit that concerns the request, unless it
    /// is refused: then of none, or, in Envoy's manner, of those before.
    pub fn ask(&self, asked: &Asked<'_>, now: Instant, below: impl FnOnce(u32) -> u32) -> Verdict {
        let is_envoys = self.spec.manner == Manner::Envoys;
        let mut nearest: Option<Reading> = None;
        let mut taken = SmallVec::<[(&State, u64, &Meter); 4]>::new();
        let states = self.limits.iter().map(|state| &**state);
        for (index, (limit, state)) in self.spec.limits.iter().zip(states).enumerate() {
            if limit.otherwise && !taken.is_empty() {
                continue;
            }
            let found = state.key(limit, asked).map(|key| (key, state.meter(key)));
            let Some((key, Some(meter))) = found else {
                continue;
            };
            let (time, terms) = (state.time(now), state.terms);
            let full = match meter.take(terms, time) {
                Ok(full) => full,
                Err(full) => {
                    let reading = Reading::of(index, terms, full, time);
                    if !self.spec.enforced.is_thrown(below) {
                        state.count(key, Fate::Observed);
                        return Verdict::Observed(reading);
                    }
                    for (state, _, meter) in taken.iter().filter(|_| !is_envoys) {
                        meter.give_back(state.terms);
                    }
                    state.count(key, Fate::Limited);
                    return Verdict::Limited(reading);
                }
            };
            taken.push((state, key, meter));
            let reading = Reading::of(index, terms, full, time);
            let is_nearer = |known: Reading| !is_envoys && reading.remaining < known.remaining;
            if nearest.is_none_or(is_nearer) {
                nearest = Some(reading);
            }
        }
        for (state, key, _) in taken {
            state.count(key, Fate::Allowed);
        }
        nearest.map_or(Verdict::Unconcerned, Verdict::Allowed)
    }
}

impl Reading {
    /// Of a bucket that is `full` at a time.
    pub(super) fn of(limit: usize, terms: Terms, full: u64, time: u64) -> Self {
        let seconds = |nanos: u64| nanos.div_ceil(1_000_000_000);
        let used = full.saturating_sub(time);
        let wait = used
            .saturating_add(terms.emission)
            .saturating_sub(terms.depth);
        Self {
            limit,
            remaining: terms.depth.saturating_sub(used) / terms.emission,
            wait: seconds(wait),
            full: seconds(used),
        }
    }
}

impl RateLimit {
    /// Whether responses say how the nearest bucket stands.
    #[must_use]
    pub fn announces(&self) -> bool {
        self.announce.ietf.is_some() || self.announce.x_ratelimit
    }

    /// Says in a response how a bucket stands.
    pub fn announce(&self, reading: &Reading, response: &mut ResponseHeader) {
        let Some(limit) = self.limits.get(reading.limit) else {
            return;
        };
        // Names and values are of the map's own types: inserting cannot fail.
        if let Some(name) = &self.announce.ietf {
            let mut policies = String::new();
            for (index, limit) in self.limits.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                let window = limit.bucket.interval.as_secs();
                // Writing to a string cannot fail.
                let _ = write!(
                    policies,
                    "{comma}{};q={};w={window}",
                    Named(name, index),
                    limit.bucket.per_fill
                );
            }
            let (name, remaining) = (Named(name, reading.limit), reading.remaining);
            let text = format!("{name};r={remaining};t={}", reading.full);
            for (header, text) in [(POLICY, policies), (LIMIT, text)] {
                if let Ok(value) = HeaderValue::from_str(&text) {
                    let _ = response.insert_header(header, value);
                }
            }
        }
        if self.announce.x_ratelimit {
            for (header, number) in [
                (X_LIMIT, u64::from(limit.bucket.capacity)),
                (X_REMAINING, reading.remaining),
                (X_RESET, reading.wait),
            ] {
                let _ = response.append_header(header, HeaderValue::from(number));
            }
        }
    }
}

/// A limit's name as a quoted string: the policy's, with its number from the second on.
struct Named<'n>(&'n str, usize);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(name, index) = self;
        match index {
            0 => write!(f, "\"{name}\""),
            index => write!(f, "\"{name}-{}\"", index + 1),
        }
    }
}

#[cfg(test)]
mod tests;
