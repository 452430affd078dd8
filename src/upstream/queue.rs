//! The HTTP/1.1 connections of a cluster that limits them, and the requests that wait for one.
//!
//! As in Envoy, a request takes an idle connection of its endpoint, or makes one if fewer than
//! `maxConnections` exist, idle ones of all endpoints included, or if its endpoint has none at
//! all. Otherwise it waits, first come, first served; more than `http1MaxPendingRequests` do not.
//! Unlike Envoy's, a request whose connection is being dialled does not count as waiting: there
//! a small limit refuses requests of a cold burst that connections are free for.
//!
//! Everything is counted under one lock; clusters without such limits never come here.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_core::upstreams::peer::HttpPeer;
use tokio::sync::oneshot;

use crate::plan::Pool;

use super::line::{Line, State, Terms};

/// The connections of one cluster.
#[derive(Debug)]
pub(super) struct Queue {
    book: Mutex<Book>,
}

/// A connection in the hands of one request.
#[derive(Debug)]
pub(super) struct Hold {
    queue: Arc<Queue>,
    line: Arc<Line>,
}

/// A connection that is not HTTP: it takes a place and is never shared.
#[derive(Debug)]
pub(super) struct Counted(Arc<Queue>);

/// The cluster will not have one more waiting request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug, Default)]
struct Book {
    max_connections: usize,
    max_pending: usize,
    /// Lines that exist: held, idle or closing.
    connections: usize,
    endpoints: HashMap<SocketAddr, Lines>,
    pending: VecDeque<Pending>,
    tickets: u64,
}

/// The lines to one endpoint.
#[derive(Debug, Default)]
struct Lines {
    /// Held, idle or closing.
    count: usize,
    /// Most recently used last.
    idle: Vec<Arc<Line>>,
    /// In the hands of requests.
    held: Vec<Arc<Line>>,
}

#[derive(Debug)]
struct Pending {
    ticket: u64,
    addr: SocketAddr,
    terms: Terms,
    /// Cannot use an idle connection.
    fresh: bool,
    wake: oneshot::Sender<Hold>,
}

/// A hold on its way to the request that waited for it, to be sent without the lock: if the
/// request is gone, the hold comes back here.
type Granted = (oneshot::Sender<Hold>, Hold);

/// Takes a request out of the queue that stops waiting.
struct Ticket<'q> {
    queue: &'q Queue,
    number: u64,
}

impl Queue {
    pub(super) fn new(pool: &Pool) -> Arc<Self> {
        let queue = Arc::new(Self {
            book: Mutex::default(),
        });
        queue.define(pool);
        queue
    }

    /// Takes new limits. Idle connections are closed, as they were made under other settings;
    /// held ones end with their request.
    pub(super) fn define(self: &Arc<Self>, pool: &Pool) {
        let number = |limit: Option<std::num::NonZeroU32>| {
            limit.map_or(usize::MAX, |limit| {
                usize::try_from(limit.get()).unwrap_or(usize::MAX)
            })
        };
        let mut book = self.book();
        book.max_connections = number(pool.max_connections);
        book.max_pending = number(pool.max_pending);
        let mut granted = Vec::new();
        while let Some(grant) = book.grant_any(self) {
            granted.push(grant);
        }
        let idle = book.take_idle(|_| true);
        drop(book);
        send(granted);
        idle.iter().for_each(|line| line.retire());
    }

    /// Closes idle connections to addresses that do not belong to the cluster any more.
    pub(super) fn keep_only(&self, belongs: impl Fn(&SocketAddr) -> bool) {
        let idle = self.book().take_idle(|addr| !belongs(addr));
        idle.iter().for_each(|line| line.retire());
    }

