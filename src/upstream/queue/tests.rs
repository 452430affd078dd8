//! The queue against a model, and under threads.

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms {
    generation: 1,
    streams: 1,
    requests: u32::MAX,
    duration: None,
    private: 0,
};

fn queue(connections: u32, pending: u32) -> Arc<Queue> {
    Queue::new(&Pool {
        max_connections: NonZeroU32::new(connections),
        max_pending: NonZeroU32::new(pending),
        ..Pool::default()
    })
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

/// What Pingora would tell of the line's socket.
fn connect(hold: &Hold) -> Box<dyn pingora_core::upstreams::peer::Tracing> {
    let mut peer = HttpPeer::new(addr(1), false, String::new());
    hold.prepare(&mut peer);
    let watch = peer.options.tracer.unwrap().0;
    watch.on_connected();
    watch
}

/// A request of the model and of the queue.
enum Request {
    Waits(Pin<Box<dyn Future<Output = Result<Hold, Full>> + Send>>),
    Holds(Hold),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request for an endpoint.
    Ask(u8),
    /// The n-th holder is done; its connection stays or was closed.
    Done(usize, bool),
    /// The n-th waiting request goes away.
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..3_u8).prop_map(Step::Ask),
        2 => (0..8_usize, any::<bool>()).prop_map(|(which, stays)| Step::Done(which, stays)),
        1 => (0..8_usize).prop_map(Step::Leave),
    ]
}

/// The same rules, written down as simply as they can be.
#[derive(Default)]
struct Model {
    max: usize,
    max_pending: usize,
    held: HashMap<SocketAddr, usize>,
    idle: HashMap<SocketAddr, usize>,
    waiting: VecDeque<(u64, SocketAddr)>,
}

impl Model {
    fn of(&self, map: &HashMap<SocketAddr, usize>, addr: SocketAddr) -> usize {
        map.get(&addr).copied().unwrap_or(0)
    }

    fn connections(&self) -> usize {
        self.held.values().sum::<usize>() + self.idle.values().sum::<usize>()
    }

    fn may_open(&self, addr: SocketAddr) -> bool {
        let own = self.of(&self.held, addr) + self.of(&self.idle, addr);
        self.connections() < self.max || own == 0
    }

    /// Whether the request has a connection; `None` for an overflow.
    fn ask(&mut self, id: u64, addr: SocketAddr) -> Option<bool> {
        let idle = self.of(&self.idle, addr);
        if idle > 0 {
            self.idle.insert(addr, idle - 1);
        } else if !self.may_open(addr) {
            if self.waiting.len() >= self.max_pending {
                return None;
            }
            self.waiting.push_back((id, addr));
            return Some(false);
        }
        *self.held.entry(addr).or_default() += 1;
        Some(true)
    }

    /// Who gets a connection.
    fn done(&mut self, addr: SocketAddr, stays: bool) -> Option<u64> {
        *self.held.entry(addr).or_default() -= 1;
        let next = if stays {
            let next = self.waiting.iter().position(|(_, waits)| *waits == addr);
            if next.is_none() {
                *self.idle.entry(addr).or_default() += 1;
            }
            next
        } else if self.connections() < self.max {
            (!self.waiting.is_empty()).then_some(0)
        } else {
            let next = self.waiting.iter().position(|(_, waits)| *waits == addr);
            next.filter(|_| self.may_open(addr))
        }?;
        let (id, addr) = self.waiting.remove(next)?;
        *self.held.entry(addr).or_default() += 1;
        Some(id)
    }
}

