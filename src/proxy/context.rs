//! What a request carries from step to step.
//!
//! The plan is pinned; what was chosen from it is remembered by index, so that nothing is copied.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::admit::Refusal;
use super::grpc_web::GrpcWeb;
use super::guard::Told;
use super::mirror::Copies;
use super::reply::Reply;
use super::retry::Retrying;
use super::timed::Alarm;
use crate::base::{Cause, CauseKind, Origin, clock};
use crate::listener::{Connection, Streaming};
use crate::observe::{AttemptEnd, Trace};
use crate::plan::{
    Action, BodyLimitId, Cluster, ClusterId, Destination, Forward, LimitId, Listener, Plan,
    RetryPolicy, Route,
};
use crate::policy::cors::apply::Asker;
use crate::policy::path::split_target;
use crate::policy::rate_limit::apply::Reading;
use crate::upstream::{Ask, ClusterState, Outcome, Pick, Refused, Serving};

/// State of one request.
pub struct Context {
    pub(super) started: Instant,
    /// Since the Unix epoch.
    pub(super) start: Duration,
    /// Pinned for the whole request.
    pub(super) serving: Arc<Serving>,
    pub(super) connection: Option<Arc<Connection>>,

    // What `admit` found.
    /// The host in lower case, if it is not so already in the head.
    pub(super) host: Option<Box<str>>,
    /// Normalised path with query, if it differs from the received target.
    pub(super) target: Option<Box<str>>,
    pub(super) client: Option<IpAddr>,
    pub(super) https: bool,
    /// A trusted proxy says so, not this connection.
    pub(super) forwarded_https: bool,
    pub(super) grpc: bool,
    /// In gRPC-Web, where the listener translates it; `route` finds that.
    pub(super) grpc_web: Option<Box<GrpcWeb>>,
    /// A WebSocket handshake.
    pub(super) upgrade: bool,
    pub(super) expects_continue: bool,
    pub(super) random: u64,

    // What `route` chose.
    /// The listener by whose routes it went, also if there was none for it.
    pub(super) came_in: Option<usize>,
    pub(super) chosen: Option<Chosen>,
    pub(super) cluster: Option<ClusterId>,
    /// Of the request's key, where the cluster hashes.
    pub(super) hash: Option<u64>,
    /// For the origin's answer: keeps the key.
    pub(super) set_cookie: Option<HeaderValue>,

    /// The rule's CORS policy looked at the request: who asks from another origin.
    pub(super) asker: Option<Asker>,
    /// How much of a body the request may have.
    pub(super) body_limit: Option<BodyLimitId>,
    /// Bytes of the body that the current attempt was given.
    pub(super) body_seen: u64,
    /// How the limit stands that is nearest to its end, of those that say so.
    pub(super) reading: Option<(LimitId, Reading)>,
    /// What services that count requests have to say to the client and to the origin.
    pub(super) told: Option<Box<Told>>,
    /// The rule's fault delayed the request.
    pub(super) delayed: bool,
    /// Of the body, for the rule's mirrors, once they are begun.
    pub(super) copies: Option<Copies>,

    // What happened since.
    pub(super) pick: Option<Pick>,
    /// Times that the request was sent, or tried to be.
    pub(super) attempts: u32,
    /// Times that Pingora asked for a peer; it stops at `Limits::turns`.
    pub(super) turns: u32,
    pub(super) retrying: Retrying,
    /// The current attempt has its connection.
    pub(super) connected: bool,
    /// The current attempt's head is written.
    pub(super) head_sent: bool,
    pub(super) upstream_local: Option<SocketAddr>,
    /// When the last byte of the request arrived: the route's clock starts here.
    pub(super) received_whole: Option<Instant>,
    pub(super) deadline: Option<Instant>,
    /// When the response to the current attempt must have begun (`perTryTimeout`).
    pub(super) try_deadline: Option<Instant>,
    /// Watches over both deadlines of an HTTP/2 request, and over an answer without an end.
    pub(super) alarm: Option<Arc<Alarm>>,
    /// The answer to an HTTP/1 request, where it may have no end.
    pub(super) streaming: Option<Streaming>,
    pub(super) service_time: Option<Duration>,
    /// Parts of the response's body that came so far.
    pub(super) parts: u64,
    /// When the current attempt's answer began.
    pub(super) answered: Option<Instant>,
    pub(super) cause: Option<Cause>,
    pub(super) panicked: bool,
    /// The client's connection goes on after the failure that was answered.
    pub(super) stays: bool,
    pub(super) upstream_failure: Option<Cow<'static, str>>,
    /// An answer to write in place of the cause's own.
    pub(super) reply: Option<Reply>,
    pub(super) grpc_status: Option<u16>,
    /// Where the plan traces.
    pub(super) trace: Option<Box<Trace>>,
}

