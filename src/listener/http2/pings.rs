//! Whether a client that says nothing is still there: PING frames (RFC 9113 section 6.7), as by
//! Envoy's `connection_keepalive`.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

use crate::base::clock;
use crate::listener::connection::Connection;

/// When clients are asked, and how long they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingRule {
    /// Between an answer and the next PING.
    pub every: Duration,
    /// Time without a single byte from the client, its answer among them, that ends the connection.
    pub within: Duration,
}

/// The PINGs of one connection.
pub(super) struct Pings {
    rule: PingRule,
    pong: PingPong,
    connection: Arc<Connection>,
    timer: Pin<Box<Sleep>>,
    /// While an answer is awaited: the bytes that had come from the client when time began.
    asked: Option<u64>,
}

impl Pings {
    pub fn new(rule: PingRule, pong: PingPong, connection: Arc<Connection>) -> Self {
        Self {
            rule,
            pong,
            connection,
            timer: Box::pin(tokio::time::sleep_until(from_now(rule.every))),
            asked: None,
        }
    }

    /// Asks again and again, and ends when the client is found to be gone.
    pub async fn unanswered(&mut self) {
        loop {
            tokio::select! {
                biased;
                answer = poll_fn(|cx| self.pong.poll_pong(cx)), if self.asked.is_some() => {
                    if answer.is_err() {
                        return over().await;
                    }
                    self.asked = None;
                    self.timer.as_mut().reset(from_now(self.rule.every));
                }
                () = self.timer.as_mut() => {
                    let received = self.connection.bytes_received();
                    match self.asked {
                        // What else it says may stand before its answer in a slow connection.
                        Some(before) if before == received => return,
                        Some(_) => {}
                        None if self.pong.send_ping(Ping::opaque()).is_err() => {
                            return over().await;
                        }
                        None => {}
                    }
                    self.asked = Some(received);
                    self.timer.as_mut().reset(from_now(self.rule.within));
                }
            }
        }
    }
}

/// The connection ends by itself, which is seen where its streams are accepted.
async fn over() {
    pending().await
}

fn from_now(after: Duration) -> Instant {
    Instant::from_std(clock::now()) + after
}
