//! Clients that are not let in, and bodies that are too large.

use super::origins;
use super::rig::*;
use crate::base::{CauseKind, Cidr};
use crate::plan::{AccessId, BodyLimitId, Policy};
use crate::policy::access::Access;

fn placed<T>(policy: T) -> Policy<T> {
    Policy {
        id: "policy".into(),
        policy,
        origin: origin(),
    }
}

async fn site(change: impl FnOnce(&mut Site)) -> Rig {
    let mut site = Site::to(origins::echo().await);
    change(&mut site);
    site.serve().await
}

fn only(site: &mut Site, allow: &str) {
    site.guards.access.push(AccessId(0));
    site.checks.access.push(placed(Access {
        allow: Box::new([allow.parse::<Cidr>().unwrap()]),
        deny: Box::new([]),
    }));
}

fn at_most(site: &mut Site, bytes: u64) {
    site.guards
        .bodies
        .push(BodyLimitId(site.checks.bodies.len()));
    site.checks.bodies.push(placed(bytes));
}

const FORGED: &str = "GET / HTTP/1.1\r\nHost: a.com\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_let_in_by_the_address_that_trusted_proxies_saw() {
    let rig = site(|site| only(site, "127.0.0.0/8")).await;
    assert_eq!(rig.ask(FORGED).await.status, 200);
    let rig = site(|site| only(site, "10.0.0.0/8")).await;
    let answer = rig.ask(FORGED).await;
    assert_eq!((answer.status, &*answer.body), (403, "RBAC: access denied"));
    let record = rig.record().await;
    assert_eq!(record.cause, Some(CauseKind::AccessDenied));
    assert_eq!(record.owner.as_deref(), Some("shop.yaml:7"));
    assert_eq!(record.details, "rbac_access_denied_matched_policy[none]");
    let rig = site(|site| {
        only(site, "10.0.0.0/8");
        site.http.trusted_proxies = 1;
    })
    .await;
    assert_eq!(rig.ask(FORGED).await.status, 200);
    assert_eq!(rig.get("/").await.status, 403);
}

fn post(framing: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.com\r\n{framing}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_says_that_it_is_too_large_is_refused_before_it_is_sent() {
    let rig = site(|site| {
        at_most(site, 100);
        at_most(site, 5);
    })
    .await;
    let answer = rig.ask(post("Content-Length: 5", "12345")).await;
    assert_eq!((answer.status, answer.body.ends_with("12345")), (200, true));
    rig.record().await;
    let mut client = Client::connect(rig.address).await;
    client.send(post("Content-Length: 6", "")).await;
    let answer = client.answer(false).await;
    assert_eq!((answer.status, &*answer.body), (413, "Payload Too Large"));
    client.send("123456").await;
    let record = rig.record().await;
    assert_eq!(record.cause, Some(CauseKind::BodyTooLarge));
    assert_eq!(record.details, "request_payload_too_large");
    assert_eq!(record.upstream_host, None);
    assert!(
        record.message.contains("the 5 bytes of policy"),
        "{}",
        record.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_grows_too_large_is_refused_when_it_does() {
    let rig = site(|site| at_most(site, 5)).await;
    let chunked = "Transfer-Encoding: chunked";
    let answer = rig
        .ask(post(chunked, "2\r\n12\r\n3\r\n345\r\n0\r\n\r\n"))
        .await;
    assert_eq!(answer.status, 200);
    rig.record().await;
    for body in ["6\r\n123456\r\n", "3\r\n123\r\n3\r\n456\r\n"] {
        // It never ends.
        let answer = rig.ask(post(chunked, body)).await;
        assert_eq!((answer.status, &*answer.body), (413, "Payload Too Large"));
        assert_eq!(rig.record().await.cause, Some(CauseKind::BodyTooLarge));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_body_that_grows_too_large_is_refused_when_it_does() {
    let rig = site(|site| at_most(site, 5)).await;
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://a.com/").body(()).unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    body.send_data("123".into(), false).unwrap();
    body.send_data("456".into(), false).unwrap();
    assert_eq!(within(answer).await.unwrap().status(), 413);
    assert_eq!(rig.record().await.cause, Some(CauseKind::BodyTooLarge));
}
