//! Heads that are refused: by status, with the connection closed, and recorded.

use super::origins;
use super::rig::*;
use crate::base::CauseKind;
use crate::plan::HttpOptions;

/// Sends a head to a gateway whose origin would answer 200, and expects a refusal.
async fn refused(rig: &Rig, head: &str) -> (u16, CauseKind) {
    let mut client = Client::connect(rig.address).await;
    let answer = client.ask(head).await;
    assert_eq!(answer.header("connection"), "close", "{head:?}");
    assert_eq!(answer.header("server"), "istio-envoy", "{head:?}");
    assert!(client.is_closed().await, "{head:?}");
    let record = rig.record().await;
    assert_eq!(record.status, answer.status, "{head:?}");
    assert_eq!(record.upstream_host, None, "{head:?}");
    (answer.status, record.cause.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ambiguous_head_gets_its_status_a_closed_connection_and_a_record() {
    use CauseKind::*;
    let rig = Site::to(origins::echo().await).serve().await;
    let long = "x".repeat(17 * 1024);
    let fields = "X: y\r\n".repeat(100);
    let large = "x".repeat(61 * 1024);
    let cases = [
        (
            "GET / HTTP/1.1\nHost: a.com\n\n".to_owned(),
            400,
            BadRequest,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a.com\nX: y\r\n\r\n".into(),
            400,
            BadRequest,
        ),
        (
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
            ),
            400,
            BadRequest,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                "0\r\n\r\n",
            ),
            400,
            BadRequest,
        ),
        (
            post("Content-Length: 2\r\nContent-Length: 2", "ab"),
            400,
            BadRequest,
        ),
        (post("Content-Length: 2, 2", "ab"), 400, BadRequest),
        (
            post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
            501,
            NotImplemented,
        ),
        (
            post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
            400,
            BadRequest,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            400,
            BadRequest,
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, BadRequest),
        (host_is("a b"), 400, BadRequest),
        (host_is("a.com,b.com"), 400, BadRequest),
        (host_is("a.com/x"), 400, BadRequest),
        (host_is("a.com:"), 400, BadRequest),
        (host_is("a.com:http"), 400, BadRequest),
        (host_is("a.com:99999"), 400, BadRequest),
        (host_is("[::1"), 400, BadRequest),
        (host_is(""), 400, BadRequest),
        (
            "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a.com\r\n\r\n".into(),
            400,
            BadRequest,
        ),
        (
            "GET / HTTP/1.0\r\nHost: a.com\r\n\r\n".into(),
            426,
            UpgradeRequired,
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: a.com\r\n\r\n".into(),
            405,
            MethodNotAllowed,
        ),
        (
            "GET /%00 HTTP/1.1\r\nHost: a.com\r\n\r\n".into(),
            400,
            BadPath,
        ),
        (
            "GET x HTTP/1.1\r\nHost: a.com\r\n\r\n".into(),
            400,
            BadRequest,
        ),
        (
            "GET * HTTP/1.1\r\nHost: a.com\r\n\r\n".into(),
            400,
            BadRequest,
        ),
        (
            "GET ftp://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".into(),
            400,
            BadRequest,
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: a.com\r\n\r\n"),
            414,
            UriTooLong,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a.com\r\n{fields}\r\n"),
            431,
            HeadersTooLarge,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a.com\r\nX: {large}\r\n\r\n"),
            431,
            HeadersTooLarge,
        ),
        (get("Connection: close, x-forwarded-for"), 400, BadRequest),
        (get("Connection: Authorization"), 400, BadRequest),
        (
            get("Connection: a, b, c, d, e, f, g, h, i, j"),
            400,
            BadRequest,
        ),
        (
            post("Expect: a-miracle\r\nContent-Length: 2", "ab"),
            417,
            ExpectationFailed,
        ),
    ];
    for (head, status, cause) in cases {
        let shown: String = head.chars().take(120).collect();
        assert_eq!(refused(&rig, &head).await, (status, cause), "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smuggled_request_behind_an_ambiguous_one_is_never_served() {
    let rig = Site::to(origins::echo().await).serve().await;
    let mut client = Client::connect(rig.address).await;
    let smuggle = "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\
                   \r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a.com\r\n\r\n";
    assert_eq!(client.ask(smuggle).await.status, 400);
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harmless_oddities_are_served() {
    let rig = Site::to(origins::echo().await).serve().await;
    for head in [
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: A.com:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.com\r\nx_under_score: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost: a.com\r\n\r\n",
    ] {
        assert_eq!(rig.ask(head).await.status, 200, "{head:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_served_where_the_setting_says_so() {
    let mut site = Site::to(origins::echo().await);
    site.http = HttpOptions {
        http10: true,
        ..HttpOptions::default()
    };
    let rig = site.serve().await;
    let mut client = Client::connect(rig.address).await;
    let answer = client.ask("GET / HTTP/1.0\r\nHost: a.com\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    // Without `Connection: keep-alive` it closes.
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_profile_refuses_underscores_and_escaped_slashes() {
    let mut site = Site::to(origins::echo().await);
    site.http = HttpOptions {
        edge: true,
        ..HttpOptions::default()
    };
    let rig = site.serve().await;
    assert_eq!(
        refused(&rig, &get("x_y: z")).await,
        (400, CauseKind::BadRequest)
    );
    let head = "POST /a%2fb HTTP/1.1\r\nHost: a.com\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(refused(&rig, head).await, (400, CauseKind::BadPath));
    let answer = rig.get("/a%2f%2fb?c=%2f").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (307, "/a/b?c=%2f")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upload_is_read_long_enough_for_the_client_to_see_why() {
    let rig = Site::to(origins::echo().await).serve().await;
    let mut client = Client::connect(rig.address).await;
    client
        .send("POST /%00 HTTP/1.1\r\nHost: a.com\r\nContent-Length: 300000\r\n\r\n")
        .await;
    client.send(vec![b'x'; 300_000]).await;
    assert_eq!(client.answer(false).await.status, 400);
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.com\r\n{fields}\r\n\r\n{body}")
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.com\r\n{fields}\r\n\r\n")
}

fn host_is(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}
