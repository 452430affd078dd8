//! Every failure's status, body, log flags, details and cause, one by one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::origins;
use super::rig::*;
use super::script::{Act, OK, Script};
use crate::base::CauseKind;
use crate::plan::{Action, Condition, Conditions, Pool, Protocol, RetryPolicy, Target};

/// What Envoy's texts of failed connections begin with.
const RESET: &str = "upstream connect error or disconnect/reset before headers. ";

/// Path, status, flags, details, body, cause.
type Row = (
    &'static str,
    u16,
    &'static str,
    &'static str,
    String,
    Option<CauseKind>,
);

/// Each failure's status, flags, details, body and cause (the metric's label), as Envoy has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_has_its_flag_details_body_and_cause() {
    let refusing = origins::nobody().await;
    let closing = Script::of(&[Act::Close]).await;
    let (resetting, _) = origins::h2c_resetting(usize::MAX, h2::Reason::INTERNAL_ERROR).await;
    let stalling = Script::of(&[Act::Stall]).await;
    let busy = Script::of(&[Act::Say(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy",
    )])
    .await;
    let impatient = RetryPolicy {
        per_try_timeout: Some(Duration::from_millis(100)),
        ..RetryPolicy::default()
    };
    let eager = RetryPolicy {
        conditions: Conditions::of(&[Condition::ServerError]),
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let at = |cluster: u32, policy: Option<&RetryPolicy>, timeout: Option<u64>| {
        let mut forward = to(&[(cluster, 1)]);
        forward.retry = policy.map(|policy| Arc::new(policy.clone()));
        forward.timeout = timeout.map(Duration::from_millis);
        Action::Forward(forward)
    };
    let mut missing = to(&[(0, 1)]);
    missing.destinations[0].target = Target::Missing {
        name: "outbound|80||gone".into(),
        reason: "no such host".into(),
    };
    let rig = Site::of(vec![
        route("/nc", Action::Forward(missing)),
        route("/uh", at(0, None, None)),
        route("/uf-urx", at(1, Some(&RetryPolicy::default()), None)),
        route("/uf", at(1, None, None)),
        route("/uc-urx", at(2, Some(&eager), None)),
        route("/urx", at(5, Some(&eager), None)),
        route("/uc", at(2, None, None)),
        route("/ur", at(3, None, None)),
        route("/ut-try", at(4, Some(&impatient), None)),
        route("/ut", at(4, None, Some(100))),
    ])
    .cluster(Protocol::Http1, &[])
    .cluster(Protocol::Http1, &[refusing])
    .cluster(Protocol::Http1, &[closing.addr])
    .cluster(Protocol::H2c, &[resetting])
    .cluster(Protocol::Http1, &[stalling.addr])
    .cluster(Protocol::Http1, &[busy.addr])
    .serve()
    .await;
    let refused = "reset reason: remote connection failure, transport failure reason: delayed \
                   connect error: Connection refused";
    let table: [Row; 10] = [
        (
            "/nc",
            503,
            "NC",
            "cluster_not_found",
            String::new(),
            Some(CauseKind::ClusterNotFound),
        ),
        (
            "/uh",
            503,
            "UH",
            "no_healthy_upstream",
            "no healthy upstream".into(),
            Some(CauseKind::NoHealthyUpstream),
        ),
        (
            "/uf",
            503,
            "UF",
            "upstream_reset_before_response_started{remote_connection_failure}",
            format!("{RESET}{refused}"),
            Some(CauseKind::UpstreamConnectFailure),
        ),
        (
            "/uf-urx",
            503,
            "UF,URX",
            "upstream_reset_before_response_started{remote_connection_failure}",
            format!("{RESET}retried and the latest {refused}"),
            Some(CauseKind::UpstreamConnectFailure),
        ),
        (
            "/uc",
            503,
            "UC",
            "upstream_reset_before_response_started{connection_termination}",
            format!("{RESET}reset reason: connection termination"),
            Some(CauseKind::UpstreamConnectionTermination),
        ),
        (
            "/uc-urx",
            503,
            "UC,URX",
            "upstream_reset_before_response_started{connection_termination}",
            format!("{RESET}retried and the latest reset reason: connection termination"),
            Some(CauseKind::UpstreamConnectionTermination),
        ),
        (
            "/ur",
            503,
            "UR",
            "upstream_reset_before_response_started{remote_reset}",
            format!("{RESET}reset reason: remote reset"),
            Some(CauseKind::UpstreamRemoteReset),
        ),
        (
            "/ut",
            504,
            "UT",
            "response_timeout",
            "upstream request timeout".into(),
            Some(CauseKind::UpstreamTimeout),
        ),
        (
            "/ut-try",
            504,
            "UT",
            "upstream_per_try_timeout",
            "upstream request timeout".into(),
            Some(CauseKind::UpstreamPerTryTimeout),
        ),
        ("/urx", 503, "URX", "via_upstream", "busy".into(), None),
    ];
    for (path, status, flags, details, body, cause) in table {
        let answer = rig.get(path).await;
        let record = rig.record().await;
        assert_eq!((answer.status, &answer.body), (status, &body), "{path}");
        assert_eq!(
            (&*record.flags, &*record.details, record.cause),
            (flags, details, cause),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_beyond_the_clusters_bound_are_not_made_and_say_uo() {
    // May fail: the second request, with the origin's own answer; the first one goes on.
    let first = Act::Say("HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
    let origin = Script::of(&[first, Act::Stall, first, OK]).await;
    let eager = RetryPolicy {
        conditions: Conditions::of(&[Condition::ServerError]),
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let mut forward = to(&[(0, 1)]);
    forward.retry = Some(Arc::new(eager));
    let rig = Site::of(vec![route("/", Action::Forward(forward))])
        .cluster(Protocol::Http1, &[origin.addr])
        .pool(Pool {
            max_retries: NonZeroU32::new(1),
            ..Pool::default()
        })
        .serve()
        .await;
    let mut held = Client::connect(rig.address).await;
    held.send("GET /held HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
    within(async {
        while origin.count() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(rig.get("/").await.body, "busy");
    assert_eq!(rig.record().await.flags, "UO");
    drop(held);
    assert_eq!(rig.record().await.cause, Some(CauseKind::ClientDisconnect));
    assert_eq!(rig.get("/").await.body, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_pools_bound_are_503_uo_at_once_and_the_others_go_on() {
    // May fail: the second request; the first one stays with its origin.
    let held = Script::of(&[Act::Stall]).await;
    let rig = Site::of(vec![route("/", forward(0))])
        .cluster(Protocol::Http1, &[held.addr])
        .pool(Pool {
            max_requests: NonZeroU32::new(1),
            ..Pool::default()
        })
        .serve()
        .await;
    let mut first = Client::connect(rig.address).await;
    first.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
    within(async {
        while held.count() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let answer = rig.get("/").await;
    assert_eq!(
        (answer.status, &*answer.body),
        (503, &*format!("{RESET}reset reason: overflow"))
    );
    assert_eq!(answer.header("x-envoy-overloaded"), "true");
    let record = rig.record().await;
    assert_eq!(
        (&*record.flags, &*record.details, record.cause),
        (
            "UO",
            "upstream_reset_before_response_started{overflow}",
            Some(CauseKind::UpstreamOverflow)
        )
    );
    assert_eq!(held.count(), 1);
}
