//! Requests that come faster than they may.

use std::sync::Arc;
use std::time::Duration;

use super::origins;
use super::rig::*;
use crate::base::{CauseKind, Share};
use crate::plan::{Action, LimitId, PlacedLimit};
use crate::policy::rate_limit::spec::{
    Announce, Bucket, Limit, Manner, Part, RateLimit, Refusal, Source,
};

fn limit(requests: u32, key: Vec<Source>) -> Limit {
    let part = |source| Part::Each {
        source,
        shared: true,
    };
    Limit {
        group: "limit".into(),
        bucket: Bucket {
            capacity: requests,
            per_fill: requests,
            interval: Duration::from_secs(86_400),
            replicas: 1,
        },
        ways: Box::new([key.into_iter().map(part).collect()]),
        keys: 1024,
        otherwise: false,
    }
}

fn policy(limit: Limit) -> RateLimit {
    RateLimit {
        refusal: Refusal {
            retry_after: true,
            ..Refusal::default()
        },
        announce: Announce {
            ietf: Some("limit".into()),
            x_ratelimit: true,
        },
        ..RateLimit::new("RateLimit default/limit", [limit])
    }
}

fn placed(policy: RateLimit) -> PlacedLimit {
    PlacedLimit {
        policy: Arc::new(policy),
        origin: origin(),
        origins: Box::new([origin()]),
        service: None,
    }
}

/// A gateway whose requests all pass a policy.
async fn site(policy: RateLimit, change: impl FnOnce(&mut Site)) -> Rig {
    let mut site = Site::to(origins::echo().await);
    site.limited.push(placed(policy));
    site.guards.back.push(LimitId(0));
    change(&mut site);
    site.serve().await
}

fn asks(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.com\r\n{headers}\r\n")
}

