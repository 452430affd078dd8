//! Copies of requests for mirrors, and that clients never notice them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::origins;
use super::rig::*;
use crate::base::Share;
use crate::plan::{Action, ClusterId, Mirror, Protocol, Target};
use crate::proxy::MirrorLimits;

/// What a mirror received: the head as `name: value` lines, and the body.
type Received = UnboundedReceiver<(String, String)>;

/// An origin that hands on what it receives.
async fn mirror(protocol: Protocol) -> (SocketAddr, Received) {
    let (sender, received) = unbounded_channel();
    let handler: origins::Handler = Arc::new(move |request| {
        let sender = sender.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let mut text = format!("{} {}\n", head.method, head.uri);
            for (name, value) in &head.headers {
                text += &format!("{name}: {}\n", value.to_str().unwrap());
            }
            if let Ok(body) = body.collect().await {
                let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                let _ = sender.send((text, body));
            }
            http::Response::new(origins::full("ignored"))
        })
    });
    let address = match protocol {
        Protocol::Http1 => origins::http1(handler).await,
        _ => origins::http2(handler).await,
    };
    (address, received)
}

/// Forwards everything to the first address and copies a share of it to the second.
async fn site(origin: SocketAddr, copy: (SocketAddr, Protocol), share: Share, body: usize) -> Rig {
    let mut forward = to(&[(0, 1)]);
    forward.policies.mirrors = Box::new([Mirror {
        target: Target::Cluster(ClusterId(1)),
        share,
        origin: origin_of_rule(),
    }]);
    let mut site = Site::of(vec![route("/", Action::Forward(forward))])
        .cluster(Protocol::Http1, &[origin])
        .cluster(copy.1, &[copy.0]);
    site.limits.mirror = MirrorLimits {
        body,
        within: Duration::from_millis(300),
    };
    site.serve().await
}

fn origin_of_rule() -> crate::base::Origin {
    origin()
}

