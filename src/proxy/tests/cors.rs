//! Browsers asking from other origins.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::origins;
use super::rig::*;
use crate::base::{CauseKind, Share};
use crate::plan::{Action, Forward, Placed};
use crate::policy::cors::spec::{Allowed, Cors, OriginMatch};
use crate::policy::fault::spec::{Abort, AbortStatus, Fault};
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, ValueTemplate};

fn policy() -> Cors {
    Cors {
        origins: vec![OriginMatch::Exact("https://a.com".into())],
        methods: Allowed::These(HeaderValue::from_static("GET,PUT")),
        headers: Allowed::These(HeaderValue::from_static("x-a")),
        expose: Some(HeaderValue::from_static("x-b")),
        max_age: Some(HeaderValue::from_static("600")),
        credentials: true,
        forward_unmatched: true,
    }
}

fn placed<T>(policy: T) -> Option<Arc<Placed<T>>> {
    let origin = origin();
    Some(Arc::new(Placed { policy, origin }))
}

/// Edits the response in every way.
fn edited() -> Forward {
    let mut forward = to(&[(0, 1)]);
    let set = |name: &'static str| {
        let value = ValueTemplate::Literal(HeaderValue::from_static("edited"));
        HeaderEdit::Set(HeaderName::from_static(name), value)
    };
    let edits = vec![set("x-edited"), set("access-control-allow-origin")];
    forward.destinations[0].response = HeaderEdits(edits);
    forward
}

async fn site(change: impl FnOnce(&mut Forward)) -> Rig {
    let mut forward = edited();
    forward.policies.cors = placed(policy());
    change(&mut forward);
    Site::of(vec![route("/", Action::Forward(forward))])
        .cluster(Default::default(), &[origins::echo().await])
        .serve()
        .await
}

fn asks(method: &str, origin: &str) -> String {
    format!(
        "{method} / HTTP/1.1\r\nHost: a.com\r\nOrigin: {origin}\r\n\
         Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_from_an_allowed_origin_is_answered_here() {
    let rig = site(|_| {}).await;
    let answer = rig.ask(asks("OPTIONS", "https://a.com")).await;
    assert_eq!((answer.status, &*answer.body), (200, ""));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,PUT"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-max-age", "600"),
        ("content-length", "0"),
        // Envoy's filter answers before the router, which would edit headers.
        ("x-edited", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let record = rig.record().await;
    assert_eq!((&*record.flags, &*record.details), ("", "cors_response"));
    assert_eq!(record.cause, Some(CauseKind::CorsPreflight));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_from_another_origin_is_forwarded_or_answered_as_the_rule_says() {
    let rig = site(|_| {}).await;
    let answer = rig.ask(asks("OPTIONS", "https://evil")).await;
    assert!(answer.request_line().starts_with("OPTIONS / "));
    let rig = site(|forward| {
        let ignoring = Cors {
            forward_unmatched: false,
            ..policy()
        };
        forward.policies.cors = placed(ignoring);
    })
    .await;
    let answer = rig.ask(asks("OPTIONS", "https://evil")).await;
    assert_eq!((answer.status, &*answer.body), (200, ""));
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(answer.header("access-control-allow-methods"), "GET,PUT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_names_an_allowed_origin_whatever_the_origin_server_or_an_edit_said() {
    let rig = site(|_| {}).await;
    let answer = rig.ask(asks("GET", "https://a.com")).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://a.com"
    );
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("access-control-expose-headers"), "x-b");
    assert_eq!(answer.header("access-control-allow-methods"), "");
    assert_eq!(answer.header("x-edited"), "edited");
    assert_eq!(answer.received("origin"), Some("https://a.com"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_28_a_request_from_another_origin_is_served_and_its_response_left_alone() {
    let rig = site(|_| {}).await;
    let answer = rig.ask(asks("GET", "https://evil")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "edited");
    assert_eq!(answer.header("access-control-expose-headers"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_made_here_after_the_check_is_marked_as_well() {
    let rig = Site::of(vec![route("/", {
        let mut forward = to(&[(0, 1)]);
        forward.policies.cors = placed(policy());
        Action::Forward(forward)
    })])
    .cluster(Default::default(), &[])
    .serve()
    .await;
    let answer = rig.ask(asks("GET", "https://a.com")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://a.com"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_27_an_abort_comes_before_a_preflights_answer() {
    let rig = site(|forward| {
        forward.policies.fault = placed(Fault {
            delay: None,
            abort: Some(Abort {
                status: AbortStatus::Http(503),
                share: Share::ALL,
            }),
        });
    })
    .await;
    let answer = rig.ask(asks("OPTIONS", "https://a.com")).await;
    assert_eq!((answer.status, &*answer.body), (503, "fault filter abort"));
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}
