//! What is limited, to how much, and how a refused request is answered.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::key::Way;
pub use super::key::{Condition, Part, PathTemplate, Source, Test};
use super::store::Store;
use crate::base::Share;
use crate::policy::global::spec::Service;

/// A policy. Values that cannot be wrong; `compile` makes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// As metrics and explanations name it.
    pub id: Arc<str>,
    /// In the order they are asked.
    pub limits: Box<[Limit]>,
    /// Of which share of requests the limits are asked.
    pub enabled: Share,
    /// Of those over a limit, which share is refused.
    pub enforced: Share,
    pub refusal: Refusal,
    pub announce: Announce,
    pub manner: Manner,
    pub counted: Counted,
}

/// In which points limits of an EnvoyFilter differ from ours (Envoy 1.40, asked side by side).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Manner {
    /// A refused request takes no token of any limit. Clients are told of the limit that is
    /// nearest to its end.
    #[default]
    Ours,
    /// A refused request loses the tokens of the limits that were asked before the one that refuses
    /// it. Clients are told of the first limit that concerned the request, or of the one that it is
    /// over, if it is only observed too.
    Envoys,
}

/// Who counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Counted {
    /// This process does, in the limits' buckets.
    #[default]
    Here,
    /// A rate limit service does; the policy has no limits of its own.
    Service(Box<Service>),
    /// The limits' buckets stand in Redis.
    Store(Box<Store>),
}

/// One limit: buckets, one for each key that its requests have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Limits of one group share their buckets, from plan to plan too.
    pub group: Arc<str>,
    pub bucket: Bucket,
    /// Which requests are limited and which of them share a bucket. The first way that a request
    /// goes counts; one that goes none is not limited. An empty way is every request's.
    pub ways: Box<[Way]>,
    /// How many keys are counted apart at a time.
    pub keys: u32,
    /// Asked only if no limit before it was.
    pub otherwise: bool,
}

/// A token bucket that fills evenly, as Envoy's does since 1.31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// At least 1; full at first.
    pub capacity: u32,
    /// At least 1.
    pub per_fill: u32,
    /// At least 50 ms.
    pub interval: Duration,
    /// At least 1: among how many processes the fills are divided. `capacity` is this one's own.
    pub replicas: u32,
}

/// How a refused request is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    pub status: u16,
    /// For gRPC clients, in place of what `status` maps to.
    pub grpc_status: Option<u16>,
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// Say `retry-after`.
    pub retry_after: bool,
}

/// What every response says about the limit that is nearest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Announce {
    /// `ratelimit-policy` and `ratelimit` (draft-ietf-httpapi-ratelimit-headers), under this name.
    pub ietf: Option<Box<str>>,
    /// `x-ratelimit-limit`, `-remaining` and `-reset`, as Envoy writes them.
    pub x_ratelimit: bool,
}

impl Bucket {
    /// This process's share among so many: tokens that come as many times more slowly, and a
    /// burst that is divided, but never nothing.
    #[must_use]
    pub fn over(self, replicas: NonZeroU32) -> Self {
        Self {
            capacity: (self.capacity / replicas).max(1),
            replicas: replicas.get(),
            ..self
        }
    }

    /// Nanoseconds until the next token, at least 1.
    pub(super) fn emission(&self) -> u64 {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let interval = interval.saturating_mul(u64::from(self.replicas.max(1)));
        (interval / u64::from(self.per_fill.max(1))).max(1)
    }

    /// Nanoseconds in which an empty bucket fills.
    pub(super) fn depth(&self) -> u64 {
        self.emission()
            .saturating_mul(u64::from(self.capacity.max(1)))
    }

    /// Tokens a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let interval = self.interval.as_secs_f64() * f64::from(self.replicas);
        f64::from(self.per_fill) / interval.max(1e-9)
    }

    /// Whether a bucket fills within a year.
    #[must_use]
    pub fn is_measurable(&self) -> bool {
        const YEAR: u64 = 366 * 86_400 * 1_000_000_000;
        self.depth() <= YEAR
    }
}

impl RateLimit {
    /// Limits of ours: every request is asked about and refused where it is too much, counted here.
    /// Nothing is told.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, limits: impl Into<Box<[Limit]>>) -> Self {
        Self {
            id: id.into(),
            limits: limits.into(),
            enabled: Share::ALL,
            enforced: Share::ALL,
            refusal: Refusal::default(),
            announce: Announce::default(),
            manner: Manner::default(),
            counted: Counted::default(),
        }
    }

    /// Whether a bucket of it is all requests' together.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.limits.iter().any(Limit::is_single)
    }

    /// The service that counts, if one does.
    #[must_use]
    pub fn service(&self) -> Option<&Service> {
        match &self.counted {
            Counted::Service(service) => Some(service),
            Counted::Here | Counted::Store(_) => None,
        }
    }

    /// Where the buckets stand, if it is not here.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        match &self.counted {
            Counted::Store(store) => Some(store),
            Counted::Here | Counted::Service(_) => None,
        }
    }

    /// Each limit, or what a service is told, in words.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match &self.counted {
            Counted::Service(service) => service
                .descriptors
                .iter()
                .map(ToString::to_string)
                .collect(),
            Counted::Here | Counted::Store(_) => {
                self.limits.iter().map(ToString::to_string).collect()
            }
        }
    }
}

impl Limit {
    /// Whether all requests share one bucket.
    pub(super) fn is_single(&self) -> bool {
        let mut parts = self.ways.iter().flatten();
        self.ways.len() <= 1 && !parts.any(|part| matches!(part, Part::Each { .. }))
    }
}

impl Default for Refusal {
    fn default() -> Self {
        Self {
            status: 429,
            grpc_status: None,
            headers: Box::default(),
            retry_after: false,
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            capacity,
            per_fill,
            interval,
            replicas,
        } = self;
        write!(f, "{per_fill} per {interval:?}")?;
        if *replicas > 1 {
            write!(f, " over {replicas} replicas")?;
        }
        write!(f, ", at most {capacity} at once")
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bucket)?;
        for (index, way) in self.ways.iter().enumerate() {
            if index > 0 {
                f.write_str(", or")?;
            }
            for (index, part) in way.iter().enumerate() {
                let word = if index > 0 { " and" } else { "" };
                write!(f, "{word} {part}")?;
            }
        }
        if self.otherwise {
            f.write_str(", where no limit before it is asked")?;
        }
        Ok(())
    }
}

/// What holds for all limits of a policy.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = self.service() {
            write!(f, "{service}, ")?;
        }
        if let Some(store) = self.store() {
            write!(f, "{store}, ")?;
        }
        if !self.enabled.is_all() {
            write!(f, "asked for {} of requests, ", self.enabled)?;
        }
        match (self.enforced.is_all(), self.enforced.is_none()) {
            (_, true) => return f.write_str("observed, never refused"),
            (true, _) => {}
            (false, _) => write!(f, "{} of what is too much ", self.enforced)?,
        }
        write!(f, "refused with {}", self.refusal.status)?;
        for (name, value) in &self.refusal.headers {
            write!(f, ", {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        if self.service().is_some_and(|service| service.marks) {
            f.write_str(", x-envoy-ratelimited said")?;
        }
        for (said, name) in [
            (self.refusal.retry_after, "retry-after"),
            (self.announce.ietf.is_some(), "ratelimit"),
            (self.announce.x_ratelimit, "x-ratelimit-*"),
        ] {
            if said {
                write!(f, ", {name} said")?;
            }
        }
        Ok(())
    }
}
