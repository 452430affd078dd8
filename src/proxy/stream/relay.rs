//! Bytes both ways until both sides have ended, one fails, or time is over.
//!
//! Each side's end is passed on as it comes (half close). What came before an end that is decided
//! here, or before a side broke off, still reaches the other side. Nothing is allocated per read.

mod direction;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::record::Session;
use crate::base::{Cause, CauseKind, clock};
use crate::listener::Connection;
use crate::plan::Cluster;

use direction::{Direction, Reading};

/// How often the bytes of a connection that goes on are added to the metrics (Istio's interval).
const REPORT: Duration = Duration::from_secs(15);

/// How long each step may take once the end has come: delivering what came before it, delivering
/// what is held of somebody who goes on all the same, waiting for the other side to end too.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a connection may live and be silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub idle: Option<Duration>,
    pub duration: Option<Duration>,
}

/// Why a connection ended that did not simply end on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    ClientFailed,
    OriginFailed,
    Idle,
    TooOld,
    Released,
}

impl Limits {
    pub fn of(cluster: Option<&Cluster>) -> Self {
        cluster.map_or_else(Self::default, |cluster| Self {
            idle: cluster.pool.stream_idle_timeout,
            duration: cluster.pool.max_duration,
        })
    }
}

impl End {
    pub fn cause(self) -> Cause {
        let (kind, message) = match self {
            Self::ClientFailed => (
                CauseKind::ClientDisconnect,
                "the client broke the connection off",
            ),
            Self::OriginFailed => (
                CauseKind::UpstreamConnectionTermination,
                "the origin broke the connection off",
            ),
            Self::Idle => (
                CauseKind::StreamIdle,
                "no byte came for the time of tcp.idleTimeout",
            ),
            Self::TooOld => (
                CauseKind::StreamDuration,
                "the connection reached tcp.maxConnectionDuration",
            ),
            Self::Released => (
                CauseKind::Released,
                "the process ends and releases its streams",
            ),
        };
        Cause::new(kind, message)
    }

    /// Whether a side is told of it. With TLS, an end that is not told is seen as one that came too
    /// early: right if the other side broke off, and not for an end that was decided here.
    fn is_told_to(self, side: u8, stream: &Stream) -> bool {
        match self {
            Self::Idle | Self::TooOld | Self::Released => true,
            Self::ClientFailed => side == ORIGIN && stream.get_ssl_digest().is_none(),
            Self::OriginFailed => side == CLIENT && stream.get_ssl_digest().is_none(),
        }
    }
}

/// Carries bytes until the end; `None` if both sides ended in order.
pub(super) async fn relay(
    client: Stream,
    origin: Stream,
    session: &mut Session<'_>,
    limits: Limits,
) -> Option<End> {
    let meter = Meter {
        made: clock::now(),
        last: AtomicU64::new(0),
        failed: AtomicU8::new(0),
    };
    let connection = session.connection.clone();
    connection.begin_tunnel();
    let side = |of, stream| Side {
        of,
        stream,
        connection: &connection,
        meter: &meter,
    };
    let mut relay = Relay {
        client: side(CLIENT, client),
        origin: side(ORIGIN, origin),
        up: Direction::new(),
        down: Direction::new(),
    };
    let end = relay.carry(session, limits).await?;
    // Its state is needed only now.
    Box::pin(relay.take_leave(end)).await;
    Some(end)
}

/// Both sides, and what is on its way between them.
struct Relay<'m> {
    client: Side<'m>,
    origin: Side<'m>,
    up: Direction,
    down: Direction,
}

