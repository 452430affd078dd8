//! The case of field names, which nobody may depend on (RFC 9110 section 5.1) and Envoy does not
//! keep either. Pingora keeps it in a second map beside the fields, which every edit has to follow
//! and every attempt would copy.

use pingora::http::{RequestHeader, ResponseHeader};

/// Forgets in which case the client wrote its fields' names.
pub(super) fn forget_in_request(head: &mut RequestHeader) {
    if !head.has_case() {
        return;
    }
    // What is kept must have the target: one in absolute form, or that is no UTF-8, lies outside.
    let target = head.uri.path_and_query().map(|target| target.as_str());
    if target.map(str::as_bytes) != Some(head.raw_path()) || !head.raw_path_is_utf8() {
        return;
    }
    let (nothing, ()) = http::Request::new(()).into_parts();
    let kept: http::request::Parts = std::mem::replace(head, nothing.into()).into();
    *head = kept.into();
}

/// The same for an origin's answer. Its reason phrase goes too: Envoy writes the standard one.
pub(super) fn forget_in_response(head: &mut ResponseHeader) {
    if !head.has_case() {
        return;
    }
    let (nothing, ()) = http::Response::new(()).into_parts();
    let kept: http::response::Parts = std::mem::replace(head, nothing.into()).into();
    *head = kept.into();
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
        forget_in_request(&mut head);
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
        forget_in_response(&mut head);
        assert_eq!((head.has_case(), head.status.as_u16()), (false, 299));
        assert_eq!(head.headers["x-one"], "1");
    }

    #[test]
    fn a_target_that_only_pingora_keeps_is_not_lost() {
        for target in [&b"http://other.example/a"[..], b"/\xff", b"*"] {
            let mut head = RequestHeader::build("GET", target, None).unwrap();
            forget_in_request(&mut head);
            assert_eq!(head.raw_path(), target);
        }
    }
}
