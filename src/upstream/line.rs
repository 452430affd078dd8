//! One connection to an endpoint, as this room sees it: who uses it, and when it ends.
//!
//! Pingora keeps the sockets and asks nobody about them. A line gets a socket to itself by
//! giving it a pool key that no other line has; so its requests can be counted, it can be
//! retired after some of them or after some time, and it can be closed: the line holds a second
//! handle on the socket, and Pingora drops a pooled connection whose socket was shut down.
//!
//! `shared` has the lines of HTTP/2, which many requests use at a time, `queue` those of
//! HTTP/1.1, where connections are limited.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pingora_core::upstreams::peer::{HttpPeer, Tracer, Tracing};
use pingora_core::{Error, ErrorType};
use tokio::net::TcpSocket;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::queue::Queue;

mod word;

pub(super) use word::State;
use word::Word;

/// HTTP/2 responses on one connection that may have held an empty DATA frame.
///
/// h2 allows a connection 100 such frames before the end of a stream in all its life; the next
/// one fails every stream. They cannot be seen from outside, but nobody has a reason to send one
/// other than to end a body before its trailers, so responses with trailers are counted.
const EMPTY_FRAMES: u8 = 96;

/// How long a new connection carries one request only, unless its origin speaks earlier: its
/// first frame, which says how many it allows, is sent unasked.
const GREETING: Duration = Duration::from_millis(20);

/// Everybody's turn together: more than can hold a line.
const TURNS: u32 = 1 << 16;

/// What a cluster's definition says about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Changes with anything a connection depends on.
    pub generation: u64,
    /// Requests at a time.
    pub streams: usize,
    /// Requests at all; `u32::MAX` for any number.
    pub requests: u32,
    /// Age from which on it takes no new request.
    pub duration: Option<Duration>,
    /// Of those whose requests it is for, where TLS or the PROXY protocol tell them apart.
    pub private: u64,
}

impl Terms {
    /// Whether both are of one definition, though perhaps not for the same requests.
    pub(super) fn agree(&self, other: &Self) -> bool {
        let Self { private, .. } = *other;
        Self { private, ..*self } == *other
    }
}

/// A connection, or the attempt to make one.
#[derive(Debug)]
pub(super) struct Line {
    pub addr: SocketAddr,
    /// The pool key of its socket.
    pub key: u64,
    pub terms: Terms,
    word: AtomicU64,
    /// Requests at a time that the origin was found to allow.
    room: AtomicUsize,
    /// Requests that found the connection open.
    open: AtomicUsize,
    /// The origin has said something, so Pingora knows how many requests it allows.
    greeted: AtomicBool,
    /// That was waited for long enough.
    awaited: AtomicBool,
    /// Requests sent before that, but for those the origin refused.
    early: AtomicUsize,
    /// Most that were open at a time.
    most: AtomicUsize,
    /// The dial ended, either way, or the origin spoke.
    settled: Notify,
    /// Turns to look for the connection in Pingora's pool.
    turns: Arc<Semaphore>,
    /// Sockets; two only while one that was dropped from the pool is being closed.
    sockets: AtomicUsize,
    /// Whether the queue counts it.
    pub counted: AtomicBool,
    socket: Mutex<Option<TcpStream>>,
    /// Who counts it, for HTTP/1.1.
    queue: Weak<Queue>,
    /// Where `room` is handed on to the next line, for HTTP/2.
    learned: Arc<AtomicUsize>,
}

impl Line {
    /// A line held by one request.
    pub(super) fn new(
        addr: SocketAddr,
        terms: Terms,
        state: State,
        queue: Weak<Queue>,
        learned: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        let word = Word {
            state,
            active: 1,
            suspect: 1,
            left: match terms.requests {
                u32::MAX => u32::MAX,
                requests => requests.saturating_sub(1),
            },
        };
        let room = match learned.load(Ordering::Relaxed) {
            0 => usize::MAX,
            room => room,
        };
        Arc::new(Self {
            addr,
            key: fastrand::u64(..),
            terms,
            word: AtomicU64::new(word.pack()),
            room: AtomicUsize::new(room),
            open: AtomicUsize::new(0),
            greeted: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            early: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            settled: Notify::new(),
            turns: Arc::new(Semaphore::new(TURNS as usize)),
            sockets: AtomicUsize::new(0),
            counted: AtomicBool::new(true),
            socket: Mutex::new(None),
            queue,
            learned,
        })
    }

