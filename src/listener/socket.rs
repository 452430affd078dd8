//! The wrapper between Pingora's socket and its session.
//!
//! It counts bytes, enforces the total deadline of request heads (writing the 408 itself), and
//! notices when Pingora's parser answers a head that no hook has seen, which is known by the
//! status line going out before [`Connection::head_received`]. [`super::serve`] wraps every
//! accepted connection in one and reads ahead through it between requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connection::{Connection, EarlyRefusal, Phase};
use super::frames::Frames;
use super::head::{Head, Opening, Start};
use super::shared::Shared;
use super::tunnels::Released;
use crate::base::{CauseKind, clock};

const TIMEOUT_ANSWER: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

pub(super) struct Socket {
    pub(super) inner: Stream,
    pub(super) connection: Arc<Connection>,
    shared: Arc<Shared>,
    head: Head,
    /// Present if the client speaks HTTP/2.
    frames: Option<Frames>,
    /// Exists only while an unfinished head, or an answer with a deadline, is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Status of an answer that Pingora's parser is writing.
    refused: Option<u16>,
}

impl Socket {
    /// `inner` has the connection in its digest already (see `digests::attach`).
    pub fn new(inner: Stream, connection: Arc<Connection>, shared: Arc<Shared>) -> Self {
        Self {
            inner,
            connection,
            shared,
            head: Head::new(),
            frames: None,
            timer: None,
            refused: None,
        }
    }

    /// Presents this connection as HTTP/2 from its first byte on.
    pub fn speak_http2(&mut self) {
        self.end_head();
        self.connection.set_http2();
        self.frames = Some(Frames::new());
    }

    pub fn is_http2(&self) -> bool {
        self.frames.is_some()
    }

    /// What the bytes read ahead say about the client's protocol.
    pub fn opening(&self) -> Opening {
        self.head.opening()
    }

    /// Makes ready for the next head.
    pub fn await_next_head(&mut self) {
        self.head.clear();
        self.timer = None;
        self.connection.set_phase(Phase::Awaiting);
    }

    /// Begins a head whose first bytes, and perhaps more than it, a session already holds.
    pub fn begin_pipelined_head(&mut self) {
        self.head.delivered_more();
        self.begin_head();
    }

    fn begin_head(&mut self) {
        self.connection.set_phase(Phase::Reading);
        self.head.begin(Start {
            at: clock::now(),
            received: self.connection.bytes_received(),
            sent: self.connection.bytes_sent(),
        });
    }

    /// Whether the last session may hold bytes of the next request.
    pub fn may_have_read_more(&self) -> bool {
        self.head.may_have_more()
    }

