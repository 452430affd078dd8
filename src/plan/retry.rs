//! When a request is sent again: VirtualService's `retries`, with Istio's defaults filled in.
//!
//! Pure questions with Envoy's answers; `proxy::attempt` asks them and keeps the counts.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;

/// How a rule's failed attempts are repeated. Shared: most rules have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    /// Attempts after the first; positive.
    pub retries: u32,
    pub conditions: Conditions,
    /// Statuses of `retriable-status-codes`: the numbers in `retryOn`, sorted.
    pub statuses: Box<[u16]>,
    /// `perTryTimeout`: how long an attempt may take until its response begins.
    pub per_try_timeout: Option<Duration>,
    /// `backoff`: the base of the waits between attempts.
    pub backoff: Duration,
    /// `retryIgnorePreviousHosts`: endpoints that failed the request are avoided.
    pub avoid_previous: bool,
    /// `retryRemoteLocalities`: every second retry widens the choice to other localities.
    pub remote_localities: bool,
    pub source: RetrySource,
}

/// Who asked for a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetrySource {
    /// Nobody: Istio's default.
    Default,
    /// `defaultHttpRetryPolicy` of the mesh.
    Mesh,
    /// The rule's `retries`, or its root's.
    Rule,
}

/// A condition of `retryOn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Condition {
    ServerError = 1,
    GatewayError = 1 << 1,
    Reset = 1 << 2,
    ResetBeforeRequest = 1 << 3,
    ConnectFailure = 1 << 4,
    RefusedStream = 1 << 5,
    Retriable4xx = 1 << 6,
    StatusCodes = 1 << 7,
    /// Istio has no way to name the headers, so it never applies.
    Headers = 1 << 8,
    RateLimited = 1 << 9,
    /// Origins are not reached by HTTP/3, so it never applies.
    Http3PostConnectFailure = 1 << 10,
    GrpcCancelled = 1 << 11,
    GrpcDeadlineExceeded = 1 << 12,
    GrpcInternal = 1 << 13,
    GrpcResourceExhausted = 1 << 14,
    GrpcUnavailable = 1 << 15,
}

use Condition::*;

/// A set of conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions(u16);

/// How an attempt failed without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or not in time.
    Connect,
    /// The origin said that it has not looked at the request (`REFUSED_STREAM`, or `GOAWAY`
    /// with an earlier stream).
    Refused,
    /// The connection broke before the head was written.
    BeforeRequest,
    /// The connection or the stream broke, or what came was no HTTP.
    Reset,
    /// `perTryTimeout` passed.
    PerTryTimeout,
}

impl Condition {
    /// In the order in which Istio's documentation lists them.
    pub const ALL: [Self; 16] = [
        ServerError,
        GatewayError,
        Reset,
        ResetBeforeRequest,
        ConnectFailure,
        RefusedStream,
        Retriable4xx,
        StatusCodes,
        Headers,
        RateLimited,
        Http3PostConnectFailure,
        GrpcCancelled,
        GrpcDeadlineExceeded,
        GrpcInternal,
        GrpcResourceExhausted,
        GrpcUnavailable,
    ];

    /// The word in `retryOn`.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerError => "5xx",
            GatewayError => "gateway-error",
            Reset => "reset",
            ResetBeforeRequest => "reset-before-request",
            ConnectFailure => "connect-failure",
            RefusedStream => "refused-stream",
            Retriable4xx => "retriable-4xx",
            StatusCodes => "retriable-status-codes",
            Headers => "retriable-headers",
            RateLimited => "envoy-ratelimited",
            Http3PostConnectFailure => "http3-post-connect-failure",
            GrpcCancelled => "cancelled",
            GrpcDeadlineExceeded => "deadline-exceeded",
            GrpcInternal => "internal",
            GrpcResourceExhausted => "resource-exhausted",
            GrpcUnavailable => "unavailable",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|condition| condition.as_str() == word)
    }

    /// Whether it holds only for requests that no origin has worked on.
    fn is_before_work(self) -> bool {
        matches!(
            self,
            ConnectFailure
                | RefusedStream
                | ResetBeforeRequest
                | RateLimited
                | Headers
                | Http3PostConnectFailure
        )
    }

    /// The gRPC status that it stands for.
    fn grpc_status(self) -> Option<u16> {
        match self {
            GrpcCancelled => Some(1),
            GrpcDeadlineExceeded => Some(4),
            GrpcResourceExhausted => Some(8),
            GrpcInternal => Some(13),
            GrpcUnavailable => Some(14),
            _ => None,
        }
    }
}

impl Conditions {
    pub fn of(conditions: &[Condition]) -> Self {
        conditions.iter().copied().collect()
    }