/// Waits until the metrics say how so many copies ended.
async fn await_copies(rig: &Rig, result: &str, count: usize) {
    let line = format!("result=\"{result}\"}} {count}\n");
    within(async {
        while !rig.upstreams.metrics().contains(&line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

const POST: &str = "POST /x?y=1 HTTP/1.1\r\nHost: a.com\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_gets_the_request_as_the_origin_does_and_the_client_only_the_origins_answer() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let (address, mut copies) = mirror(protocol).await;
        let rig = site(origins::echo().await, (address, protocol), Share::ALL, 1000).await;
        let chunked = "POST /x?y=1 HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for request in [POST, chunked] {
            let answer = rig.ask(request).await;
            assert!(answer.body.ends_with("hello"), "{}", answer.body);
            assert_ne!(answer.body, "ignored");
            let (head, body) = within(copies.recv()).await.unwrap();
            assert_eq!(body, "hello");
            let uri = match protocol {
                Protocol::Http1 => "POST /x?y=1\nhost: a.com\n",
                _ => "POST http://a.com/x?y=1\n",
            };
            assert!(head.contains(uri.split('\n').next().unwrap()), "{head}");
            assert!(head.contains("x-envoy-internal: true\n"), "{head}");
            // The gateway's own address follows the client's.
            assert!(
                head.contains("x-forwarded-for: 127.0.0.1,127.0.0.1\n"),
                "{head}"
            );
            assert!(head.contains("x-envoy-attempt-count: 1\n"), "{head}");
        }
        assert!(rig.get("/").await.body.starts_with("GET / "));
        let (head, body) = within(copies.recv()).await.unwrap();
        assert!(head.starts_with("GET ") && body.is_empty(), "{head}");
        await_copies(&rig, "answered", 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_istio_appends_shadow_to_the_host_if_asked_to() {
    let (address, mut copies) = mirror(Protocol::Http1).await;
    let rig = site(
        origins::echo().await,
        (address, Protocol::Http1),
        Share::ALL,
        1000,
    )
    .await;
    let mut plan = crate::plan::Plan {
        clusters: rig.serving.load().plan.clusters.clone(),
        ..Default::default()
    };
    plan.http.shadow_host = true;
    let old = rig.serving.load().plan.clone();
    plan.listeners = old
        .listeners
        .iter()
        .map(|listener| crate::plan::Listener {
            addr: listener.addr,
            declared_port: listener.declared_port,
            is_tls: false,
            grpc_web: false,
            origins: Vec::new(),
            hosts: listener.hosts.clone(),
            virtual_hosts: listener.virtual_hosts.clone(),
            fence: None,
            guarding: None,
        })
        .collect();
    rig.serving.store(rig.upstreams.serve(Arc::new(plan)));
    for (host, shadow) in [("a.com", "a.com-shadow"), ("a.com:80", "a.com-shadow:80")] {
        rig.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        let (head, _) = within(copies.recv()).await.unwrap();
        assert!(head.contains(&format!("host: {shadow}\n")), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_never_answers_delays_no_client_and_is_given_up_in_time() {
    let stalled = origins::raw(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let rig = site(
        origins::echo().await,
        (stalled, Protocol::Http1),
        Share::ALL,
        1000,
    )
    .await;
    let mut client = Client::connect(rig.address).await;
    for _ in 0..20 {
        assert_eq!(client.ask(POST).await.status, 200);
    }
    await_copies(&rig, "timed_out", 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_not_there_fails_no_client() {
    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let rig = site(
        origins::echo().await,
        (dead, Protocol::Http1),
        Share::ALL,
        1000,
    )
    .await;
    for _ in 0..3 {
        let answer = rig.ask(POST).await;
        assert_eq!(answer.status, 200);
        assert_eq!(rig.record().await.flags, "");
    }
    await_copies(&rig, "failed", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_takes_no_more_of_a_body_is_cut_at_the_bound_and_the_upload_goes_on() {
    // Reads nothing: the sockets' buffers fill, then the bound.
    let deaf = origins::raw(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let rig = site(
        origins::echo().await,
        (deaf, Protocol::Http1),
        Share::ALL,
        64 * 1024,
    )
    .await;
    let size = 32 * 1024 * 1024;
    let mut client = Client::connect(rig.address).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: {size}\r\n\r\n"
        ))
        .await;
    let (mut read, mut write) = client.stream.split();
    let sent = async {
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..size / chunk.len() {
            tokio::io::AsyncWriteExt::write_all(&mut write, &chunk)
                .await
                .unwrap();
        }
    };
    let received = async {
        let mut total = 0;
        let mut buffer = vec![0; 64 * 1024];
        while total < size {
            total += tokio::io::AsyncReadExt::read(&mut read, &mut buffer)
                .await
                .unwrap();
        }
    };
    within(async { tokio::join!(sent, received) }).await;
    drop(client);
    within(async {
        loop {
            let metrics = rig.upstreams.metrics();
            let ended = ["cut", "timed_out"].map(|how| format!("result=\"{how}\"}} 1\n"));
            if ended.iter().any(|ended| metrics.contains(ended)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn about_the_share_of_requests_is_copied() {
    let (address, _copies) = mirror(Protocol::Http1).await;
    let share = Share::of_percent(25.0);
    let rig = site(
        origins::echo().await,
        (address, Protocol::Http1),
        share,
        1000,
    )
    .await;
    let mut client = Client::connect(rig.address).await;
    for _ in 0..2000 {
        client.ask("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
    }
    let active = "pingress_mirrored_requests_active{cluster=\"outbound|80||c1.default\"} 0\n";
    let metrics = within(async {
        loop {
            let metrics = rig.upstreams.metrics();
            if metrics.contains(active) {
                break metrics;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let ended = metrics.lines().filter(|line| line.contains("result="));
    let copied: u32 = ended
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
        .sum();
    // Five deviations of 19.4 around 500, so that the test fails by chance less than once in a million.
    assert!((403..=597).contains(&copied), "{copied}");
}