proptest! {
    #[test]
    fn the_queue_does_what_the_model_does(
        max in 1..4_u32,
        max_pending in 1..4_u32,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let queue = queue(max, max_pending);
        let mut model = Model {
            max: max as usize,
            max_pending: max_pending as usize,
            ..Model::default()
        };
        let mut requests: Vec<(u64, SocketAddr, Request)> = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut watches = Vec::new();
        for (id, step) in (0..).zip(steps) {
            let which = |requests: &[(u64, SocketAddr, Request)], holds: bool, number: usize| {
                let of_kind = |request: &Request| matches!(request, Request::Holds(_)) == holds;
                let places: Vec<_> = (0..requests.len())
                    .filter(|place| of_kind(&requests[*place].2))
                    .collect();
                places.get(number % places.len().max(1)).copied()
            };
            match step {
                Step::Ask(last) => {
                    let (queue, addr) = (queue.clone(), addr(last));
                    let mut asked: Pin<Box<dyn Future<Output = _> + Send>> =
                        Box::pin(async move { queue.hold(addr, TERMS, false).await });
                    let expected = model.ask(id, addr);
                    match asked.as_mut().poll(&mut context) {
                        Poll::Ready(Ok(hold)) => {
                            prop_assert_eq!(expected, Some(true));
                            if !hold.line.is_connected() {
                                watches.push(connect(&hold));
                            }
                            requests.push((id, addr, Request::Holds(hold)));
                        }
                        Poll::Ready(Err(Full)) => prop_assert_eq!(expected, None),
                        Poll::Pending => {
                            prop_assert_eq!(expected, Some(false));
                            requests.push((id, addr, Request::Waits(asked)));
                        }
                    }
                }
                Step::Done(number, stays) => {
                    let Some(place) = which(&requests, true, number) else { continue };
                    let (_, addr, request) = requests.remove(place);
                    let Request::Holds(hold) = request else { unreachable!() };
                    if !stays {
                        let mut peer = HttpPeer::new(addr, false, String::new());
                        hold.prepare(&mut peer);
                        peer.options.tracer.unwrap().0.on_disconnected();
                    }
                    drop(hold);
                    let lucky = model.done(addr, stays);
                    for (id, _, request) in &mut requests {
                        let Request::Waits(asked) = request else { continue };
                        if let Poll::Ready(granted) = asked.as_mut().poll(&mut context) {
                            prop_assert_eq!(lucky, Some(*id));
                            let hold = granted.unwrap();
                            if !hold.line.is_connected() {
                                watches.push(connect(&hold));
                            }
                            *request = Request::Holds(hold);
                        } else {
                            prop_assert_ne!(lucky, Some(*id));
                        }
                    }
                }
                Step::Leave(number) => {
                    let Some(place) = which(&requests, false, number) else { continue };
                    let (id, ..) = requests.remove(place);
                    model.waiting.retain(|(waits, _)| *waits != id);
                }
            }
            prop_assert_eq!(queue.load(), (model.connections(), model.waiting.len()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_connection_too_many_exists_and_none_is_lost_under_threads_that_give_up() {
    let queue = queue(3, 1000);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (queue, now, most) = (queue.clone(), now.clone(), most.clone());
            tokio::spawn(async move {
                for turn in 0..200 {
                    let asked = queue.hold(addr(1), TERMS, false);
                    let hold = if (task + turn) % 3 == 0 {
                        // Gives up after one look.
                        let mut asked = std::pin::pin!(asked);
                        let look = std::future::poll_fn(|context| {
                            Poll::Ready(match asked.as_mut().poll(context) {
                                Poll::Ready(hold) => Some(hold.unwrap()),
                                Poll::Pending => None,
                            })
                        });
                        look.await
                    } else {
                        Some(asked.await.unwrap())
                    };
                    let Some(hold) = hold else { continue };
                    let active = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(active, Ordering::SeqCst);
                    if !hold.line.is_connected() {
                        connect(&hold);
                    }
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    if turn % 5 == 0 {
                        let mut peer = HttpPeer::new(addr(1), false, String::new());
                        hold.prepare(&mut peer);
                        peer.options.tracer.unwrap().0.on_disconnected();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let (connections, pending) = queue.load();
    assert!(connections <= 3, "{connections}");
    assert_eq!(pending, 0);
}