/// Indexes into the pinned plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub listener: usize,
    pub virtual_host: usize,
    pub route: usize,
    pub destination: Option<usize>,
}

impl Context {
    pub(super) fn new(serving: Arc<Serving>) -> Self {
        Self {
            started: clock::now(),
            start: Duration::ZERO,
            serving,
            connection: None,
            host: None,
            target: None,
            client: None,
            https: false,
            forwarded_https: false,
            grpc: false,
            grpc_web: None,
            upgrade: false,
            expects_continue: false,
            random: 0,
            came_in: None,
            chosen: None,
            cluster: None,
            hash: None,
            set_cookie: None,
            asker: None,
            body_limit: None,
            body_seen: 0,
            reading: None,
            told: None,
            delayed: false,
            copies: None,
            pick: None,
            attempts: 0,
            turns: 0,
            retrying: Retrying::default(),
            connected: false,
            head_sent: false,
            upstream_local: None,
            received_whole: None,
            deadline: None,
            try_deadline: None,
            alarm: None,
            streaming: None,
            service_time: None,
            parts: 0,
            answered: None,
            panicked: false,
            stays: false,
            cause: None,
            upstream_failure: None,
            reply: None,
            grpc_status: None,
            trace: None,
        }
    }

    /// Whether the origin is asked in gRPC.
    pub(super) fn asks_grpc(&self) -> bool {
        self.grpc || self.grpc_web.is_some()
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.serving.plan
    }

    pub(super) fn listener(&self) -> Option<&Listener> {
        self.plan().listeners.get(self.chosen?.listener)
    }

    pub(super) fn route(&self) -> Option<&Route> {
        let chosen = self.chosen?;
        self.listener()?
            .virtual_hosts
            .get(chosen.virtual_host)?
            .routes
            .get(chosen.route)
            .map(|route| &**route)
    }

    pub(super) fn forward(&self) -> Option<&Forward> {
        match &*self.route()?.action {
            Action::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    pub(super) fn destination(&self) -> Option<&Destination> {
        self.forward()?.destinations.get(self.chosen?.destination?)
    }

    /// The chosen cluster's definition in the pinned plan.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.plan().cluster(self.cluster?).map(|cluster| &**cluster)
    }

    pub(super) fn cluster_state(&self) -> Option<&Arc<ClusterState>> {
        self.serving.cluster(self.cluster?)
    }

    /// Chooses the endpoint of the next attempt.
    ///
    /// # Errors
    /// The cluster has none to give.
    pub(super) fn pick_endpoint(&mut self) -> Result<(), Refusal> {
        let picked = match self.cluster_state() {
            Some(cluster) => cluster.pick(&Ask {
                hash: self.hash,
                ..self.retrying.ask(self.retry_policy())
            }),
            None => Err(Refused::NoEndpoint),
        };
        self.pick = Some(picked?);
        Ok(())
    }

    /// Normalised path with query.
    pub(super) fn target<'a>(&'a self, request: &'a RequestHeader) -> &'a str {
        match &self.target {
            Some(target) => target,
            None => std::str::from_utf8(request.raw_path()).unwrap_or("/"),
        }
    }

    /// Normalised path, and query.
    pub(super) fn path_and_query<'a>(
        &'a self,
        request: &'a RequestHeader,
    ) -> (&'a str, Option<&'a str>) {
        split_target(self.target(request))
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// Notes the cause, with the rule that owns the request.
    pub(super) fn note(&mut self, kind: CauseKind, message: impl Into<Cow<'static, str>>) {
        let owner = self.route().map(|route| route.origin.clone());
        self.blame(kind, message, owner);
    }

    /// Notes the cause, with whoever else owns it.
    pub(super) fn blame(
        &mut self,
        kind: CauseKind,
        message: impl Into<Cow<'static, str>>,
        owner: Option<Origin>,
    ) {
        let mut cause = Cause::new(kind, message);
        cause.owner = owner;
        self.cause = Some(cause);
    }

    /// Notes the cause of a failure; `reply` answers it. Only the first one counts.
    pub(super) fn fail(
        &mut self,
        kind: CauseKind,
        message: impl Into<Cow<'static, str>>,
    ) -> Box<Error> {
        if self.cause.is_none() {
            self.note(kind, message);
        }
        Error::explain(ErrorType::HTTPStatus(kind.status()), kind.code())
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) -> Box<Error> {
        self.fail(refusal.kind, refusal.message).into_down()
    }

    /// The route's timeout. An upgraded stream has no end to count from, so it has none.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.forward().filter(|_| !self.upgrade)?.timeout
    }