    /// A connection to `addr`, waited for if need be; a `fresh` one has never been used.
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) async fn hold(
        self: &Arc<Self>,
        addr: SocketAddr,
        terms: Terms,
        fresh: bool,
    ) -> Result<Hold, Full> {
        let (number, granted) = {
            let mut book = self.book();
            let mut spent = Vec::new();
            let line = book.line(self, addr, terms, fresh, &mut spent);
            let waits = if line.is_none() {
                book.wait(addr, terms, fresh, &mut spent)
            } else {
                None
            };
            drop(book);
            spent.iter().for_each(|line| line.retire());
            match (line, waits) {
                (Some(line), _) => {
                    let queue = self.clone();
                    return Ok(Hold { queue, line });
                }
                (None, Some(waits)) => waits,
                (None, None) => return Err(Full),
            }
        };
        let ticket = Ticket {
            queue: self,
            number,
        };
        let hold = granted.await;
        drop(ticket);
        // The sender lives as long as the ticket.
        hold.map_err(|_| Full)
    }

    /// A place for a connection that is not HTTP; `None` if there is none.
    pub(super) fn count(self: &Arc<Self>) -> Option<Counted> {
        let mut book = self.book();
        if book.connections >= book.max_connections {
            return None;
        }
        book.connections += 1;
        Some(Counted(self.clone()))
    }

    /// A line's socket was closed.
    pub(super) fn closed(self: &Arc<Self>, line: &Arc<Line>) {
        let mut book = self.book();
        let granted = match book.endpoints.get_mut(&line.addr) {
            // Its holder gives it back.
            Some(lines) if lines.held.iter().any(|held| Arc::ptr_eq(held, line)) => None,
            Some(lines) => {
                lines.idle.retain(|idle| !Arc::ptr_eq(idle, line));
                book.forget(self, line)
            }
            None => None,
        };
        drop(book);
        send(granted);
    }

    /// A request has done with its line.
    fn release(self: &Arc<Self>, line: &Arc<Line>) {
        let mut book = self.book();
        let Some(lines) = book.endpoints.get_mut(&line.addr) else {
            return;
        };
        lines.held.retain(|held| !Arc::ptr_eq(held, line));
        line.leave(true);
        let granted = if !line.is_connected() {
            book.forget(self, line)
        } else if line.is_spent() {
            // `closed` follows.
            None
        } else {
            book.hand_on(self, line)
        };
        drop(book);
        send(granted);
    }

    /// Connections that exist, and requests that wait for one.
    pub(super) fn load(&self) -> (usize, usize) {
        let book = self.book();
        (book.connections, book.pending.len())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Each step leaves the book whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// An idle line, or a new one if there may be one.
    fn line(
        &mut self,
        queue: &Arc<Queue>,
        addr: SocketAddr,
        terms: Terms,
        fresh: bool,
        spent: &mut Vec<Arc<Line>>,
    ) -> Option<Arc<Line>> {
        let lines = self.endpoints.entry(addr).or_default();
        if !fresh {
            // The most recently used of those that may carry the request.
            while let Some(index) = lines.idle.iter().rposition(|line| fits(line, &terms)) {
                let line = lines.idle.remove(index);
                if line.join() {
                    lines.held.push(line.clone());
                    return Some(line);
                }
                spent.push(line);
            }
            let old = |line: &mut Arc<Line>| line.terms.generation != terms.generation;
            spent.extend(lines.idle.extract_if(.., old));
        }
        let lines = self.endpoints.entry(addr).or_default();
        (self.connections < self.max_connections || lines.count == 0)
            .then(|| self.open(queue, addr, terms))
    }

    fn open(&mut self, queue: &Arc<Queue>, addr: SocketAddr, terms: Terms) -> Arc<Line> {
        let terms = Terms {
            streams: 1,
            ..terms
        };
        let line = Line::new(
            addr,
            terms,
            State::Open,
            Arc::downgrade(queue),
            Arc::default(),
        );
        self.connections += 1;
        let lines = self.endpoints.entry(addr).or_default();
        lines.count += 1;
        lines.held.push(line.clone());
        line
    }

    /// Queues a request, unless too many wait.
    fn wait(
        &mut self,
        addr: SocketAddr,
        terms: Terms,
        fresh: bool,
        spent: &mut Vec<Arc<Line>>,
    ) -> Option<(u64, oneshot::Receiver<Hold>)> {
        if self.pending.len() >= self.max_pending {
            return None;
        }
        if let Some(lines) = self.endpoints.get_mut(&addr) {
            // It cannot use any of these: one makes room for its own.
            spent.extend(lines.idle.pop());
        }
        let (wake, granted) = oneshot::channel();
        self.tickets += 1;
        self.pending.push_back(Pending {
            ticket: self.tickets,
            addr,
            terms,
            fresh,
            wake,
        });
        Some((self.tickets, granted))
    }

    /// A line is gone; somebody may make one in its place.
    fn forget(&mut self, queue: &Arc<Queue>, line: &Line) -> Option<Granted> {
        if !line.counted.swap(false, Ordering::Relaxed) {
            return None;
        }
        let addr = line.addr;
        self.connections -= 1;
        let mut orphaned = false;
        if let Some(lines) = self.endpoints.get_mut(&addr) {
            lines.count -= 1;
            if lines.count == 0 {
                self.endpoints.remove(&addr);
                orphaned = true;
            }
        }
        if let Some(granted) = self.grant_any(queue) {
            return Some(granted);
        }
        // An endpoint without connections may have one, or those who wait for it wait for ever.
        let first = self
            .pending
            .iter()
            .position(|pending| orphaned && pending.addr == addr)?;
        let pending = self.pending.remove(first)?;
        Some(self.grant(queue, pending))
    }

    /// Lets the first in the queue make a connection, if there may be one more.
    fn grant_any(&mut self, queue: &Arc<Queue>) -> Option<Granted> {
        if self.connections >= self.max_connections {
            return None;
        }
        let pending = self.pending.pop_front()?;
        Some(self.grant(queue, pending))
    }

    fn grant(&mut self, queue: &Arc<Queue>, pending: Pending) -> Granted {
        let line = self.open(queue, pending.addr, pending.terms);
        let queue = queue.clone();
        (pending.wake, Hold { queue, line })
    }

    /// Gives a line that is free to the first who waits for its endpoint, or lays it aside.
    fn hand_on(&mut self, queue: &Arc<Queue>, line: &Arc<Line>) -> Option<Granted> {
        let lines = self.endpoints.entry(line.addr).or_default();
        let first = self
            .pending
            .iter()
            .position(|pending| pending.addr == line.addr);
        let Some(pending) = first.and_then(|first| self.pending.get(first)) else {
            lines.idle.push(line.clone());
            return None;
        };
        if pending.fresh || !fits(line, &pending.terms) || !line.join() {
            // `closed` lets one make its own.
            line.retire();
            return None;
        }
        lines.held.push(line.clone());
        let pending = first.and_then(|first| self.pending.remove(first))?;
        let (queue, line) = (queue.clone(), line.clone());
        Some((pending.wake, Hold { queue, line }))
    }

    fn take_idle(&mut self, of: impl Fn(&SocketAddr) -> bool) -> Vec<Arc<Line>> {
        self.endpoints
            .iter_mut()
            .filter(|(addr, _)| of(addr))
            .flat_map(|(_, lines)| std::mem::take(&mut lines.idle))
            .collect()
    }
}

impl Hold {
    pub(super) fn prepare(&self, peer: &mut HttpPeer) {
        self.line.attach(peer);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.queue.release(&self.line);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut book = self.0.book();
        book.connections -= 1;
        let granted = book.grant_any(&self.0);
        drop(book);
        send(granted);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut book = self.queue.book();
        book.pending.retain(|pending| pending.ticket != self.number);
    }
}

/// Whether a line may carry requests of these terms.
fn fits(line: &Line, terms: &Terms) -> bool {
    line.terms.generation == terms.generation && line.terms.private == terms.private
}

fn send(granted: impl IntoIterator<Item = Granted>) {
    for (wake, hold) in granted {
        // One that nobody waits for is dropped here, and so given back.
        let _ = wake.send(hold);
    }
}

#[cfg(test)]
mod tests;
