//! When a request is sent again, how often, where to, and when not.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::origins;
use super::rig::*;
use super::script::{Act, OK, Script};
use crate::base::CauseKind;
use crate::plan::{Action, Condition, Conditions, Protocol, RetryPolicy};
use crate::proxy::Limits;

const UNAVAILABLE: Act =
    Act::Say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");

fn policy(conditions: &[Condition]) -> RetryPolicy {
    RetryPolicy {
        conditions: Conditions::of(conditions),
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    }
}

fn retrying(policy: RetryPolicy) -> Action {
    let mut forward = to(&[(0, 1)]);
    forward.retry = Some(Arc::new(policy));
    Action::Forward(forward)
}

async fn serve(policy: RetryPolicy, origin: &Script) -> Rig {
    Site::of(vec![route("/", retrying(policy))])
        .cluster(Protocol::Http1, &[origin.addr])
        .serve()
        .await
}

fn post(length: usize) -> String {
    let body = "x".repeat(length);
    format!("POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The count that the origin was told with each request.
fn told(origin: &Script) -> Vec<u32> {
    let count = |head: &String| {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("x-envoy-attempt-count: "));
        line.unwrap().parse().unwrap()
    };
    origin.seen().iter().map(count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_the_policy_covers_is_repeated_until_it_is_not() {
    let origin = Script::of(&[UNAVAILABLE, UNAVAILABLE, OK]).await;
    let rig = serve(policy(&[Condition::ServerError]), &origin).await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, &*answer.body), (200, "ok"));
    assert_eq!(told(&origin), [1, 2, 3]);
    let record = rig.record().await;
    assert_eq!(
        (record.status, &*record.flags, record.cause),
        (200, "", None)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_answer_passes_with_urx_when_the_attempts_are_used_up() {
    let origin = Script::of(&[UNAVAILABLE]).await;
    let rig = serve(policy(&[Condition::GatewayError]), &origin).await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, &*answer.body), (503, "busy"));
    assert_eq!(told(&origin), [1, 2, 3]);
    let record = rig.record().await;
    assert_eq!((&*record.flags, &*record.details), ("URX", "via_upstream"));
    assert_eq!(record.cause, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_23_istios_default_does_not_repeat_a_503_nor_a_broken_post() {
    let origin = Script::of(&[UNAVAILABLE, Act::Close]).await;
    let rig = serve(RetryPolicy::default(), &origin).await;
    assert_eq!(rig.get("/").await.body, "busy");
    assert_eq!(rig.record().await.flags, "");
    let answer = rig.ask(post(2)).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .body
            .ends_with(". reset reason: connection termination")
    );
    assert_eq!(rig.record().await.flags, "UC");
    assert_eq!(origin.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_repeated_with_its_whole_body_where_the_policy_says_so() {
    let origin = Script::of(&[UNAVAILABLE, Act::Close, Act::Reset, OK]).await;
    let patient = RetryPolicy {
        retries: 3,
        ..policy(&[Condition::ServerError])
    };
    let rig = serve(patient, &origin).await;
    assert_eq!(rig.ask(post(60_000)).await.status, 200);
    let seen = origin.seen();
    let bodies: Vec<_> = seen
        .iter()
        .map(|request| request.split_once("\r\n\r\n").unwrap().1)
        .collect();
    let whole = "x".repeat(60_000);
    assert_eq!(bodies, [&*whole; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_kept_is_never_sent_again_and_the_answer_passes() {
    let origin = Script::of(&[UNAVAILABLE]).await;
    let mut site = Site::of(vec![route(
        "/",
        retrying(policy(&[Condition::ServerError])),
    )])
    .cluster(Protocol::Http1, &[origin.addr]);
    site.limits = Limits {
        retry_body: 100,
        ..Limits::default()
    };
    let rig = site.serve().await;
    assert_eq!(rig.ask(post(101)).await.body, "busy");
    assert_eq!((origin.count(), &*rig.record().await.flags), (1, ""));
    assert_eq!(rig.ask(post(100)).await.body, "busy");
    assert_eq!(origin.count(), 4);

    let origin = Script::of(&[UNAVAILABLE]).await;
    let rig = serve(policy(&[Condition::ServerError]), &origin).await;
    assert_eq!(rig.ask(post(70_000)).await.body, "busy");
    assert_eq!(origin.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_repeated_for_any_method_elsewhere() {
    let origin = Script::of(&[OK]).await;
    let dead = origins::nobody().await;
    let rig = Site::of(vec![route("/", retrying(RetryPolicy::default()))])
        .cluster(Protocol::Http1, &[dead, origin.addr])
        .serve()
        .await;
    for _ in 0..4 {
        assert_eq!(rig.ask(post(2)).await.status, 200);
    }
    assert_eq!(origin.count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_refusals_costs_uf_urx_and_says_that_it_retried() {
    let dead = origins::nobody().await;
    let rig = Site::of(vec![route("/", retrying(RetryPolicy::default()))])
        .cluster(Protocol::Http1, &[dead])
        .serve()
        .await;
    let answer = rig.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        "upstream connect error or disconnect/reset before headers. retried and the latest reset \
         reason: remote connection failure, transport failure reason: delayed connect error: \
         Connection refused"
    );
    let record = rig.record().await;
    assert_eq!(record.flags, "UF,URX");
    assert_eq!(record.cause, Some(CauseKind::UpstreamConnectFailure));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_stalls_is_given_up_after_its_own_timeout_on_any_protocol() {
    for protocol in [1, 2] {
        let origin = Script::of(&[Act::Stall, Act::Stall, OK]).await;
        let impatient = RetryPolicy {
            per_try_timeout: Some(Duration::from_millis(100)),
            ..policy(&[Condition::GatewayError])
        };
        let rig = serve(impatient, &origin).await;
        let status = match protocol {
            1 => rig.ask(post(5)).await.status,
            _ => ask_h2(&rig).await,
        };
        assert_eq!((status, told(&origin)), (200, vec![1, 2, 3]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_per_try_timeout_that_is_not_repeated_is_504_ut_with_its_own_details() {
    let origin = Script::of(&[Act::Stall]).await;
    let impatient = RetryPolicy {
        per_try_timeout: Some(Duration::from_millis(50)),
        ..RetryPolicy::default()
    };
    let rig = serve(impatient, &origin).await;
    let answer = rig.get("/").await;
    assert_eq!(
        (answer.status, &*answer.body),
        (504, "upstream request timeout")
    );
    let record = rig.record().await;
    assert_eq!(
        (&*record.flags, &*record.details),
        ("UT", "upstream_per_try_timeout")
    );
    assert_eq!(origin.count(), 1);
    assert_eq!(ask_h2(&rig).await, 504);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_has_begun_is_no_longer_under_the_per_try_timeout() {
    let origin = origins::raw(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        origins::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
            .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = stream.write_all(b"lf").await;
    })
    .await;
    let impatient = RetryPolicy {
        per_try_timeout: Some(Duration::from_millis(100)),
        ..policy(&[Condition::GatewayError])
    };
    let rig = Site::of(vec![route("/", retrying(impatient))])
        .cluster(Protocol::Http1, &[origin])
        .serve()
        .await;
    let answer = rig.get("/").await;
    assert_eq!((answer.complete, &*answer.body), (true, "half"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_25_the_routes_timeout_bounds_all_attempts_together() {
    let origin = Script::of(&[UNAVAILABLE, Act::Stall]).await;
    let mut forward = to(&[(0, 1)]);
    forward.retry = Some(Arc::new(policy(&[Condition::ServerError])));
    forward.timeout = Some(Duration::from_millis(200));
    let rig = Site::of(vec![route("/", Action::Forward(forward))])
        .cluster(Protocol::Http1, &[origin.addr])
        .serve()
        .await;
    assert_eq!(rig.get("/").await.status, 504);
    let record = rig.record().await;
    assert_eq!(
        (&*record.flags, &*record.details),
        ("UT", "response_timeout")
    );
    assert_eq!(origin.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_has_begun_is_never_repeated() {
    let half = Act::SayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let origin = Script::of(&[half]).await;
    let rig = serve(policy(&[Condition::ServerError, Condition::Reset]), &origin).await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.complete), (200, false));
    assert_eq!(origin.count(), 1);
    assert_eq!(
        rig.record().await.cause,
        Some(CauseKind::UpstreamConnectionTermination)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_status_in_the_head_is_repeated_as_istio_does_by_default() {
    let unavailable = Act::Say(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n",
    );
    let origin = Script::of(&[unavailable, OK]).await;
    let rig = serve(RetryPolicy::default(), &origin).await;
    let request = "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Type: application/grpc\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(rig.ask(request).await.body, "ok");
    assert_eq!(told(&origin), [1, 2]);
    assert_eq!(rig.record().await.grpc_status, None);
}

/// The status of a POST with a body over HTTP/2.
async fn ask_h2(rig: &Rig) -> u16 {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = within(client.ready()).await.unwrap();
    let request = http::Request::post("http://a.com/")
        .header("content-length", "5")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data("hello".into(), true).unwrap();
    within(response).await.unwrap().status().as_u16()
}