    /// The rule's retry policy.
    pub(super) fn retry_policy(&self) -> Option<&RetryPolicy> {
        self.forward()?.retry.as_deref()
    }

    /// The request is complete: the route's clock starts, unless it runs already.
    pub(super) fn request_complete(&mut self) {
        if self.received_whole.is_none() {
            let now = clock::now();
            self.received_whole = Some(now);
            self.deadline = self.timeout().and_then(|timeout| now.checked_add(timeout));
            self.try_begins();
        }
    }

    /// The current attempt's clock starts, once there is a connection and the request is
    /// complete.
    pub(super) fn try_begins(&mut self) {
        if self.received_whole.is_some() && self.connected {
            let timeout = self
                .retry_policy()
                .and_then(|policy| policy.per_try_timeout);
            self.try_deadline = timeout.and_then(|timeout| clock::now().checked_add(timeout));
        }
        self.watch();
    }

    /// The current attempt has its response, or is over.
    pub(super) fn try_ends(&mut self) {
        if self.try_deadline.take().is_some() {
            self.watch();
        }
    }

    /// Has the client's side end the wait for the origin at the earlier deadline.
    pub(super) fn watch(&self) {
        let both = [self.deadline, self.try_deadline];
        let next = both.into_iter().flatten().min();
        match (&self.alarm, &self.connection) {
            (Some(alarm), _) => alarm.set(next),
            (None, Some(connection)) => connection.answer_by(next),
            (None, None) => {}
        }
    }

    /// Whether the current attempt's response has begun.
    pub(super) fn has_response(&self) -> bool {
        self.service_time.is_some()
    }

    /// Tells the endpoint what became of the current attempt.
    pub(super) fn report(&mut self, outcome: Outcome) {
        if let Some(pick) = self.pick.as_ref().filter(|_| !self.retrying.reported) {
            pick.report(outcome);
            self.retrying.reported = true;
        }
    }

    /// Tells the trace of an attempt at the picked endpoint.
    pub(super) fn trace_attempt(&mut self) {
        if let (Some(trace), Some(pick)) = (&mut self.trace, &self.pick) {
            let since = clock::now().saturating_duration_since(self.started);
            trace.attempt_begins(since, pick.addr());
        }
    }

    /// Tells the trace how the current attempt ended; unless told otherwise, by its cause.
    pub(super) fn trace_end(&mut self, status: Option<u16>) {
        if let Some(trace) = &mut self.trace {
            let since = clock::now().saturating_duration_since(self.started);
            let cause = self.cause.as_ref().map_or("reset", |it| it.kind.code());
            let end = status.map_or(AttemptEnd::Failed(cause), AttemptEnd::Status);
            trace.attempt_ends(since, end);
        }
    }

    /// Whether the current attempt's own timeout has passed.
    pub(super) fn is_try_late(&self) -> bool {
        self.try_deadline
            .is_some_and(|deadline| clock::now() >= deadline)
    }

    /// Whether the route's timeout has passed.
    pub(super) fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| clock::now() >= deadline)
    }
}

/// The index of a slice's own item.
pub(super) fn index_of<T>(items: &[T], item: &T) -> Option<usize> {
    let size = std::mem::size_of::<T>().max(1);
    let offset = (std::ptr::from_ref(item) as usize).checked_sub(items.as_ptr() as usize)?;
    let index = offset / size;
    (offset % size == 0 && index < items.len()).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_of_a_slice_knows_its_index_and_a_stranger_has_none() {
        let items = [[1_u32, 2], [3, 4], [5, 6]];
        assert_eq!(index_of(&items, &items[2]), Some(2));
        assert_eq!(index_of(&items[..2], &items[2]), None);
        assert_eq!(index_of(&items[1..], &items[0]), None);
    }
}