    /// Takes one more request, if there is room for it.
    pub(super) fn join(&self) -> bool {
        let room = self.terms.streams.min(self.room());
        self.change(|word| {
            let fits = usize::from(word.active) < room && word.active < u16::MAX;
            let lives = matches!(word.state, State::Dialing | State::Open);
            (lives && fits && word.left > 0 && word.suspect < EMPTY_FRAMES).then(|| Word {
                active: word.active + 1,
                suspect: word.suspect + 1,
                left: match word.left {
                    u32::MAX => u32::MAX,
                    left => left - 1,
                },
                ..word
            })
        })
        .is_some()
    }

    /// A request is done; `clean` if its response held no empty DATA frame.
    pub(super) fn leave(&self, clean: bool) {
        let left = self.change(|word| {
            Some(Word {
                active: word.active.saturating_sub(1),
                suspect: word.suspect.saturating_sub(u8::from(clean)),
                ..word
            })
        });
        if let Some(word) = left {
            self.close_if_spent(word);
        }
    }

    pub(super) fn state(&self) -> State {
        Word::unpack(self.word.load(Ordering::Acquire)).state
    }

    /// Whether it takes no request any more.
    pub(super) fn is_spent(&self) -> bool {
        let word = Word::unpack(self.word.load(Ordering::Acquire));
        word.is_over() || word.left == 0
    }

    pub(super) fn is_connected(&self) -> bool {
        self.sockets.load(Ordering::Acquire) > 0
    }

    /// The dial succeeded.
    pub(super) fn opened(&self) {
        self.change(|word| {
            (word.state == State::Dialing).then_some(Word {
                state: State::Open,
                ..word
            })
        });
        self.settled.notify_waiters();
    }

    /// The dial failed.
    pub(super) fn failed(&self) {
        self.change(|word| {
            (word.state == State::Dialing).then_some(Word {
                state: State::Failed,
                ..word
            })
        });
        self.settled.notify_waiters();
    }

    /// Lets it end with the requests that use it.
    pub(super) fn retire(&self) {
        let retired = self.change(|word| {
            (!word.is_over()).then_some(Word {
                state: State::Retired,
                ..word
            })
        });
        self.settled.notify_waiters();
        if let Some(word) = retired {
            self.close_if_spent(word);
        }
    }