async fn statuses(rig: &Rig, headers: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for headers in headers {
        statuses.push(rig.ask(asks(headers)).await.status);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_too_many_is_refused_in_envoys_words_and_told_when_to_come_again() {
    let rig = site(policy(limit(1, vec![])), |_| {}).await;
    let mut client = Client::connect(rig.address).await;
    let answer = client.ask(asks("")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), "\"limit\";q=1;w=86400");
    assert_eq!(answer.header("ratelimit"), "\"limit\";r=0;t=86400");
    assert_eq!(answer.header("x-ratelimit-remaining"), "0");
    assert_eq!(rig.record().await.flags, "");
    // On the same connection, which stays open.
    for _ in 0..2 {
        let answer = client.ask(asks("")).await;
        assert_eq!((answer.status, &*answer.body), (429, "local_rate_limited"));
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(answer.header("retry-after"), "86400");
        assert_eq!(answer.header("ratelimit"), "\"limit\";r=0;t=86400");
        assert_eq!(answer.header("x-envoy-ratelimited"), "");
        let record = rig.record().await;
        let details = (&*record.flags, &*record.details);
        assert_eq!(details, ("RL", "local_rate_limited"));
        assert_eq!(record.cause, Some(CauseKind::RateLimited));
        assert_eq!(record.owner.as_deref(), Some("shop.yaml:7"));
        assert_eq!(record.upstream_host, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_client_is_told_unavailable_or_what_the_policy_says() {
    let grpc = "Content-Type: application/grpc\r\n";
    for (own, status) in [(None, "14"), (Some(8), "8")] {
        let mut policy = policy(limit(1, vec![]));
        policy.refusal.grpc_status = own;
        let rig = site(policy, |_| {}).await;
        rig.ask(asks("")).await;
        let answer = rig.ask(asks(grpc)).await;
        let told = (answer.status, answer.header("grpc-status"));
        assert_eq!(told, (200, status));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_no_rule_or_host_takes_are_limited_as_well() {
    let mut rule = policy(limit(1, vec![]));
    rule.refusal.status = 503;
    let rig = site(rule, |_| {}).await;
    let other = "GET / HTTP/1.1\r\nHost: other.com\r\n\r\n";
    assert_eq!(rig.ask(other).await.status, 404);
    assert_eq!(rig.ask(other).await.status, 503);
    assert_eq!(rig.get("/").await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_addresses_of_a_client_that_is_no_proxy_share_its_limit() {
    let client = Source::Client { v4: 32, v6: 64 };
    let rig = site(policy(limit(1, vec![client.clone()])), |_| {}).await;
    let forged = [
        "",
        "X-Forwarded-For: 1.1.1.1\r\n",
        "X-Forwarded-For: 2.2.2.2, 3.3.3.3\r\n",
        "X-Forwarded-For: 4.4.4.4\r\nX-Forwarded-For: 5.5.5.5\r\n",
        "X-Envoy-External-Address: 6.6.6.6\r\nForwarded: for=7.7.7.7\r\n",
        "X-Real-Ip: 8.8.8.8\r\n",
    ];
    assert_eq!(
        statuses(&rig, &forged).await,
        [200, 429, 429, 429, 429, 429]
    );
    // Behind one trusted proxy only what that proxy saw counts.
    let rig = site(policy(limit(1, vec![client])), |site| {
        site.http.trusted_proxies = 1
    })
    .await;
    let forwarded = [
        "X-Forwarded-For: 1.1.1.1\r\n",
        "X-Forwarded-For: 9.9.9.9, 1.1.1.1\r\n",
        "X-Forwarded-For: 2.2.2.2\r\n",
    ];
    assert_eq!(statuses(&rig, &forwarded).await, [200, 429, 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_a_value_out_or_making_it_long_is_no_way_around_a_limit() {
    let key = Source::Header(http::HeaderName::from_static("x-key"));
    let rig = site(policy(limit(1, vec![key])), |_| {}).await;
    let long = format!("X-Key: {}\r\n", "k".repeat(50_000));
    let absent = ["", "X-Key:\r\n", "X-Key: \r\n", "Other: a\r\n"];
    assert_eq!(statuses(&rig, &absent).await, [200, 429, 429, 429]);
    assert_eq!(statuses(&rig, &[&long, &long]).await, [200, 429]);
    let repeated = [
        "X-Key: a\r\nX-Key: b\r\n",
        "X-Key: a,b\r\n",
        "X-Key: a\r\nx-key: b\r\n",
    ];
    assert_eq!(statuses(&rig, &repeated).await, [200, 429, 429]);
    // 64 KB is more than a head may have.
    let longer = format!("X-Key: {}\r\n", "k".repeat(64 * 1024));
    assert_eq!(statuses(&rig, &[&longer]).await, [431]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_each_connection_begins_anew_with_another_one() {
    let rig = site(policy(limit(2, vec![Source::Connection])), |_| {}).await;
    for _ in 0..2 {
        let mut client = Client::connect(rig.address).await;
        for status in [200, 200, 429, 429] {
            assert_eq!(client.ask(asks("")).await.status, status);
        }
    }
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for status in [200, 200, 429] {
        let request = http::Request::get("http://a.com/").body(()).unwrap();
        let mut client = within(client.clone().ready()).await.unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        assert_eq!(within(answer).await.unwrap().status(), status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_envoy_filter_only_observes_is_told_as_envoy_tells_it() {
    let mut rule = policy(limit(1, vec![]));
    (rule.manner, rule.enforced) = (Manner::Envoys, Share::NONE);
    rule.announce.ietf = None;
    let rig = site(rule, |_| {}).await;
    for _ in 0..3 {
        let answer = rig.get("/").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit"), "1");
        assert_eq!(answer.header("x-ratelimit-remaining"), "0");
        assert_eq!(answer.header("x-ratelimit-reset"), "86400");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_passes_before_a_limit_at_the_router_but_not_one_at_the_front() {
    use crate::policy::cors::spec::{Allowed, Cors, OriginMatch};
    let cors = Cors {
        origins: vec![OriginMatch::Exact("https://a".into())],
        methods: Allowed::Asked,
        headers: Allowed::Unsaid,
        expose: None,
        max_age: None,
        credentials: false,
        forward_unmatched: false,
    };
    let preflight = "OPTIONS / HTTP/1.1\r\nHost: a.com\r\nOrigin: https://a\r\nAccess-Control-Request-Method: PUT\r\n\r\n";
    for (is_front, expected) in [(false, [200, 200, 200, 429]), (true, [200, 429, 429, 429])] {
        let mut forward = to(&[(0, 1)]);
        forward.policies.cors = Some(Arc::new(crate::plan::Placed {
            policy: cors.clone(),
            origin: origin(),
        }));
        let mut site = Site::of(vec![route("/", Action::Forward(forward))])
            .cluster(Default::default(), &[origins::echo().await]);
        site.limited.push(placed(policy(limit(1, vec![]))));
        match is_front {
            true => site.guards.front.push(LimitId(0)),
            false => site.guards.back.push(LimitId(0)),
        }
        let rig = site.serve().await;
        let mut statuses = Vec::new();
        for request in [preflight, preflight, &asks(""), &asks("")] {
            statuses.push(rig.ask(request).await.status);
        }
        assert_eq!(statuses, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_observed_is_served_and_counted() {
    let mut observing = policy(limit(1, vec![]));
    observing.enforced = Share::NONE;
    let rig = site(observing, |_| {}).await;
    assert_eq!(statuses(&rig, &["", "", ""]).await, [200; 3]);
    let counted = "pingress_rate_limited_requests_total{policy=\"RateLimit default/limit\",limit=\"0\",result=\"observed\"} 2\n";
    assert!(rig.upstreams.metrics().contains(counted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_plan_does_not_fill_the_buckets_of_an_unchanged_policy() {
    let rig = site(policy(limit(1, vec![])), |_| {}).await;
    assert_eq!(statuses(&rig, &["", ""]).await, [200, 429]);
    let plan = rig.serving.load().plan.clone();
    rig.serving.store(rig.upstreams.serve(plan));
    assert_eq!(statuses(&rig, &[""]).await, [429]);
}
