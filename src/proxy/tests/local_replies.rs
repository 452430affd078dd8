//! Answers made here: Envoy's statuses, bodies and flags, and who is to blame.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::origins;
use super::rig::*;
use crate::base::CauseKind;
use crate::plan::{Action, Fence, HttpOptions, Target};
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, ValueTemplate};
use crate::policy::redirect::spec::{Redirect, RedirectPath, RedirectPort};

const CONNECT_ERROR: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: ";

fn missing() -> Action {
    let mut forward = to(&[(0, 1)]);
    forward.destinations[0].target = Target::Missing {
        name: "reviews".into(),
        reason: "no such host".into(),
    };
    Action::Forward(forward)
}

fn fence() -> Arc<Fence> {
    Arc::new(Fence {
        origin: origin(),
        reason: "the regex does not compile".into(),
    })
}

/// The answer to `path`, and `(flags, details, cause)` of its record.
async fn outcome(rig: &Rig, path: &str) -> (Answer, (String, String, CauseKind)) {
    let answer = rig.get(path).await;
    let record = rig.record().await;
    assert_eq!(record.status, answer.status);
    (
        answer,
        (record.flags, record.details, record.cause.unwrap()),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_20_an_unknown_destination_is_503_empty_and_no_endpoint_is_503_with_text() {
    let rig = Site::of(vec![route("/nc", missing()), route("/uh", forward(0))])
        .cluster(Default::default(), &[])
        .serve()
        .await;
    let (answer, record) = outcome(&rig, "/nc").await;
    assert_eq!((answer.status, &*answer.body), (503, ""));
    assert_eq!(
        record,
        (
            "NC".into(),
            "cluster_not_found".into(),
            CauseKind::ClusterNotFound
        )
    );
    let (answer, record) = outcome(&rig, "/uh").await;
    assert_eq!((answer.status, &*answer.body), (503, "no healthy upstream"));
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!(answer.header("x-envoy-upstream-service-time"), "");
    assert_eq!(
        record,
        (
            "UH".into(),
            "no_healthy_upstream".into(),
            CauseKind::NoHealthyUpstream
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unrouted_requests_are_404_empty_and_keep_their_connection() {
    let rig = Site::of(vec![route("/only", missing())]).serve().await;
    let mut client = Client::connect(rig.address).await;
    for head in [
        "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: b.com\r\n\r\n",
    ] {
        let answer = client.ask(head).await;
        assert_eq!((answer.status, &*answer.body), (404, ""));
        assert_eq!(answer.header("connection"), "keep-alive");
        let record = rig.record().await;
        assert_eq!(
            (&*record.flags, &*record.details),
            ("NR", "route_not_found")
        );
    }
    // A body nobody wants is read away, so that the connection stays in step.
    let answer = client
        .ask("POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 4\r\n\r\nGET ")
        .await;
    assert_eq!(answer.status, 404);
    let answer = client.ask("HEAD / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_rule_or_host_answers_503_and_names_its_owner() {
    let mut site = Site::of(vec![route("/", Action::Fenced(fence()))]);
    site.hosts.push(host("b.com", Vec::new()));
    site.hosts[1].fence = Some(fence());
    let rig = site.serve().await;
    for name in ["a.com", "b.com"] {
        let answer = rig
            .ask(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"))
            .await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.body.starts_with("this route is fenced"),
            "{}",
            answer.body
        );
        assert!(!answer.body.contains("shop.yaml"), "{}", answer.body);
        let record = rig.record().await;
        assert_eq!(record.cause, Some(CauseKind::Fenced));
        assert_eq!(record.owner.as_deref(), Some("shop.yaml:7"));
        assert_eq!(record.message, "the regex does not compile");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_failures_closed_connections_and_garbage_are_told_apart() {
    let rig = Site::of(vec![
        route("/uf", forward(0)),
        route("/uc", forward(1)),
        route("/upe", forward(2)),
    ])
    .cluster(Default::default(), &[origins::nobody().await])
    .cluster(Default::default(), &[origins::answering(b"").await])
    .cluster(
        Default::default(),
        &[origins::answering(b"HELO\r\n\r\n").await],
    )
    .serve()
    .await;
    let (answer, record) = outcome(&rig, "/uf").await;
    assert_eq!(
        answer.body,
        format!(
            "{CONNECT_ERROR}remote connection failure, transport failure reason: \
             delayed connect error: Connection refused"
        )
    );
    assert_eq!(
        (answer.status, &*record.0, record.2),
        (503, "UF", CauseKind::UpstreamConnectFailure)
    );
    let (answer, record) = outcome(&rig, "/uc").await;
    assert_eq!(
        answer.body,
        format!("{CONNECT_ERROR}connection termination")
    );
    assert_eq!(
        (answer.status, &*record.0, record.2),
        (503, "UC", CauseKind::UpstreamConnectionTermination)
    );
    let (answer, record) = outcome(&rig, "/upe").await;
    assert_eq!(answer.body, format!("{CONNECT_ERROR}protocol error"));
    assert_eq!(
        (answer.status, &*record.0, record.2),
        (502, "UPE", CauseKind::UpstreamProtocolError)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_29_a_redirect_keeps_query_and_port_and_gets_header_edits() {
    let redirect = Redirect {
        status: 302,
        path: Some(RedirectPath::Full("/new".into())),
        authority: None,
        scheme: None,
        port: RedirectPort::Keep,
    };
    let edit = HeaderEdit::Set(
        HeaderName::from_static("x-moved"),
        ValueTemplate::Literal(HeaderValue::from_static("yes")),
    );
    let action = Action::Redirect {
        redirect,
        response: HeaderEdits(vec![edit]),
    };
    let rig = Site::of(vec![route("/", action)]).serve().await;
    let answer = rig
        .ask("GET /old/./x?a=1 HTTP/1.1\r\nHost: a.com:8080\r\n\r\n")
        .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, "http://a.com:8080/new?a=1")
    );
    assert_eq!(
        (answer.header("x-moved"), answer.header("server")),
        ("yes", "istio-envoy")
    );
    assert_eq!(&*answer.body, "");
    let record = rig.record().await;
    assert_eq!((&*record.flags, &*record.details), ("", "direct_response"));
    assert_eq!(record.route.as_deref(), Some("rule"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_7_https_redirect_keeps_the_port_unless_a_trusted_proxy_says_https() {
    let mut site = Site::of(Vec::new());
    site.hosts[0].https_redirect = Some(origin());
    site.http = HttpOptions {
        trusted_proxies: 1,
        ..HttpOptions::default()
    };
    let rig = site.serve().await;
    let answer = rig
        .ask("GET /x?y HTTP/1.1\r\nHost: a.com:8080\r\n\r\n")
        .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (301, "https://a.com:8080/x?y")
    );
    let secure = "GET / HTTP/1.1\r\nHost: a.com\r\nX-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(rig.ask(secure).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_responses_have_their_status_body_and_edits() {
    let direct = |status, body: &'static str, edits| Action::Direct {
        response: DirectResponse {
            status,
            body: body.into(),
        },
        edits: HeaderEdits(edits),
    };
    let html = HeaderEdit::Set(
        http::header::CONTENT_TYPE,
        ValueTemplate::Literal(HeaderValue::from_static("text/html")),
    );
    let rig = Site::of(vec![
        route("/html", direct(418, "<p>", vec![html])),
        route("/none", direct(204, "", Vec::new())),
        route("/", direct(200, "hello", Vec::new())),
    ])
    .serve()
    .await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, &*answer.body), (200, "hello"));
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!(rig.record().await.bytes, (0, 5));
    let answer = rig.get("/html").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (418, "text/html")
    );
    let answer = rig.get("/none").await;
    assert_eq!((answer.status, answer.header("content-length")), (204, ""));
    let answer = rig.ask("HEAD / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("content-length")), (200, "5"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_clients_get_200_with_a_grpc_status_and_the_text_as_message() {
    let rig = Site::of(vec![route("/uh", forward(0))])
        .cluster(Default::default(), &[])
        .serve()
        .await;
    let call = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a.com\r\nContent-Type: application/grpc+proto\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let answer = rig.ask(call("/uh")).await;
    assert_eq!((answer.status, &*answer.body), (200, ""));
    assert_eq!(answer.header("content-type"), "application/grpc");
    assert_eq!(
        (answer.header("grpc-status"), answer.header("grpc-message")),
        ("14", "no healthy upstream")
    );
    let record = rig.record().await;
    assert_eq!((record.grpc_status, &*record.flags), (Some(14), "UH"));
    let answer = rig.ask(call("/nowhere")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "12"));
}