    /// Reads the beginning of the next head without taking it from the session. Zero is the end.
    pub fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(self.head.space());
        match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => {
                let count = buffer.filled().len();
                self.note_arrival(count);
                self.head.read_ahead(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(self.poll_deadline(cx));
                self.give_up(cx);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Counts bytes from the client; the first of a head starts its deadline.
    fn note_arrival(&mut self, count: usize) {
        if count > 0 && self.connection.phase() == Phase::Awaiting {
            self.begin_head();
        }
        self.connection.count_received(count);
    }

    /// Looks at what the session is about to get: `ahead` bytes of it were read before.
    fn note_delivery(&mut self, bytes: &[u8], ahead: usize) {
        let fresh = bytes.get(ahead..).unwrap_or_default();
        self.note_arrival(fresh.len());
        if let Some(frames) = &mut self.frames {
            match (frames.follow(bytes), self.head.start()) {
                (true, None) => self.head.begin(Start {
                    at: clock::now(),
                    received: self.connection.bytes_received(),
                    sent: self.connection.bytes_sent(),
                }),
                (false, Some(_)) => self.end_head(),
                _ => {}
            }
        } else if self.connection.phase() == Phase::Received {
            self.head.delivered_more();
            self.timer = None;
        } else {
            self.head.keep(fresh);
            self.head.delivered_chunk(bytes);
        }
    }

    fn end_head(&mut self) {
        self.head.end();
        self.timer = None;
    }

    /// Whether a head has begun and no hook has seen it yet.
    fn head_unfinished(&self) -> bool {
        self.is_http2() || self.connection.phase() == Phase::Reading
    }

    /// Ready when the head at hand has taken too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.head_unfinished() {
            return Poll::Pending;
        }
        let limit = self.shared.limits.header_deadline;
        let Some(until) = self
            .head
            .start()
            .and_then(|start| start.at.checked_add(limit))
        else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::from_std(until))));
        timer.as_mut().poll(cx)
    }

    /// Whether the answer to an HTTP/1 request is overdue; wakes its server when it will be.
    fn answer_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_http2() || self.connection.phase() != Phase::Received {
            return false;
        }
        let Some(until) = self.connection.answer_deadline().map(Instant::from_std) else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    /// Ends the connection because its head took too long, with a 408 where the client can read one.
    fn give_up(&mut self, cx: &mut Context<'_>) {
        let mut status = None;
        // What does not fit at once stays unsaid: a client that reads nothing is not waited for.
        if !self.is_http2()
            && let Poll::Ready(Ok(count)) = Pin::new(&mut self.inner).poll_write(cx, TIMEOUT_ANSWER)
        {
            self.connection.count_sent(count);
            status = Some(CauseKind::HeaderTimeout.status());
            if Pin::new(&mut self.inner).poll_flush(cx).is_ready() {
                let _ = Pin::new(&mut self.inner).poll_shutdown(cx);
            }
        }
        self.connection.set_phase(Phase::Cut);
        self.report(CauseKind::HeaderTimeout, status);
        self.end_head();
    }

    /// Notes the status if `bytes` answer a head that no hook has seen.
    fn note_answer(&mut self, bytes: &[u8]) {
        if self.refused.is_none()
            && self.connection.phase() != Phase::Received
            && !self.is_http2()
            && let Some(status) = refusing_status(bytes)
        {
            self.refused = Some(status);
            self.timer = None;
        }
    }

    /// Reports an answer of Pingora's parser, once.
    pub(super) fn report_refused(&mut self) {
        if let Some(status) = self.refused.take() {
            let kind = match status {
                405 => CauseKind::MethodNotAllowed,
                _ => CauseKind::EarlyRefusal,
            };
            self.report(kind, Some(status));
        }
    }

    fn report(&self, kind: CauseKind, status: Option<u16>) {
        let connection = &self.connection;
        let (received, sent) = (connection.bytes_received(), connection.bytes_sent());
        let start = self.head.start();
        self.shared.observer.refused(EarlyRefusal {
            connection: connection.clone(),
            kind,
            status,
            request_line: if self.is_http2() {
                String::new()
            } else {
                self.head.request_line()
            },
            bytes_received: received - start.map_or(received, |start| start.received),
            bytes_sent: sent - start.map_or(0, |start| start.sent),
            elapsed: start
                .map(|start| clock::now().duration_since(start.at))
                .unwrap_or_default(),
        });
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let mut ahead = 0;
        if this.head.has_ahead() {
            let more = this.head.deliver(buffer);
            ahead = buffer.filled().len() - before;
            if !more {
                this.note_delivery(buffer.filled().get(before..).unwrap_or_default(), ahead);
                return Poll::Ready(Ok(()));
            }
        }
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            // What was read ahead is good; an error will come again.
            Poll::Pending | Poll::Ready(Err(_)) if ahead > 0 => {}
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if this.connection.poll_released(cx).is_ready() => {
                return Poll::Ready(Err(io::Error::other(Released)));
            }
            Poll::Pending if this.answer_overdue(cx) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending => {
                ready!(this.poll_deadline(cx));
                this.give_up(cx);
                return if this.is_http2() {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                } else {
                    // The server of this connection sees the cut and drops it: an error here
                    // would make Pingora write a line to the log for each slow client.
                    Poll::Pending
                };
            }
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() && !this.is_http2() && this.connection.phase() == Phase::Reading {
            // The client left within a head: nothing to answer, nothing to log.
            this.connection.set_phase(Phase::Cut);
            return Poll::Pending;
        }
        if !bytes.is_empty() {
            this.note_delivery(bytes, ahead);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_answer(bytes);
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.connection.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(first) = slices.first() {
            this.note_answer(first);
        }
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, slices))?;
        this.connection.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.inner).poll_shutdown(cx));
        this.report_refused();
        Poll::Ready(result)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.report_refused();
    }
}

/// The status in `bytes` if they begin an answer that refuses a request.
fn refusing_status(bytes: &[u8]) -> Option<u16> {
    let rest = bytes
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    let status: u16 = std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?;
    (400..600).contains(&status).then_some(status)
}
