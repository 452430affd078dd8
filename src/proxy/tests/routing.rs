//! Where requests go, and in which form.

use http::{HeaderName, HeaderValue};

use super::origins;
use super::rig::*;
use crate::plan::{Action, HttpOptions, UriMatch};
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, TemplatePart, ValueTemplate};
use crate::policy::rewrite::spec::{PathRewrite, Rewrite};

fn rewriting(rewrite: Rewrite) -> Action {
    let mut forward = to(&[(0, 1)]);
    forward.rewrite = rewrite;
    Action::Forward(forward)
}

async fn serve(routes: Vec<crate::plan::Route>) -> Rig {
    let origin = origins::echo().await;
    Site::of(routes)
        .cluster(Default::default(), &[origin])
        .serve()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_12_the_host_is_matched_without_port_and_case_and_forwarded_as_received() {
    let rig = Site::to(origins::echo().await).serve().await;
    let answer = rig.ask("GET / HTTP/1.1\r\nHost: A.Com:8080\r\n\r\n").await;
    assert_eq!(answer.received("host"), Some("A.Com:8080"));
    assert_eq!(rig.record().await.authority.as_deref(), Some("A.Com:8080"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_13_a_trailing_dot_is_another_host() {
    let rig = Site::to(origins::echo().await).serve().await;
    assert_eq!(
        rig.ask("GET / HTTP/1.1\r\nHost: a.com.\r\n\r\n")
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_14_prefixes_match_and_are_rewritten_textually() {
    let rewrite = Rewrite {
        path: Some(PathRewrite::Prefix {
            length: 4,
            with: "/".into(),
        }),
        authority: Some(HeaderValue::from_static("inner.local")),
    };
    let rig = serve(vec![route("/foo", rewriting(rewrite))]).await;
    let answer = rig.get("/foo/x?a=1").await;
    assert_eq!(answer.request_line(), "GET //x?a=1 HTTP/1.1");
    assert_eq!(answer.received("host"), Some("inner.local"));
    assert_eq!(answer.received("x-envoy-original-path"), Some("/foo/x?a=1"));
    assert_eq!(rig.get("/foobar").await.request_line(), "GET /bar HTTP/1.1");
    assert_eq!(rig.record().await.path.as_deref(), Some("/foo/x?a=1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_15_a_regex_is_anchored_and_never_sees_the_query() {
    let uri = UriMatch::Regex(regex::Regex::new("^(?:/r[0-9]+)$").unwrap());
    let rig = serve(vec![route_by(uri, forward(0))]).await;
    assert_eq!(
        rig.get("/r12?x=y").await.request_line(),
        "GET /r12?x=y HTTP/1.1"
    );
    assert_eq!(rig.get("/r12/x").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_normalised_path_is_matched_and_forwarded() {
    let rig = serve(vec![route("/admin", forward(0))]).await;
    let answer = rig.get("/x/%2e%2e/./adm%69n/%2F//y?q=%2e#frag").await;
    assert_eq!(answer.request_line(), "GET /admin/%2F//y?q=%2e HTTP/1.1");
    assert_eq!(rig.get("/public/../admin").await.status, 200);
    assert_eq!(rig.get("/admin/../public").await.status, 404);
    // An absolute target is forwarded in origin form.
    let head = "GET http://a.com/admin?x HTTP/1.1\r\nHost: a.com\r\n\r\n";
    assert_eq!(rig.ask(head).await.request_line(), "GET /admin?x HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_22_host_in_header_edits_rewrites_the_authority_and_rewrite_authority_beats_it() {
    let named = |rewritten: Option<&'static str>| {
        let mut forward = to(&[(0, 1)]);
        forward.destinations[0].authority = Some(HeaderValue::from_static("edited.local"));
        forward.rewrite.authority = rewritten.map(HeaderValue::from_static);
        Action::Forward(forward)
    };
    let mut site = Site::of(vec![
        route("/both", named(Some("rewritten.local"))),
        route("/", named(None)),
    ])
    .cluster(Default::default(), &[origins::echo().await]);
    site.http = HttpOptions {
        forwarded_host: true,
        ..HttpOptions::default()
    };
    let rig = site.serve().await;
    let answer = rig.get("/").await;
    assert_eq!(answer.received("host"), Some("edited.local"));
    assert_eq!(answer.received("x-forwarded-host"), Some("a.com"));
    assert_eq!(
        rig.get("/both").await.received("host"),
        Some("rewritten.local")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_edits_reach_the_origin_and_the_client() {
    let literal = |value: &'static str| ValueTemplate::Literal(HeaderValue::from_static(value));
    let asked = |name: &str| {
        ValueTemplate::Parts(vec![TemplatePart::Request {
            name: name.into(),
            alternative: None,
            max: None,
        }])
    };
    let mut forward = to(&[(0, 1)]);
    forward.destinations[0].request = HeaderEdits(vec![
        HeaderEdit::Remove(HeaderName::from_static("x-secret")),
        HeaderEdit::Set(HeaderName::from_static("x-path"), asked(":path")),
        HeaderEdit::Set(
            HeaderName::from_static("x-from"),
            ValueTemplate::Parts(vec![TemplatePart::DownstreamRemoteAddressWithoutPort]),
        ),
    ]);
    forward.destinations[0].response = HeaderEdits(vec![
        HeaderEdit::Remove(HeaderName::from_static("x-origin")),
        HeaderEdit::Add(HeaderName::from_static("x-served"), literal("by us")),
        HeaderEdit::Set(HeaderName::from_static("server"), literal("other")),
    ]);
    let rig = serve(vec![route("/", Action::Forward(forward))]).await;
    let answer = rig
        .ask("GET /p?q HTTP/1.1\r\nHost: a.com\r\nX-Secret: s\r\n\r\n")
        .await;
    assert_eq!(answer.received("x-secret"), None);
    assert_eq!(answer.received("x-path"), Some("/p?q"));
    assert_eq!(answer.received("x-from"), Some("127.0.0.1"));
    assert_eq!(answer.header("x-origin"), "");
    assert_eq!(answer.header("x-served"), "by us");
    assert_eq!(answer.header("server"), "istio-envoy");
    assert!(
        answer
            .header("x-envoy-upstream-service-time")
            .parse::<u64>()
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_split_the_traffic() {
    let origins = [origins::echo().await, origins::echo().await];
    let rig = Site::of(vec![route("/", Action::Forward(to(&[(0, 9), (1, 1)])))])
        .cluster(Default::default(), &origins[..1])
        .cluster(Default::default(), &origins[1..])
        .serve()
        .await;
    let mut client = Client::connect(rig.address).await;
    let mut second = 0;
    for _ in 0..400 {
        assert_eq!(
            client
                .ask("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n")
                .await
                .status,
            200
        );
        second += usize::from(rig.record().await.upstream_host == Some(origins[1]));
    }
    // 40 expected; outside of this once in ten million runs.
    assert!((12..=76).contains(&second), "{second}");
}
