//! The strict pass over a raw HTTP/1 head: what a second parser could read differently is refused.
//!
//! Pingora's parser accepts bare LF, Content-Length beside Transfer-Encoding, repeated equal
//! lengths and unknown transfer codings. Its buffer keeps the head byte for byte, so one look at
//! it finds them. The parser has already refused bad names and values,
//! folded lines, two Hosts and lengths that differ (RFC 9112).

use super::{Refusal, bad, host, too_large};
use crate::base::CauseKind;
use crate::proxy::limits::Limits;

/// What the head says that later steps need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Head {
    pub http10: bool,
    /// It has a `Connection` or `Upgrade` field.
    pub connection: bool,
    /// It has an `Expect` field.
    pub expect: bool,
}

/// Reads the raw head of one HTTP/1 request.
///
/// # Errors
/// The first reason to refuse it. The connection must then be closed.
pub(in crate::proxy) fn check(raw: &[u8], limits: &Limits, edge: bool) -> Result<Head, Refusal> {
    let mut rest = raw;
    let mut empty_lines = 0;
    let mut request_line = line(&mut rest)?;
    while request_line.is_empty() && !rest.is_empty() {
        empty_lines += 1;
        if empty_lines > 2 {
            return Err(bad("more than two empty lines before the request line"));
        }
        request_line = line(&mut rest)?;
    }
    if request_line.len() > limits.request_line {
        return Err(Refusal::new(
            CauseKind::UriTooLong,
            "the request line is too long",
        ));
    }
    if raw.len() > limits.head {
        return Err(too_large("the head is too large"));
    }
    let mut head = Head {
        http10: request_line.ends_with(b" HTTP/1.0"),
        ..Head::default()
    };
    fields(rest, limits, edge, &mut head)?;
    Ok(head)
}

/// Walks the fields up to the empty line.
fn fields(mut rest: &[u8], limits: &Limits, edge: bool, head: &mut Head) -> Result<(), Refusal> {
    let (mut count, mut lengths, mut codings, mut hosts) = (0, 0, 0, 0);
    loop {
        let field = line(&mut rest)?;
        if field.is_empty() {
            break;
        }
        count += 1;
        if count > limits.fields {
            return Err(too_large("there are too many header fields"));
        }
        let colon = field
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(field.len());
        let (name, value) = field.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        // The first byte and the length rule out nearly every other name without comparing it.
        match (name.first().map(u8::to_ascii_lowercase), name.len()) {
            (Some(b'h'), 4) if name.eq_ignore_ascii_case(b"host") => {
                hosts += 1;
                host::validate(value).map_err(bad)?;
            }
            (Some(b'c'), 14) if name.eq_ignore_ascii_case(b"content-length") => {
                lengths += 1;
                if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                    return Err(bad("Content-Length is not one number"));
                }
            }
            (Some(b't'), 17) if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                codings += 1;
                transfer_coding(value)?;
            }
            (Some(b'c'), 10) if name.eq_ignore_ascii_case(b"connection") => head.connection = true,
            (Some(b'u'), 7) if name.eq_ignore_ascii_case(b"upgrade") => head.connection = true,
            (Some(b'e'), 6) if name.eq_ignore_ascii_case(b"expect") => head.expect = true,
            _ => {}
        }
        if edge && name.contains(&b'_') {
            return Err(bad("a field name has an underscore"));
        }
    }
    if lengths > 1 {
        return Err(bad("Content-Length is repeated"));
    }
    if codings > 1 {
        return Err(bad("Transfer-Encoding is repeated"));
    }
    if lengths > 0 && codings > 0 {
        return Err(bad("Content-Length and Transfer-Encoding are both present"));
    }
    if hosts == 0 && !head.http10 {
        return Err(bad("Host is missing"));
    }
    Ok(())
}

