//! The HTTP/2 connections of one endpoint: one dial at a time, shared by those who wait for it.
//!
//! Left to itself Pingora dials once for every request that finds no connection, and also for
//! one that looks while another thread has the connection in its hands. So a request is given
//! its line beforehand, and only the one that makes a line may dial: to the others Pingora's
//! attempt is refused ([`is_refusal`]), and they look again.
//!
//! A miss alone says nothing: another thread may have the connection in its hands, and on a busy
//! machine it may be stopped right there, for as long as the system likes. So whoever missed
//! looks again alone: it waits until nobody else looks. What can still have the connection then
//! is a request that ends and gives its stream back, which the waits in between are for. Only
//! after that is the connection taken to be full or gone.
//!
//! How many requests an origin allows is known with its first frame. Of what is sent on a new
//! connection before that, the h2 crate holds back what is too much, for as long as the others
//! take, or the origin refuses it without looking at it (RFC 9113 section 5.1.2). So the others
//! follow the first request a moment later, and [`Seat::refused`] tells what is refused
//! nevertheless from other refusals.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use tokio::net::TcpSocket;
use tokio::sync::OwnedSemaphorePermit;

use super::dial::SocketHook;
use super::line::{Line, State, Terms};

/// How long a request waits before each look for its line's connection, all but the first
/// alone. After the last it takes the line to be full.
const LOOKS: [Duration; 4] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(10),
];

const REFUSAL: ErrorType = ErrorType::Custom("the connection was not to be found");

/// Refuses to dial. Without state: it is shared by all.
static REFUSE: LazyLock<SocketHook> =
    LazyLock::new(|| Arc::new(|_: &TcpSocket| Err(Error::new(REFUSAL))));

/// The lines to one endpoint.
#[derive(Debug)]
pub(super) struct Shared {
    /// Of this stay of the endpoint in its cluster.
    key: u64,
    /// The line that took the last request.
    current: ArcSwapOption<Line>,
    lines: Mutex<Vec<Arc<Line>>>,
    learned: Arc<AtomicUsize>,
}

/// A request's place on a line.
#[derive(Debug)]
pub(super) struct Seat {
    line: Arc<Line>,
    /// Made the line, so it dials.
    dials: bool,
    opened: bool,
    /// Opened before the origin had said how many requests it allows.
    early: bool,
    /// The response ended without trailers, or has not begun.
    clean: bool,
    /// Looks that missed.
    looks: usize,
    /// While it looks.
    turn: Option<OwnedSemaphorePermit>,
}

/// Whether an attempt ended before it began, because only the dialler of a line may dial.
pub fn is_refusal(error: &Error) -> bool {
    *error.etype() == REFUSAL
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            key: fastrand::u64(..),
            current: ArcSwapOption::empty(),
            lines: Mutex::default(),
            learned: Arc::default(),
        }
    }
}

impl Shared {
    /// Part of the pool key of HTTP/1.1 connections that Pingora pools.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// A place on a line that is open, or about to be opened by the holder.
    pub(super) async fn seat(&self, addr: SocketAddr, terms: Terms) -> Seat {
        loop {
            let seat = self.seat_now(addr, terms);
            if seat.dials {
                return seat;
            }
            match seat.line.settled().await {
                State::Open => {
                    seat.line.greeting().await;
                    return seat;
                }
                // Each finds out for itself, at once: one after another would take for ever.
                State::Failed => return self.dial(addr, terms),
                State::Dialing | State::Retired => {}
            }
        }
    }

