//! Bytes both ways until both sides have ended, one fails, or time is over.
//!
//! Each side's end is passed on as it comes (half close). Nothing is allocated per read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};

use super::record::Session;
use crate::base::{Cause, CauseKind, clock};
use crate::listener::Connection;
use crate::plan::Cluster;

/// Bytes of buffer each way, for the life of the connection.
const BUFFER: usize = 8 * 1024;

/// How often the bytes of a connection that goes on are added to the metrics (Istio's interval).
const REPORT: Duration = Duration::from_secs(15);

/// How long telling both sides of an end that was decided here may take.
const FAREWELL: Duration = Duration::from_secs(1);

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

    /// Whether both sides could still be told: TLS says an end that it is not told is an attack.
    fn is_ours(self) -> bool {
        matches!(self, Self::Idle | Self::TooOld | Self::Released)
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
    let mut client = Client {
        stream: client,
        connection: &connection,
        meter: &meter,
    };
    let mut origin = Origin {
        stream: origin,
        meter: &meter,
    };
    let end = carry(&mut client, &mut origin, session, limits).await;
    if end.is_some_and(End::is_ours) {
        let telling = async { tokio::join!(client.shutdown(), origin.shutdown()) };
        let _ = tokio::time::timeout(FAREWELL, telling).await;
    }
    end
}

async fn carry(
    client: &mut Client<'_>,
    origin: &mut Origin<'_>,
    session: &mut Session<'_>,
    limits: Limits,
) -> Option<End> {
    let (meter, connection) = (client.meter, client.connection);
    let copying = copy_bidirectional_with_sizes(client, origin, BUFFER, BUFFER);
    tokio::pin!(copying);
    let mut next = meter.made;
    let timer = tokio::time::sleep_until(next.into());
    tokio::pin!(timer);
    loop {
        tokio::select! {
            biased;
            copied = &mut copying => {
                return match (copied, meter.failed.load(Ordering::Relaxed)) {
                    (Ok(_), _) => None,
                    (Err(_), ORIGIN) => Some(End::OriginFailed),
                    (Err(_), _) => Some(End::ClientFailed),
                };
            }
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

/// The client's side: everything that moves, moves through it.
struct Client<'m> {
    stream: Stream,
    connection: &'m Connection,
    meter: &'m Meter,
}

struct Origin<'m> {
    stream: Stream,
    meter: &'m Meter,
}

impl AsyncRead for Client<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        match &read {
            Ok(()) => {
                this.connection
                    .count_received(buffer.filled().len() - before);
                this.meter.note_activity();
            }
            Err(_) => this.meter.note_failure(CLIENT),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        match &written {
            Ok(count) => {
                this.connection.count_sent(*count);
                this.meter.note_activity();
            }
            Err(_) => this.meter.note_failure(CLIENT),
        }
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        Poll::Ready(flushed.inspect_err(|_| this.meter.note_failure(CLIENT)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
        Poll::Ready(unless_gone(shut).inspect_err(|_| this.meter.note_failure(CLIENT)))
    }
}

impl AsyncRead for Origin<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        Poll::Ready(read.inspect_err(|_| this.meter.note_failure(ORIGIN)))
    }
}

impl AsyncWrite for Origin<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        Poll::Ready(written.inspect_err(|_| this.meter.note_failure(ORIGIN)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        Poll::Ready(flushed.inspect_err(|_| this.meter.note_failure(ORIGIN)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
        Poll::Ready(unless_gone(shut).inspect_err(|_| this.meter.note_failure(ORIGIN)))
    }
}

/// Telling the end to somebody who is gone already is no failure.
fn unless_gone(shut: io::Result<()>) -> io::Result<()> {
    match shut {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        other => other,
    }
}