/// Takes the next line, without its end.
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Refusal> {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (line, after) = match end {
        Some(end) => (rest.get(..end), rest.get(end + 1..)),
        None => (Some(*rest), None),
    };
    *rest = after.unwrap_or_default();
    match line.unwrap_or_default() {
        [line @ .., b'\r'] => Ok(line),
        // The parser hands over whole heads, so only a line end can be missing here.
        line if end.is_none() => Ok(line),
        _ => Err(bad("a line ends with a bare LF")),
    }
}

/// Accepts exactly `chunked`. A coding nobody here speaks is 501 (RFC 9112 section 6.1).
fn transfer_coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let unknown = value
        .split(|byte| *byte == b',')
        .map(|coding| coding.trim_ascii())
        .any(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked"));
    Err(if unknown {
        Refusal::new(
            CauseKind::NotImplemented,
            "Transfer-Encoding names a coding other than chunked",
        )
    } else {
        bad("Transfer-Encoding is not exactly chunked")
    })
}

/// RFC 9110 section 5.6.2.
pub(in crate::proxy) fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(head: &str) -> Result<(), CauseKind> {
        check(head.as_bytes(), &Limits::default(), false)
            .map(|_| ())
            .map_err(|refusal| refusal.kind)
    }

    fn with(fields: &str) -> Result<(), CauseKind> {
        kind(&format!("POST / HTTP/1.1\r\nHost: a.com\r\n{fields}\r\n"))
    }

    #[test]
    fn an_ordinary_head_passes_with_what_later_steps_need() {
        let raw = b"\r\n\r\nGET /x HTTP/1.0\r\nConnection: close\r\nEXPECT: 100-continue\r\n\r\n";
        let head = check(raw, &Limits::default(), false);
        assert_eq!(
            head,
            Ok(Head {
                http10: true,
                connection: true,
                expect: true
            })
        );
        assert_eq!(with("Content-Length: 5\r\nX_Y: z\r\n"), Ok(()));
        assert_eq!(with("transfer-encoding:  Chunked \t\r\n"), Ok(()));
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let refused = [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked;a=b\r\n",
            "X: y\n",
        ];
        for fields in refused {
            assert_eq!(with(fields), Err(CauseKind::BadRequest), "{fields:?}");
        }
        assert_eq!(
            with("Transfer-Encoding: gzip, chunked\r\n"),
            Err(CauseKind::NotImplemented)
        );
    }

    #[test]
    fn a_head_without_host_or_with_a_bare_lf_or_too_many_empty_lines_is_refused() {
        assert_eq!(kind("GET / HTTP/1.1\r\n\r\n"), Err(CauseKind::BadRequest));
        assert_eq!(kind("GET / HTTP/1.0\r\n\r\n"), Ok(()));
        assert_eq!(
            kind("GET / HTTP/1.1\nHost: a\r\n\r\n"),
            Err(CauseKind::BadRequest)
        );
        assert_eq!(
            kind("GET / HTTP/1.1\r\nHost: a\r\n\n"),
            Err(CauseKind::BadRequest)
        );
        assert_eq!(
            kind("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Err(CauseKind::BadRequest)
        );
    }

    #[test]
    fn sizes_have_their_own_answers() {
        let long = "x".repeat(17 * 1024);
        assert_eq!(
            kind(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
            Err(CauseKind::UriTooLong)
        );
        let large = format!("X: {}\r\n", "x".repeat(61 * 1024));
        assert_eq!(with(&large), Err(CauseKind::HeadersTooLarge));
        assert_eq!(with(&"X: y\r\n".repeat(99)), Ok(()));
        assert_eq!(
            with(&"X: y\r\n".repeat(100)),
            Err(CauseKind::HeadersTooLarge)
        );
    }

    #[test]
    fn only_the_edge_profile_refuses_underscores() {
        let raw = b"GET / HTTP/1.1\r\nHost: a\r\nx_y: z\r\n\r\n";
        assert!(check(raw, &Limits::default(), false).is_ok());
        assert!(check(raw, &Limits::default(), true).is_err());
    }
}
