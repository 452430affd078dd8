//! Waiting for a client's next request: how long, and what shortens it.
//!
//! One per connection. Its timer is set once and only looked at again when it goes off, so that
//! keep-alive requests cost no timer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pingora_core::server::ShutdownWatch;
use tokio::time::Sleep;

use super::limits::ListenerLimits;
use super::socket::Socket;
use crate::base::clock;

pub(super) struct Patience {
    idle: Duration,
    drain_idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Ends when the listener closes; gone once it has.
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Patience {
    pub fn new(limits: &ListenerLimits, shutdown: &ShutdownWatch) -> Self {
        let mut shutdown = shutdown.clone();
        Self {
            idle: limits.keepalive_idle,
            drain_idle: limits.drain_idle,
            timer: None,
            // A lost sender means the same: nobody will ever close this listener properly.
            closing: Some(Box::pin(async move {
                drop(shutdown.wait_for(|closing| *closing).await)
            })),
        }
    }

    /// Waits for bytes from the client. False if it left, or waited too long with its next head.
    pub async fn wait(&mut self, socket: &mut Socket) -> bool {
        let mut since = clock::now();
        poll_fn(|cx| {
            if let Poll::Ready(read) = socket.poll_read_ahead(cx) {
                return Poll::Ready(matches!(read, Ok(count) if count > 0));
            }
            if self
                .closing
                .as_mut()
                .is_some_and(|closing| closing.as_mut().poll(cx).is_ready())
            {
                self.closing = None;
                since = clock::now();
            }
            ready!(self.poll_over(since, cx));
            Poll::Ready(false)
        })
        .await
    }

    /// Ready when the time that began at `since` is over.
    fn poll_over(&mut self, since: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let limit = if self.closing.is_some() {
            self.idle
        } else {
            self.drain_idle
        };
        let Some(until) = since.checked_add(limit).map(tokio::time::Instant::from_std) else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        // One that goes off earlier is a leftover of an earlier wait, and is set anew then.
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}
