use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

fn terms() -> Terms {
    Terms {
        generation: 1,
        streams: 10,
        requests: u32::MAX,
        duration: None,
        private: 0,
    }
}

/// The holder of an open line's dial, and two more that may look for its connection.
async fn three(shared: &Shared) -> (Seat, Seat, Seat) {
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut first = shared.seat(addr, terms()).await;
    first.connected();
    let second = shared.seat(addr, terms()).await;
    let third = shared.seat(addr, terms()).await;
    assert!(first.dials && !second.dials && !third.dials);
    (first, second, third)
}

#[tokio::test]
async fn who_missed_the_connection_looks_again_only_when_nobody_has_it_in_its_hands() {
    let shared = Shared::default();
    let (_first, mut holder, mut missed) = three(&shared).await;
    holder.look().await;
    missed.look().await;
    assert!(missed.look_again());
    {
        let mut again = pin!(missed.look());
        let context = &mut Context::from_waker(Waker::noop());
        for _ in 0..100 {
            assert!(again.as_mut().poll(context).is_pending());
        }
        holder.connected();
        assert_eq!(again.as_mut().poll(context), Poll::Ready(()));
    }
    missed.connected();
}

#[tokio::test]
async fn a_request_that_is_given_up_while_it_looks_holds_nobody_up() {
    let shared = Shared::default();
    let (_first, gone, mut missed) = three(&shared).await;
    let mut gone = gone;
    gone.look().await;
    missed.look().await;
    assert!(missed.look_again());
    drop(gone);
    missed.look().await;
    missed.dial_failed();
    missed.look().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_missed_again_and_again_is_full_for_all() {
    let shared = Shared::default();
    let (first, mut missed, mut other) = three(&shared).await;
    for _ in 1..LOOKS.len() {
        missed.look().await;
        assert!(missed.look_again());
    }
    missed.look().await;
    assert!(!missed.look_again());
    // What it found out, the next one need not.
    other.look().await;
    assert!(!other.look_again());
    drop((missed, other));
    assert!(!first.line.join());
}
