//! Compressed responses, from YAML to a real client.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use crate::harness::{Gateway, Start, loopback};

const HOST: &str = "shop.example.com";

fn page() -> String {
    let lines = (0..2000).map(|number| format!("<li>item {}</li>\n", number * number));
    lines.collect()
}

/// An origin whose every answer is a page, in HTTP/1.1.
fn origin() -> u16 {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|got| got > 0) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let page = page();
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\netag: \"v1\"\r\ncontent-length: {}\r\n\r\n{page}",
                            page.len()
                        );
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            });
        }
    });
    port
}

fn start() -> Gateway {
    let policy = "apiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: texts}\nspec:\n  targetRef: {kind: Gateway, name: gw}\n";
    Start::one_service("shop", HOST, origin())
        .file("policy.yaml", policy.into())
        .ready()
}

/// What curl makes of an answer: its head, and its body as bytes.
fn curl(gateway: &Gateway, arguments: &[&str]) -> (String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let head = folder.path().join("head");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--dump-header"])
        .arg(&head)
        .args(["--header", &format!("Host: {HOST}")])
        .args(arguments)
        .arg(format!("http://{}/", gateway.addr()))
        .output()
        .expect("curl runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let head = std::fs::read_to_string(head).unwrap().to_ascii_lowercase();
    (head, output.stdout)
}

#[test]
fn curl_reads_every_coding_over_http1_and_http2() {
    let gateway = start();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for coding in ["gzip", "br", "zstd"] {
            let accepts = format!("Accept-Encoding: {coding}");
            let (head, body) = curl(&gateway, &[version, "--compressed", "--header", &accepts]);
            assert!(
                head.contains(&format!("content-encoding: {coding}\r\n")),
                "{head}"
            );
            assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
            assert!(head.contains("etag: w/\"v1\"\r\n"), "{head}");
            assert!(!head.contains("content-length"), "{head}");
            assert!(body == page().as_bytes(), "{version} {coding}");
        }
        let (head, body) = curl(&gateway, &[version]);
        assert!(!head.contains("content-encoding"), "{head}");
        assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
        assert!(body == page().as_bytes());
    }
}

#[test]
fn compression_written_in_yaml_is_counted_and_explained() {
    let gateway = start();
    let (head, body) = curl(&gateway, &["--header", "Accept-Encoding: gzip"]);
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    let line = gateway.await_log(" 200 ");
    // What was sent is what is logged.
    assert!(line.contains(&format!(" {} ", body.len())), "{line}");
    let metrics = gateway.metrics();
    for counted in [
        "pingress_compressed_responses_total{coding=\"gzip\"} 1\n".to_owned(),
        format!(
            "pingress_compressed_response_bytes_total{{coding=\"gzip\",side=\"before\"}} {}\n",
            page().len()
        ),
        format!(
            "pingress_compressed_response_bytes_total{{coding=\"gzip\",side=\"after\"}} {}\n",
            body.len()
        ),
    ] {
        assert!(metrics.contains(&counted), "{counted}");
    }
    let text = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    let expected = "passes Compression default/texts (on the response; zstd at level 3, br at level 4, gzip at level 5, from 1024 bytes on, texts) at ";
    assert!(
        text.contains(expected) && text.contains("policy.yaml:1"),
        "{text}"
    );
}