    pub fn has(self, condition: Condition) -> bool {
        self.0 & condition as u16 != 0
    }

    pub fn insert(&mut self, condition: Condition) {
        self.0 |= condition as u16;
    }

    pub fn iter(self) -> impl Iterator<Item = Condition> {
        Condition::ALL
            .into_iter()
            .filter(move |condition| self.has(*condition))
    }
}

impl FromIterator<Condition> for Conditions {
    fn from_iter<I: IntoIterator<Item = Condition>>(conditions: I) -> Self {
        let mut all = Self::default();
        for condition in conditions {
            all.insert(condition);
        }
        all
    }
}

impl Default for RetryPolicy {
    /// Istio's, where nobody says anything.
    fn default() -> Self {
        Self {
            retries: 2,
            conditions: Conditions::of(&[
                ConnectFailure,
                RefusedStream,
                GrpcUnavailable,
                GrpcCancelled,
                StatusCodes,
            ]),
            statuses: Box::default(),
            per_try_timeout: None,
            backoff: Duration::from_millis(25),
            avoid_previous: true,
            remote_localities: false,
            source: RetrySource::Default,
        }
    }
}

impl RetryPolicy {
    /// Whether a failure without a response is one to repeat. In Envoy, `5xx` and
    /// `gateway-error` stand for every one of them, because each would become a 5xx.
    pub fn covers(&self, failure: Failure) -> bool {
        let has = |condition| self.conditions.has(condition);
        has(Reset)
            || has(ServerError)
            || has(GatewayError)
            || match failure {
                Failure::Connect => has(ConnectFailure),
                Failure::Refused => has(RefusedStream),
                Failure::BeforeRequest => has(ResetBeforeRequest),
                Failure::Reset | Failure::PerTryTimeout => false,
            }
    }

    /// Whether a response is one to repeat. A gRPC status counts if it comes with the head
    /// ("trailers-only"), as most errors do.
    pub fn covers_response(&self, status: u16, headers: &HeaderMap) -> bool {
        let has = |condition| self.conditions.has(condition);
        if headers.contains_key("x-envoy-ratelimited") {
            return has(RateLimited);
        }
        (has(ServerError) && (500..600).contains(&status))
            || (has(GatewayError) && matches!(status, 502..=504))
            || (has(Retriable4xx) && status == 409)
            || (has(StatusCodes) && self.statuses.binary_search(&status).is_ok())
            || self.covers_grpc(headers)
    }

    fn covers_grpc(&self, headers: &HeaderMap) -> bool {
        let status = headers
            .get("grpc-status")
            .and_then(|status| status.to_str().ok()?.parse::<u16>().ok());
        status.is_some_and(|status| {
            self.conditions
                .iter()
                .any(|condition| condition.grpc_status() == Some(status))
        })
    }

    /// The wait before retry `number` (from 1): uniform below `(2^number - 1) * backoff`, and
    /// below ten times the backoff, as in Envoy.
    pub fn wait(&self, number: u32, random: u64) -> Duration {
        let steps = 1_u64
            .checked_shl(number)
            .map_or(u64::MAX, |power| power - 1)
            .clamp(1, 10);
        let bound = u64::try_from(self.backoff.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(steps);
        Duration::from_micros(random % bound.max(1))
    }

    /// The conditions that repeat a request that an origin may have worked on, but for the gRPC
    /// ones that Istio takes for granted.
    pub fn unsafe_conditions(&self) -> impl Iterator<Item = Condition> {
        let no_statuses = self.statuses.is_empty();
        self.conditions
            .iter()
            .filter(move |condition| match condition {
                StatusCodes => !no_statuses,
                GrpcCancelled | GrpcUnavailable => false,
                condition => !condition.is_before_work(),
            })
    }
}

impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on ", self.retries)?;
        let mut separator = "";
        for condition in self.conditions.iter() {
            write!(f, "{separator}{}", condition.as_str())?;
            separator = ",";
        }
        for status in &self.statuses {
            write!(f, "{separator}{status}")?;
            separator = ",";
        }
        if let Some(timeout) = self.per_try_timeout {
            write!(f, ", each within {timeout:?}")?;
        }
        write!(f, ", backoff {:?}", self.backoff)?;
        if !self.avoid_previous {
            f.write_str(", previous hosts not avoided")?;
        }
        if self.remote_localities {
            f.write_str(", widening to remote localities")?;
        }
        Ok(())
    }
}

impl RetrySource {
    /// For people: who asked.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "Istio's default",
            Self::Mesh => "the mesh's defaultHttpRetryPolicy",
            Self::Rule => "the rule",
        }
    }
}

#[cfg(test)]
mod tests;
