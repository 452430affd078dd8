//! What RFC 9113 and our limits demand of an HTTP/2 head beyond what the h2 codec and Pingora
//! check already (pseudo-headers, connection fields, conflicting authority, bytes of the target).

use pingora::http::RequestHeader;

use super::{Refusal, authority, bad, host, too_large};
use crate::base::CauseKind;
use crate::proxy::limits::Limits;

/// Checks a head. Returns whether it has an `Expect` field.
///
/// # Errors
/// The first reason to refuse it.
pub(super) fn check(request: &RequestHeader, limits: &Limits, edge: bool) -> Result<bool, Refusal> {
    let target = request
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    if target.len() > limits.request_line {
        return Err(Refusal::new(CauseKind::UriTooLong, "the path is too long"));
    }
    // Each crumb of a cookie counts: a small block can unpack into very many.
    if request.headers.len() > limits.fields {
        return Err(too_large("there are too many header fields"));
    }
    let mut size = target.len() + authority(request).len();
    for (name, value) in &request.headers {
        let value = value.as_bytes();
        size += name.as_str().len() + value.len();
        let edges = [value.first(), value.last()];
        if edges
            .iter()
            .flatten()
            .any(|byte| matches!(byte, b' ' | b'\t'))
        {
            return Err(bad("a field value begins or ends with white space"));
        }
        if edge && name.as_str().contains('_') {
            return Err(bad("a field name has an underscore"));
        }
    }
    if size > limits.head {
        return Err(too_large("the head is too large"));
    }
    let mut lengths = request.headers.get_all(http::header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || !length.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(bad("content-length is not one number"));
    }
    host::validate(authority(request).as_bytes()).map_err(bad)?;
    Ok(request.headers.contains_key(http::header::EXPECT))
}
