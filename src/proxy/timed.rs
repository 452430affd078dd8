//! An HTTP/2 request that ends from outside: by a route's timeout, or with the process.
//!
//! While an origin says nothing, the one thing Pingora polls that can be ours is the client's side
//! of the request. On HTTP/1 that is the socket ([`Connection::answer_by`]); an HTTP/2 request has
//! none of its own, so it is wrapped: the wait that follows the request's last byte ends in an
//! error when the time is over. Pingora's own timer is one per read of the origin and would
//! count the upload in.
//!
//! [`Connection::answer_by`]: crate::listener::Connection::answer_by

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as Custom;
use pingora_core::protocols::http::v2::server::HttpSession as Http2;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use tokio::time::{Instant, sleep_until};

use crate::base::clock;
use crate::listener::{Released, Streaming};

type Messages = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// When the wait for an origin ends; the steps of the request set it.
#[derive(Debug)]
pub(super) struct Alarm {
    made: std::time::Instant,
    /// Microseconds after `made`; 0 is never.
    at: AtomicU64,
    /// The answer, where it may have no end.
    streaming: OnceLock<Streaming>,
}

impl Alarm {
    fn new() -> Self {
        Self {
            made: clock::now(),
            at: AtomicU64::new(0),
            streaming: OnceLock::new(),
        }
    }

    /// Ends the request when its answer is released, from the next wait on.
    pub(super) fn stream(&self, streaming: Streaming) {
        // A request has one answer.
        let _ = self.streaming.set(streaming);
    }

    async fn released(&self) {
        match self.streaming.get() {
            Some(streaming) => streaming.released().await,
            None => pending().await,
        }
    }

    /// Read anew by each wait that begins: Pingora begins one with each event of the request.
    pub(super) fn set(&self, deadline: Option<std::time::Instant>) {
        let after = deadline.map_or(0, |deadline| {
            let after = deadline.saturating_duration_since(self.made).as_micros();
            u64::try_from(after).unwrap_or(u64::MAX).max(1)
        });
        self.at.store(after, Ordering::Release);
    }

    fn deadline(&self) -> Option<Instant> {
        match self.at.load(Ordering::Acquire) {
            0 => None,
            after => self.made.checked_add(Duration::from_micros(after)),
        }
        .map(Instant::from_std)
    }
}

/// The request's session, and what watches over the answer.
struct Timed {
    inner: Http2,
    alarm: Arc<Alarm>,
}

/// Puts an HTTP/2 request under an alarm; `None` for others, which are left alone.
pub(super) fn bound(session: &mut Session) -> Option<Arc<Alarm>> {
    if !session.is_http2() {
        return None;
    }
    let alarm = Arc::new(Alarm::new());
    // Stands in for the moment of the exchange; it is never asked anything.
    let placeholder = ServerSession::new_custom(Box::new(()));
    let own = std::mem::replace(session.as_downstream_mut(), placeholder);
    *session.as_downstream_mut() = match own {
        ServerSession::H2(inner) => ServerSession::new_custom(Box::new(Timed {
            inner,
            alarm: alarm.clone(),
        })),
        other => other,
    };
    Some(alarm)
}

#[async_trait]
impl Custom for Timed {
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let is_complete = no_body_expected || self.inner.is_body_done();
        let alarm = &self.alarm;
        let late = async {
            match alarm.deadline().filter(|_| is_complete) {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            left = self.inner.read_body_or_idle(is_complete) => left,
            () = late => Error::e_explain(ErrorType::ReadTimedout, "route timeout"),
            () = alarm.released() => {
                let released = std::io::Error::other(Released);
                Error::e_because(ErrorType::ReadError, "the process ends", released)
            }
        }
    }

    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner.read_body_bytes().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.inner.write_response_header(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.inner.write_response_header_ref(head, end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.inner.response_duplex_vec(tasks).await
    }

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.inner.shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.inner.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }

    fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.inner.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.inner.get_retry_buffer()
    }

    // What follows concerns protocols with messages beside the body; HTTP/2 has none.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}
