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

#[tokio::test(start_paused = true)]
async fn a_new_connection_carries_one_request_until_its_origin_has_spoken_or_a_moment_has_passed() {
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    for speaks in [true, false] {
        let shared = Shared::default();
        let mut first = shared.seat(addr, terms()).await;
        let mut second = pin!(shared.seat(addr, terms()));
        let context = &mut Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(context).is_pending());
        first.connected();
        assert!(second.as_mut().poll(context).is_pending());
        if speaks {
            first.answered();
            assert!(second.as_mut().poll(context).is_ready());
        } else {
            assert!(!second.await.dials);
        }
        // From then on nobody waits.
        let mut third = pin!(shared.seat(addr, terms()));
        assert!(third.as_mut().poll(context).is_ready());
    }
}

#[tokio::test]
async fn a_stream_refused_beside_others_that_went_out_too_early_is_no_fault_of_its_request() {
    let shared = Shared::default();
    let (mut first, mut second, mut third) = three(&shared).await;
    second.connected();
    third.connected();
    assert!(third.refused() && second.refused());
    assert!(!second.refused(), "counted once");
    // One is left, so that is what the origin allows: of this connection and the next one.
    drop((second, third));
    assert!(!first.line.join());
    let next = shared.seat(first.line.addr, terms()).await;
    assert!(next.dials && !next.line.join());
    // Nobody else was there: the origin wants none.
    assert!(!first.refused());
}

#[tokio::test]
async fn a_stream_refused_by_an_origin_that_had_spoken_is_for_the_policy() {
    let shared = Shared::default();
    let (first, mut second, mut third) = three(&shared).await;
    first.answered();
    second.connected();
    third.connected();
    assert!(!second.refused() && !third.refused());
}