impl Relay<'_> {
    async fn carry(&mut self, session: &mut Session<'_>, limits: Limits) -> Option<End> {
        let (meter, connection) = (self.client.meter, self.client.connection);
        let mut next = meter.made;
        let timer = tokio::time::sleep_until(next.into());
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                end = poll_fn(|cx| self.poll(cx)) => return end,
                () = poll_fn(|cx| connection.poll_released(cx)) => return Some(End::Released),
                () = &mut timer => {
                    let now = clock::now();
                    if now >= next {
                        if let Some(end) = meter.over(limits, now) {
                            return Some(end);
                        }
                        session.report();
                    }
                    next = meter.look_again(limits, now);
                    timer.as_mut().reset(next.into());
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let (client, origin) = (&mut self.client, &mut self.origin);
        let reading = Reading::Everything;
        let up = self.up.poll(cx, client, origin, reading, true);
        let down = self.down.poll(cx, origin, client, reading, true);
        match self.client.meter.failure() {
            None if up.is_ready() && down.is_ready() => Poll::Ready(None),
            None => Poll::Pending,
            failure => Poll::Ready(failure),
        }
    }

    /// Delivers what came before the end, and tells of it.
    async fn take_leave(&mut self, end: End) {
        let reading = match end {
            End::Idle | End::TooOld => Reading::Nothing,
            End::Released => Reading::WhatCame,
            End::ClientFailed | End::OriginFailed => Reading::ToTheEnd,
        };
        // What came is known to Tokio only when it has looked again.
        tokio::task::yield_now().await;
        let mut said = timeout(FAREWELL, poll_fn(|cx| self.poll_rest(cx, end, reading))).await;
        if said.is_err() && reading != Reading::Nothing {
            let rest = poll_fn(|cx| self.poll_rest(cx, end, Reading::Nothing));
            said = timeout(FAREWELL, rest).await;
        }
        if said.is_err() {
            return;
        }
        // Closing a socket that has unread bytes resets its connection, and takes back what is
        // still on its way to the other side.
        let (client, origin) = (&mut self.client.stream, &mut self.origin.stream);
        let _ = timeout(FAREWELL, async {
            tokio::join!(
                ignore(client, self.up.scratch(), end.is_told_to(CLIENT, client)),
                ignore(origin, self.down.scratch(), end.is_told_to(ORIGIN, origin)),
            )
        })
        .await;
    }

    /// As [`Self::poll`], but a side that has failed is only read.
    fn poll_rest(&mut self, cx: &mut Context<'_>, end: End, reading: Reading) -> Poll<()> {
        let (client, origin) = (&mut self.client, &mut self.origin);
        let mut rest = Poll::Ready(());
        if end != End::OriginFailed {
            let tells = end.is_told_to(ORIGIN, &origin.stream);
            rest = self.up.poll(cx, client, origin, reading, tells);
        }
        if end != End::ClientFailed {
            let tells = end.is_told_to(CLIENT, &client.stream);
            ready!(self.down.poll(cx, origin, client, reading, tells));
        }
        rest
    }
}

/// Reads to the end of a side that was told of it.
async fn ignore(stream: &mut Stream, scratch: &mut [u8], was_told: bool) {
    while was_told && matches!(stream.read(scratch).await, Ok(count) if count > 0) {}
}

const CLIENT: u8 = 1;
const ORIGIN: u8 = 2;

/// When something last happened, and which side failed first.
struct Meter {
    made: Instant,
    /// Microseconds after `made`.
    last: AtomicU64,
    failed: AtomicU8,
}

impl Meter {
    fn note_activity(&self) {
        let after = clock::now()
            .saturating_duration_since(self.made)
            .as_micros();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.last.store(after, Ordering::Relaxed);
    }

    fn note_failure(&self, of: u8) {
        // The first one is the cause of the others.
        let _ = self
            .failed
            .compare_exchange(0, of, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn failure(&self) -> Option<End> {
        match self.failed.load(Ordering::Relaxed) {
            CLIENT => Some(End::ClientFailed),
            ORIGIN => Some(End::OriginFailed),
            _ => None,
        }
    }

    fn last(&self) -> Instant {
        let after = Duration::from_micros(self.last.load(Ordering::Relaxed));
        self.made.checked_add(after).unwrap_or(self.made)
    }

    fn over(&self, limits: Limits, now: Instant) -> Option<End> {
        let is_over = |since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        if is_over(self.made, limits.duration) {
            Some(End::TooOld)
        } else if is_over(self.last(), limits.idle) {
            Some(End::Idle)
        } else {
            None
        }
    }

    /// When a limit may be reached, or a report is due.
    fn look_again(&self, limits: Limits, now: Instant) -> Instant {
        let idle = limits.idle.and_then(|limit| self.last().checked_add(limit));
        let age = limits
            .duration
            .and_then(|limit| self.made.checked_add(limit));
        let report = now + REPORT;
        let soonest = [idle, age].into_iter().flatten().fold(report, Instant::min);
        soonest.max(now + Duration::from_millis(1))
    }
}

/// One side. Everything that moves, moves through the client's, which is where it is counted.
struct Side<'m> {
    /// [`CLIENT`] or [`ORIGIN`].
    of: u8,
    stream: Stream,
    connection: &'m Connection,
    meter: &'m Meter,
}

impl Side<'_> {
    fn is_client(&self) -> bool {
        self.of == CLIENT
    }

    fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|_| self.meter.note_failure(self.of))
    }
}

impl AsyncRead for Side<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        if read.is_ok() && this.is_client() {
            this.connection
                .count_received(buffer.filled().len() - before);
            this.meter.note_activity();
        }
        Poll::Ready(this.note(read))
    }
}

impl AsyncWrite for Side<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        if let (Ok(count), true) = (&written, this.is_client()) {
            this.connection.count_sent(*count);
            this.meter.note_activity();
        }
        Poll::Ready(this.note(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        Poll::Ready(this.note(flushed))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
        Poll::Ready(this.note(unless_gone(shut)))
    }
}

/// Telling the end to somebody who is gone already is no failure.
fn unless_gone(shut: io::Result<()>) -> io::Result<()> {
    match shut {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        other => other,
    }
}
