//! An origin whose name loses its addresses while requests come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use tokio::sync::Notify;

use super::origins;
use super::rig::*;
use crate::plan::endpoints::DnsEndpoint;
use crate::plan::*;
use crate::upstream::DnsOptions;
use crate::upstream::dns_server::{Says, Server};

const NAME: &str = "shop.example";

/// Everything to `NAME`, on a port.
fn table(port: u16) -> EndpointTable {
    let name = DnsEndpoint {
        name: NAME.into(),
        port,
        weight: 1,
        place: Default::default(),
        origin: None,
    };
    let endpoints = ClusterEndpoints {
        resolution: Resolution::Dns {
            names: vec![name],
            single: false,
        },
        digest: Digest(77),
    };
    let mut table = EndpointTable::default();
    let cluster = "outbound|80||c0.default";
    table.clusters.insert(cluster.into(), Arc::new(endpoints));
    table
}

/// Answers at once, but `/held` when it is told to.
async fn origin(started: Arc<Notify>, release: Arc<Notify>) -> SocketAddr {
    origins::http1(Arc::new(move |request| {
        let (started, release) = (started.clone(), release.clone());
        Box::pin(async move {
            if request.uri().path() == "/held" {
                started.notify_one();
                release.notified().await;
            }
            http::Response::new(origins::full("ok"))
        })
    }))
    .await
}

async fn until(holds: impl Fn() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn has_endpoint(rig: &Rig) -> bool {
    let serving = rig.serving.load();
    let cluster = serving.cluster(ClusterId(0)).unwrap();
    !cluster.view().endpoints.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_vanishes_fails_new_requests_with_uh_and_none_in_flight() {
    // May fail: requests after the name was gone three times in a row, with 503 UH. Not the one
    // in flight, none while the server merely fails to answer, and none after it is back.
    let server = Server::start().await;
    server.say(NAME, Says::Addresses(vec!["127.0.0.1"], 0));
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = origin(started.clone(), release.clone()).await;
    let mut site = Site::of(vec![route("/", forward(0))]).cluster(Protocol::Http1, &[]);
    site.dns = DnsOptions {
        server: Some(server.addr),
        min_ttl: Duration::from_millis(5),
        retry: Duration::from_millis(5),
        max_retry: Duration::from_millis(20),
        ..DnsOptions::default()
    };
    let rig = Arc::new(site.serve().await);
    rig.upstreams.publish(&table(origin.port()));
    until(|| has_endpoint(&rig)).await;
    let in_flight = tokio::spawn({
        let rig = rig.clone();
        async move { rig.get("/held").await }
    });
    within(started.notified()).await;

    server.say(NAME, Says::Error(ResponseCode::ServFail));
    let asked = server.asked(NAME);
    while server.asked(NAME) < asked + 5 {
        assert_eq!(rig.get("/").await.status, 200);
    }
    server.say(NAME, Says::Error(ResponseCode::NXDomain));
    let gone = within(async {
        loop {
            let answer = rig.get("/").await;
            if answer.status != 200 {
                return answer;
            }
        }
    })
    .await;
    assert_eq!((gone.status, &*gone.body), (503, "no healthy upstream"));
    assert!(!has_endpoint(&rig));
    server.say(NAME, Says::Addresses(vec!["127.0.0.1"], 0));
    until(|| has_endpoint(&rig)).await;
    assert_eq!(rig.get("/").await.status, 200);

    release.notify_one();
    let answer = in_flight.await.unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "ok"));
}
