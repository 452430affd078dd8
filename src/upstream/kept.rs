//! One connection that all calls to a place share, made when the first needs it.
//!
//! A task of its own makes the connection, so that a call with little time does not give up what
//! the next one needs. One that cannot be made is not tried again for a while, and calls fail at
//! once meanwhile; one on which nothing is answered any more is made anew.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::debug;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::base::clock;

/// After a connection that could not be made; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Calls in a row that may go unanswered before their connection is taken for dead.
pub(super) const PATIENCE: u32 = 8;

/// Drives a connection to its end; says how it ended.
pub(super) type Driver = Pin<Box<dyn Future<Output = String> + Send>>;

/// How connections to a place are made.
pub(super) trait Dial: Send + Sync + 'static {
    /// What calls are made with; ends its connection when all are dropped.
    type Client: Clone + Send + Sync + 'static;

    /// Makes a connection. What it gives besides the client drives it to its end.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    fn dial(&self) -> impl Future<Output = Result<(Self::Client, Driver), String>> + Send;

    /// For the log.
    fn place(&self) -> String;
}

/// The connection to one place.
pub(super) struct Kept<D: Dial> {
    pub dial: D,
    runtime: Handle,
    link: watch::Sender<Link<D::Client>>,
    /// Connections that were made.
    made: AtomicU64,
    /// Calls in a row that were not answered in time.
    unanswered: AtomicU32,
    /// Whether any was answered since the connection was made.
    answered: AtomicBool,
}

/// There is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unconnected;

/// How a connection stands.
#[derive(Clone)]
enum Link<C> {
    None,
    /// It is being made.
    Dialling,
    Up {
        client: C,
        number: u64,
    },
    /// The next one is made after `until` at the earliest.
    Failed {
        until: Instant,
        pause: Duration,
    },
}

impl<D: Dial> Kept<D> {
    pub(super) fn new(dial: D, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            dial,
            runtime,
            link: watch::Sender::new(Link::None),
            made: AtomicU64::new(0),
            unanswered: AtomicU32::new(0),
            answered: AtomicBool::new(false),
        })
    }

    /// What to call with, once there is a connection.
    ///
    /// # Errors
    /// It cannot be made, or could not a moment ago.
    pub(super) async fn client(self: &Arc<Self>) -> Result<D::Client, Unconnected> {
        if let Link::Up { client, .. } = &*self.link.borrow() {
            return Ok(client.clone());
        }
        let mut link = self.link.subscribe();
        loop {
            let now = clock::now();
            let seen = link.borrow_and_update().clone();
            match seen {
                Link::Up { client, .. } => return Ok(client),
                Link::Failed { until, .. } if now < until => return Err(Unconnected),
                Link::None | Link::Failed { .. } => self.begin(now),
                Link::Dialling => {}
            }
            link.changed().await.map_err(|_| Unconnected)?;
        }
    }

    /// A call was answered.
    pub(super) fn heard(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
        self.answered.store(true, Ordering::Relaxed);
    }

    /// A call was not answered in time. The connection is given up when it was not the first.
    pub(super) fn missed(&self) {
        if self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 < PATIENCE {
            return;
        }
        self.unanswered.store(0, Ordering::Relaxed);
        self.link.send_if_modified(|link| {
            let is_up = matches!(link, Link::Up { .. });
            if is_up {
                *link = Link::None;
            }
            is_up
        });
    }

    /// Begins a connection, unless somebody did.
    fn begin(self: &Arc<Self>, now: Instant) {
        let mut pause = PAUSE;
        let begins = self.link.send_if_modified(|link| {
            match link {
                Link::None => {}
                Link::Failed { until, pause: next } if now >= *until => pause = *next,
                _ => return false,
            }
            *link = Link::Dialling;
            true
        });
        if begins {
            self.runtime.spawn(keep(self.clone(), pause));
        }
    }

    fn failed(pause: Duration) -> Link<D::Client> {
        let now = clock::now();
        Link::Failed {
            until: now.checked_add(pause).unwrap_or(now),
            pause: (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Makes a connection and drives it to its end.
async fn keep<D: Dial>(kept: Arc<Kept<D>>, pause: Duration) {
    let (client, connection) = match kept.dial.dial().await {
        Ok(made) => made,
        Err(error) => {
            debug!("no connection to {}: {error}", kept.dial.place());
            kept.link.send_replace(Kept::<D>::failed(pause));
            return;
        }
    };
    let number = kept.made.fetch_add(1, Ordering::Relaxed);
    kept.unanswered.store(0, Ordering::Relaxed);
    kept.answered.store(false, Ordering::Relaxed);
    kept.link.send_replace(Link::Up { client, number });
    let weak = Arc::downgrade(&kept);
    drop(kept);
    // Also when nobody can call over it any more.
    let ended = connection.await;
    let Some(kept) = weak.upgrade() else {
        return;
    };
    debug!("the connection to {} has ended: {ended}", kept.dial.place());
    kept.link.send_if_modified(|link| {
        let is_own = matches!(link, Link::Up { number: own, .. } if *own == number);
        if is_own {
            *link = match kept.answered.load(Ordering::Relaxed) {
                true => Link::None,
                false => Kept::<D>::failed(pause),
            };
        }
        is_own
    });
}
