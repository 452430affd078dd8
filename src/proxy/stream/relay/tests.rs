use std::sync::Arc;

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::observe::{Record, Transfer};
use crate::proxy::stream::StreamSink;

struct Deaf;

impl StreamSink for Deaf {
    fn opened(&self, _: Option<&Cluster>) {}
    fn moved(&self, _: Option<&Cluster>, _: Transfer) {}
    fn closed(&self, _: &Record<'_>, _: bool, _: Transfer) {}
}

/// The far ends of a relayed connection.
struct Rig {
    client: DuplexStream,
    origin: DuplexStream,
    connection: Arc<Connection>,
    relay: JoinHandle<Option<End>>,
}

/// Sockets that take so many bytes each way before somebody reads them.
fn start(client_takes: usize, origin_takes: usize) -> Rig {
    let (client, near_client) = duplex(client_takes);
    let (origin, near_origin) = duplex(origin_takes);
    let connection = Arc::new(Connection::unattached());
    let relayed = connection.clone();
    let relay = tokio::spawn(async move {
        let mut session = Session::new(&Deaf, relayed);
        let (client, origin) = (Box::new(near_client), Box::new(near_origin));
        relay(client, origin, &mut session, Limits::default()).await
    });
    Rig {
        client,
        origin,
        connection,
        relay,
    }
}

fn many() -> Vec<u8> {
    (0..5_000_u32).flat_map(u32::to_le_bytes).collect()
}

async fn heard(mut side: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    side.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn what_came_before_a_release_reaches_the_side_it_is_for() {
    let mut rig = start(64, 64 * 1024);
    rig.origin.write_all(&many()).await.unwrap();
    rig.client.write_all(b"thanks").await.unwrap();
    // So far it has come that the relay waits for the client to take more.
    let mut first = [0; 4];
    rig.client.read_exact(&mut first).await.unwrap();
    rig.connection.release();
    assert_eq!(heard(rig.origin).await, b"thanks");
    assert_eq!([&first[..], &heard(rig.client).await].concat(), many());
    assert_eq!(rig.relay.await.unwrap(), Some(End::Released));
}

#[tokio::test]
async fn the_last_words_of_an_origin_that_takes_nothing_more_reach_the_client() {
    let mut rig = start(64, 64 * 1024);
    rig.origin.write_all(&many()).await.unwrap();
    // From now on, writing to it fails.
    drop(rig.origin);
    rig.client.write_all(b"something").await.unwrap();
    assert_eq!(heard(rig.client).await, many());
    assert_eq!(rig.relay.await.unwrap(), Some(End::OriginFailed));
}

#[tokio::test]
async fn the_last_words_of_a_client_that_takes_nothing_more_reach_the_origin() {
    let mut rig = start(64 * 1024, 64);
    rig.client.write_all(&many()).await.unwrap();
    drop(rig.client);
    rig.origin.write_all(b"something").await.unwrap();
    assert_eq!(heard(rig.origin).await, many());
    assert_eq!(rig.relay.await.unwrap(), Some(End::ClientFailed));
}

#[tokio::test]
async fn somebody_who_goes_on_all_the_same_is_released_all_the_same() {
    let mut rig = start(1024, 1024);
    let talking = tokio::spawn(async move {
        let many = many();
        while rig.origin.write_all(&many).await.is_ok() {}
    });
    let mut some = [0; 1024];
    rig.client.read_exact(&mut some).await.unwrap();
    rig.connection.release();
    heard(rig.client).await;
    assert_eq!(rig.relay.await.unwrap(), Some(End::Released));
    talking.await.unwrap();
}

#[tokio::test]
async fn a_side_that_neither_takes_nor_says_anything_is_left_in_time() {
    let mut rig = start(64, 64 * 1024);
    rig.origin.write_all(&many()).await.unwrap();
    let mut first = [0; 4];
    rig.client.read_exact(&mut first).await.unwrap();
    rig.connection.release();
    assert_eq!(rig.relay.await.unwrap(), Some(End::Released));
    drop(rig.client);
}
