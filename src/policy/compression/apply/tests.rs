//! Heads before and after.

use super::*;
use crate::policy::compression::spec::{Coding, MediaTypes};

fn policy() -> Compression {
    let leveled = |coding: Coding| Leveled {
        coding,
        level: coding.default_level(),
    };
    Compression {
        codings: Coding::ALL.map(leveled).into(),
        min_bytes: 100,
        types: MediaTypes::Texts,
    }
}

fn request(head: &str) -> RequestHeader {
    let mut words = head.lines();
    let method = words.next().unwrap_or("GET");
    let mut request = RequestHeader::build(method, b"/", None).unwrap();
    for line in words {
        let (name, value) = line.split_once(": ").unwrap();
        request
            .append_header(name.to_owned(), value.to_owned())
            .unwrap();
    }
    request
}

fn response(status: u16, lines: &str) -> ResponseHeader {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        response
            .append_header(name.to_owned(), value.to_owned())
            .unwrap();
    }
    response
}

const HTML: &str = "content-type: text/html\n";

fn show(response: &ResponseHeader) -> String {
    let lines = response.headers.iter();
    let mut lines: Vec<_> = lines
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// The coding that a response is sent in, and its `Vary`.
fn met(head: &str, status: u16, lines: &str, ends: bool) -> (&'static str, String) {
    let mut response = response(status, lines);
    let asked = Asked::new(&policy(), &request(head));
    let coding = match policy().meet(&asked, &mut response, ends) {
        Meeting::Unconcerned => "unconcerned",
        Meeting::Unwanted => "unwanted",
        Meeting::Wanted(wanted) => wanted.coding.token(),
    };
    let vary = response.headers.get_all(VARY).iter();
    let vary: Vec<_> = vary.map(|value| value.to_str().unwrap()).collect();
    (coding, vary.join(" | "))
}

const ASKS: &str = "GET\naccept-encoding: gzip";

#[test]
fn what_may_not_or_need_not_be_compressed_is_left_alone() {
    for (status, lines) in [
        (204, ""),
        (205, HTML),
        (206, HTML),
        (304, HTML),
        (200, ""),
        (200, "content-type: image/png\n"),
        (200, "content-type: application/grpc\n"),
        (200, "content-type: application/grpc-web+proto\n"),
        (200, "content-type: text/html\ncontent-length: 99\n"),
        (200, "content-type: text/html\ncontent-length: x\n"),
        (200, "content-type: text/html\ncontent-encoding: br\n"),
        (200, "content-type: text/html\ncontent-encoding: identity\n"),
        (200, "content-type: text/html\ncontent-range: bytes 0-1/2\n"),
        (
            200,
            "content-type: text/html\ncontent-digest: sha-256=:x:\n",
        ),
        (
            200,
            "content-type: text/html\ncache-control: private, No-Transform\n",
        ),
        (
            200,
            "content-type: text/html\ncache-control: private\ncache-control: no-transform\n",
        ),
    ] {
        let (coding, vary) = met(ASKS, status, lines, false);
        assert_eq!((coding, &*vary), ("unconcerned", ""), "{status} {lines}");
    }
    assert_eq!(met(ASKS, 200, HTML, true).0, "unconcerned");
    for (status, lines) in [
        (200, "content-type: text/html\ncontent-length: 100\n"),
        (200, "content-type: Text/HTML; charset=utf-8\n"),
        (404, HTML),
        (503, HTML),
        (
            200,
            "content-type: text/html\ncache-control: no-transformation\n",
        ),
    ] {
        assert_eq!(
            met(ASKS, status, lines, false).0,
            "gzip",
            "{status} {lines}"
        );
    }
}

#[test]
fn caches_are_told_of_what_the_response_depends_on_whoever_asked() {
    for (head, coding) in [
        (ASKS, "gzip"),
        ("GET", "unwanted"),
        ("GET\naccept-encoding: identity", "unwanted"),
        ("GET\naccept-encoding: gzip\nrange: bytes=0-9", "unwanted"),
        ("HEAD\naccept-encoding: br", "br"),
    ] {
        for (written, told) in [
            ("", "Accept-Encoding"),
            ("vary: \n", "Accept-Encoding"),
            ("vary: origin\n", "origin, Accept-Encoding"),
            ("vary: a\nvary: b, c\n", "a, b, c, Accept-Encoding"),
            ("vary: accept-encoding\n", "accept-encoding"),
            ("vary: a, ACCEPT-ENCODING\n", "a, ACCEPT-ENCODING"),
            ("vary: *\n", "*"),
        ] {
            let ends = head.starts_with("HEAD");
            let (met, vary) = met(head, 200, &format!("{HTML}{written}"), ends);
            assert_eq!((met, &*vary), (coding, told), "{head} {written}");
        }
    }
}

#[test]
fn a_head_says_what_the_body_has_become() {
    let lines =
        "content-type: text/html\ncontent-length: 5000\netag: \"a\"\naccept-ranges: bytes\nx: y\n";
    let common = "content-encoding: gzip\ncontent-type: text/html\netag: W/\"a\"\n";
    let rest = "vary: Accept-Encoding\nx: y";
    for (method, expected) in [
        ("GET", format!("{common}transfer-encoding: chunked\n{rest}")),
        ("HEAD", format!("{common}{rest}")),
    ] {
        let mut response = response(200, lines);
        let request = request(&ASKS.replace("GET", method));
        let asked = Asked::new(&policy(), &request);
        let met = policy().meet(&asked, &mut response, method == "HEAD");
        let Meeting::Wanted(coding) = met else {
            panic!("{met:?}")
        };
        assert!(encode(coding, &asked, &mut response));
        assert_eq!(show(&response), expected);
    }
    let mut weak = response(200, "etag: W/\"a\"\n");
    weaken(&mut weak);
    assert_eq!(show(&weak), "etag: W/\"a\"");
}

#[test]
fn a_client_that_has_a_compressed_copy_is_told_of_that_one() {
    let told = |known: &str, etag: &str| {
        let mut response = response(304, &format!("etag: {etag}\n"));
        let head = format!("GET\naccept-encoding: gzip\nif-none-match: {known}");
        let asked = Asked::new(&policy(), &request(&head));
        policy().meet(&asked, &mut response, true);
        show(&response)
    };
    let weakened = "etag: W/\"a\"\nvary: Accept-Encoding";
    assert_eq!(told("W/\"a\"", "\"a\""), weakened);
    assert_eq!(told("\"b\", W/\"a\"", "\"a\""), weakened);
    assert_eq!(told("\"a\"", "\"a\""), "etag: \"a\"");
    assert_eq!(told("W/\"a\"", "W/\"a\""), "etag: W/\"a\"");
    assert_eq!(told("*", "\"a\""), "etag: \"a\"");
}

#[test]
fn http10_and_a_policy_without_codings_get_nothing_compressed() {
    let mut old = request(ASKS);
    old.set_version(Version::HTTP_10);
    let asked = Asked::new(&policy(), &old);
    let mut head = response(200, HTML);
    assert_eq!(policy().meet(&asked, &mut head, false), Meeting::Unwanted);
    let off = Compression {
        codings: Box::default(),
        ..policy()
    };
    let asked = Asked::new(&off, &request(ASKS));
    let mut head = response(200, HTML);
    assert_eq!(off.meet(&asked, &mut head, false), Meeting::Unconcerned);
    assert_eq!(show(&head), HTML.trim_end());
}
