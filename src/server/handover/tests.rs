//! What passes between two processes, over a real pair of sockets.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::wire::{BATCH, Wire};
use super::{HandoverError, Message, Role};

const PATIENCE: Duration = Duration::from_secs(10);

fn wires() -> (Wire, Wire) {
    let (one, other) = UnixStream::pair().unwrap();
    (Wire::new(one).unwrap(), Wire::new(other).unwrap())
}

fn borrowed(sockets: &[TcpListener]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(AsFd::as_fd).collect()
}

fn address(handle: OwnedFd) -> SocketAddr {
    TcpListener::from(handle).local_addr().unwrap()
}

#[test]
fn a_full_batch_of_sockets_arrives_in_its_order() {
    let (giver, taker) = wires();
    let sockets: Vec<_> = (0..BATCH)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses: Vec<_> = sockets.iter().map(|it| it.local_addr().unwrap()).collect();
    let said = Message::Sockets(addresses.iter().copied().map(Role::Listener).collect());

    giver.send(&said, &borrowed(&sockets)).unwrap();

    let (heard, handles) = taker.receive(PATIENCE).unwrap();
    assert_eq!(heard, said);
    assert_eq!(
        handles.into_iter().map(address).collect::<Vec<_>>(),
        addresses
    );
}

#[test]
fn more_sockets_than_a_message_holds_are_refused_and_none_is_lost_on_the_way() {
    let (giver, _taker) = wires();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let handles = vec![socket.as_fd(); BATCH + 1];

    let refused = giver.send(&Message::Complete, &handles).unwrap_err();

    assert!(
        refused
            .to_string()
            .contains("65 descriptors in one message"),
        "{refused}"
    );
}

#[test]
fn each_message_comes_with_its_own_sockets() {
    let (giver, taker) = wires();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = Message::Sockets(vec![Role::Admin]);

    giver.send(&first, &[socket.as_fd()]).unwrap();
    giver.send(&Message::Complete, &[]).unwrap();

    let (heard, handles) = taker.receive(PATIENCE).unwrap();
    assert_eq!((heard, handles.len()), (first, 1));
    let (heard, handles) = taker.receive(PATIENCE).unwrap();
    assert_eq!((heard, handles.len()), (Message::Complete, 0));
}

#[test]
fn a_length_beyond_every_real_message_is_refused_before_memory_is_taken() {
    let (one, mut other) = UnixStream::pair().unwrap();
    other.write_all(&u32::MAX.to_be_bytes()).unwrap();

    let refused = Wire::new(one).unwrap().receive(PATIENCE).unwrap_err();

    assert!(
        refused
            .to_string()
            .contains("a message of 4294967295 bytes"),
        "{refused}"
    );
}

#[test]
fn an_unknown_message_is_an_error_with_its_name() {
    let (one, mut other) = UnixStream::pair().unwrap();
    let text = br#""surrender""#;
    other.write_all(&11_u32.to_be_bytes()).unwrap();
    other.write_all(text).unwrap();

    let refused = Wire::new(one).unwrap().receive(PATIENCE).unwrap_err();

    assert!(refused.to_string().contains("surrender"), "{refused}");
}

#[test]
fn silence_and_an_end_are_told_apart() {
    let (one, other) = UnixStream::pair().unwrap();
    let wire = Wire::new(one).unwrap();

    let Err(HandoverError::Io(silent)) = wire.receive(Duration::from_millis(1)) else {
        panic!("somebody spoke");
    };
    assert_eq!(silent.kind(), ErrorKind::WouldBlock);

    drop(other);
    let Err(HandoverError::Io(ended)) = wire.receive(PATIENCE) else {
        panic!("somebody spoke");
    };
    assert_eq!(ended.kind(), ErrorKind::UnexpectedEof);
}