    /// What became of the dial, once that is known.
    pub(super) async fn settled(&self) -> State {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // From here on nothing is missed.
            settled.as_mut().enable();
            match self.state() {
                State::Dialing => settled.await,
                state => return state,
            }
        }
    }

    /// Waits for a turn to look for the connection in Pingora's pool: with others, or `alone`.
    /// Who looks takes it out of the pool for a moment, so only who looks alone knows from a
    /// miss that it is not there. A turn is held over nothing that waits for a peer.
    pub(super) async fn turn(&self, alone: bool) -> Option<OwnedSemaphorePermit> {
        let width = if alone { TURNS } else { 1 };
        // Never closed.
        self.turns.clone().acquire_many_owned(width).await.ok()
    }

    /// Whether it has all the requests that the origin was found to allow.
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.room()
    }

    /// A request found the connection open. Whether it goes out before the origin has said how
    /// many it allows.
    pub(super) fn stream_opened(&self) -> bool {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        let early = !self.greeted.load(Ordering::Acquire);
        if early {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
        early
    }

    /// The origin answered: with its first frame it has said how many requests it allows.
    pub(super) fn greeted(&self) {
        if !self.greeted.load(Ordering::Relaxed) {
            self.greeted.store(true, Ordering::Release);
            self.settled.notify_waiters();
        }
    }

    /// Waits until the origin has said how many requests it allows, or must have.
    pub(super) async fn greeting(&self) {
        let is_known = || {
            self.greeted.load(Ordering::Acquire)
                || self.awaited.load(Ordering::Relaxed)
                || self.learned.load(Ordering::Relaxed) > 0
                || self.state() != State::Open
        };
        let known = async {
            loop {
                let heard = self.settled.notified();
                tokio::pin!(heard);
                // From here on nothing is missed.
                heard.as_mut().enable();
                if is_known() {
                    return;
                }
                heard.await;
            }
        };
        if tokio::time::timeout(GREETING, known).await.is_err() {
            self.awaited.store(true, Ordering::Relaxed);
            self.settled.notify_waiters();
        }
    }

    /// The origin refused an early request. Whether others went out early too, so that they may
    /// have been too many at a time.
    pub(super) fn refused_early(&self) -> bool {
        self.greeted();
        // What is left once all are counted is what the origin allows.
        let allowed = self.early.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        if allowed == 0 {
            return false;
        }
        self.room.fetch_min(allowed, Ordering::Relaxed);
        self.most.fetch_min(allowed, Ordering::Relaxed);
        self.learn(allowed);
        true
    }

    pub(super) fn stream_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// The connection was not to be found although there was room: it has as many requests as
    /// the origin allows, or it is about to end.
    pub(super) fn refused(&self) {
        let open = self.open.load(Ordering::Relaxed);
        let before = self.most.load(Ordering::Relaxed);
        if open == 0 || open < before.max(self.learned.load(Ordering::Relaxed)) {
            // The origin has allowed more.
            return self.retire();
        }
        self.room.fetch_min(open, Ordering::Relaxed);
        if self.greeted.load(Ordering::Relaxed) {
            self.learned.store(open, Ordering::Relaxed);
        } else {
            // Some of those that are open will be refused.
            self.learn(open);
        }
    }

    /// Requests at a time that the origin allows, as far as is known.
    fn room(&self) -> usize {
        let own = self.room.load(Ordering::Relaxed);
        match self.learned.load(Ordering::Relaxed) {
            // This one's own answer counts from its first on.
            0 => own,
            _ if self.greeted.load(Ordering::Relaxed) => own,
            learned => own.min(learned),
        }
    }

    /// Lowers what the next line begins with.
    fn learn(&self, allowed: usize) {
        let lower = |known: usize| match known {
            0 => Some(allowed),
            known => (allowed < known).then_some(allowed),
        };
        // Nothing to do if it is lower already.
        let _ = self
            .learned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }

    /// Makes `peer` dial this line, or find it.
    pub(super) fn attach(self: &Arc<Self>, peer: &mut HttpPeer) {
        peer.group_key = self.key;
        peer.options.tracer = Some(Tracer(Box::new(Watch(self.clone()))));
        let line = self.clone();
        peer.options.upstream_tcp_sock_tweak_hook =
            Some(Arc::new(move |socket: &TcpSocket| line.keep(socket)));
    }

    fn keep(&self, socket: &TcpSocket) -> Result<(), Box<Error>> {
        let handle = socket.as_fd().try_clone_to_owned().map_err(|error| {
            Error::because(
                ErrorType::InternalError,
                "the socket's second handle",
                error,
            )
        })?;
        *self.socket() = Some(TcpStream::from(handle));
        Ok(())
    }

    fn close_if_spent(&self, word: Word) {
        let ends = word.is_over() || word.left == 0 || word.suspect >= EMPTY_FRAMES;
        if word.active > 0 || !ends {
            return;
        }
        // Another request may have joined since, but then only because it was not over yet.
        let over = self.change(|word| {
            (word.active == 0).then_some(Word {
                state: match word.state {
                    State::Failed => State::Failed,
                    _ => State::Retired,
                },
                ..word
            })
        });
        if over.is_some()
            && let Some(socket) = self.socket().take()
        {
            // One that never connected or is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// The new word, unless `next` has none.
    fn change(&self, next: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
                next(Word::unpack(bits)).map(Word::pack)
            })
            .ok()
            .and_then(|before| next(Word::unpack(before)))
    }

    fn socket(&self) -> std::sync::MutexGuard<'_, Option<TcpStream>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Pingora tells about a line's socket.
#[derive(Debug)]
struct Watch(Arc<Line>);

impl Tracing for Watch {
    fn on_connected(&self) {
        let line = &self.0;
        line.sockets.fetch_add(1, Ordering::AcqRel);
        if let Some(duration) = line.terms.duration
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let line = Arc::downgrade(line);
            runtime.spawn(async move {
                tokio::time::sleep(duration).await;
                if let Some(line) = line.upgrade() {
                    line.retire();
                }
            });
        }
    }

    fn on_disconnected(&self) {
        let line = &self.0;
        if line.sockets.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        // The last handle must be Pingora's, or the origin would not see the end.
        line.socket().take();
        if line.room.load(Ordering::Relaxed) != usize::MAX {
            // It may have been its end and not the origin's limit that refused requests.
            line.learned.store(0, Ordering::Relaxed);
        }
        match line.queue.upgrade() {
            Some(queue) => queue.closed(line),
            None => line.retire(),
        }
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self(self.0.clone()))
    }
}