    fn seat_now(&self, addr: SocketAddr, terms: Terms) -> Seat {
        let current = self.current.load();
        if let Some(line) = &*current
            && line.terms == terms
            && line.join()
        {
            return Seat::on(line.clone(), false);
        }
        let mut lines = self.lines();
        lines.retain(|line| {
            if !line.terms.agree(&terms) {
                line.retire();
            }
            !line.is_spent()
        });
        let ours = || lines.iter().filter(|line| line.terms == terms);
        let open = ours().filter(|line| line.state() == State::Open);
        let dialled = ours().filter(|line| line.state() == State::Dialing);
        let joined = open.chain(dialled).find(|line| line.join());
        let (line, dials) = match joined {
            Some(line) => (line.clone(), false),
            None => {
                let line = self.line(addr, terms);
                lines.push(line.clone());
                (line, true)
            }
        };
        self.current.store(Some(line.clone()));
        Seat::on(line, dials)
    }

    /// A place on a line that the holder opens, whatever others there are.
    pub(super) fn dial(&self, addr: SocketAddr, terms: Terms) -> Seat {
        let line = self.line(addr, terms);
        self.lines().push(line.clone());
        Seat::on(line, true)
    }

    fn line(&self, addr: SocketAddr, terms: Terms) -> Arc<Line> {
        Line::new(
            addr,
            terms,
            State::Dialing,
            Weak::new(),
            self.learned.clone(),
        )
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    /// The endpoint is gone: nobody would use its idle connections again.
    fn drop(&mut self) {
        for line in self.lines().iter() {
            line.retire();
        }
    }
}

impl Seat {
    fn on(line: Arc<Line>, dials: bool) -> Self {
        Self {
            line,
            dials,
            opened: false,
            early: false,
            clean: true,
            looks: 0,
            turn: None,
        }
    }

    pub(super) fn prepare(&self, peer: &mut HttpPeer) {
        if self.dials {
            self.line.attach(peer);
        } else {
            peer.group_key = self.line.key;
            peer.options.upstream_tcp_sock_tweak_hook = Some(REFUSE.clone());
        }
    }

    /// Waits until it may look for its line's connection, right before it does.
    pub(super) async fn look(&mut self) {
        self.turn = None;
        if self.dials {
            return;
        }
        match LOOKS.get(self.looks) {
            Some(wait) if !wait.is_zero() => tokio::time::sleep(*wait).await,
            _ => {}
        }
        self.turn = self.line.turn(self.looks > 0).await;
    }

    /// The attempt has its connection.
    pub(super) fn connected(&mut self) {
        self.turn = None;
        if !self.opened {
            self.opened = true;
            self.early = self.line.stream_opened();
        }
        if self.dials {
            self.line.opened();
        }
    }

    pub(super) fn dials(&self) -> bool {
        self.dials
    }

    /// The holder's dial failed, or the connection that it found was broken already.
    pub(super) fn dial_failed(&mut self) {
        self.turn = None;
        if self.dials {
            self.line.failed();
        } else {
            self.line.retire();
        }
    }

    /// The origin is not the one that is meant: nobody is to use the connection.
    pub(super) fn reject(&mut self) {
        self.turn = None;
        match self.dials {
            true => self.line.failed(),
            false => self.line.retire(),
        }
    }

    /// The origin began to answer.
    pub(super) fn answered(&self) {
        self.line.greeted();
    }

    /// The origin refused the request. Whether it may be one too many only because the origin
    /// had not said yet how many it allows.
    pub(super) fn refused(&mut self) -> bool {
        std::mem::take(&mut self.early) && self.line.refused_early()
    }

    /// The connection was not to be found. Whether it is worth to look again.
    pub(super) fn look_again(&mut self) -> bool {
        self.turn = None;
        self.looks += 1;
        if self.looks >= LOOKS.len() {
            self.line.refused();
            return false;
        }
        self.line.state() == State::Open && !self.line.is_full()
    }

    /// Whether all of the response that has come so far is free of empty DATA frames.
    pub(super) fn set_clean(&mut self, clean: bool) {
        self.clean = clean;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.opened {
            self.line.stream_closed();
        }
        if self.dials && self.line.state() == State::Dialing {
            // Nobody will find out: those who wait dial anew.
            self.line.retire();
        }
        self.line.leave(self.clean);
    }
}

#[cfg(test)]
mod tests;
