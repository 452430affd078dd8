//! Fields of heads whose names have one case: nobody may depend on it (RFC 9110 section 5.1), and
//! Envoy does not keep it either.
//!
//! Pingora keeps the case in a second map beside the fields, which every edit has to follow and
//! every attempt would copy, and its edits read each name anew. These edit the fields themselves,
//! and forget the map.

use std::mem;

use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};

/// Edits a request's fields. Everything else of its head stays, but for the case of names.
pub(super) fn edit_request<R>(
    head: &mut RequestHeader,
    edit: impl FnOnce(&mut HeaderMap) -> R,
) -> R {
    // A target in absolute form, or one that is no UTF-8, lies beside the URI.
    let target = head.uri.path_and_query().map(|target| target.as_str());
    let lies_beside =
        target.map(str::as_bytes) != Some(head.raw_path()) || !head.raw_path_is_utf8();
    let beside = lies_beside.then(|| head.raw_path().to_vec());
    let sends_end = head.send_end_stream();
    let (nothing, ()) = http::Request::new(()).into_parts();
    let mut parts: http::request::Parts = mem::replace(head, nothing.into()).into();
    let result = edit(&mut parts.headers);
    *head = parts.into();
    if let Some(target) = beside {
        // It was taken before.
        let _ = head.set_raw_path(&target);
    }
    if let Some(sends_end) = sends_end {
        head.set_send_end_stream(sends_end);
    }
    result
}

/// Edits a response's fields. The reason phrase becomes the standard one, as Envoy writes it.
pub(super) fn edit_response<R>(
    head: &mut ResponseHeader,
    edit: impl FnOnce(&mut HeaderMap) -> R,
) -> R {
    let (nothing, ()) = http::Response::new(()).into_parts();
    let mut parts: http::response::Parts = mem::replace(head, nothing.into()).into();
    let result = edit(&mut parts.headers);
    *head = parts.into();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_the_case_and_nothing_else() {
        let mut head = RequestHeader::build("POST", b"/a?b=%C3%A4", None).unwrap();
        head.append_header("X-One", "1").unwrap();
        head.append_header("x-ONE", "2").unwrap();
        head.set_version(http::Version::HTTP_10);
        edit_request(&mut head, |_| ());
        assert!(!head.has_case());
        assert_eq!(
            (head.method.as_str(), head.version),
            ("POST", http::Version::HTTP_10)
        );
        assert_eq!(head.raw_path(), b"/a?b=%C3%A4");
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        assert_eq!(wire, b"x-one: 1\r\nx-one: 2\r\n");
        let mut head = ResponseHeader::build(299, None).unwrap();
        head.append_header("X-One", "1").unwrap();
        edit_response(&mut head, |_| ());
        assert_eq!((head.has_case(), head.status.as_u16()), (false, 299));
        assert_eq!(head.headers["x-one"], "1");
    }

    #[test]
    fn a_target_that_only_pingora_keeps_is_not_lost() {
        for target in [&b"http://other.example/a"[..], b"/\xff", b"*"] {
            let mut head = RequestHeader::build("GET", target, None).unwrap();
            edit_request(&mut head, |_| ());
            assert_eq!(head.raw_path(), target);
        }
    }
}
