//! What a response's head says about compressing its body, and what it says afterwards.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, IF_NONE_MATCH, RANGE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};

use super::accept::choose;
use super::spec::{Compression, Leveled};

const ACCEPT_ENCODING: &str = "Accept-Encoding";

/// Of the bytes as they are sent: they would be wrong afterwards (RFC 9530, RFC 3230).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What a request says about the coding of its response.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The coding that the client likes best.
    coding: Option<Leveled>,
    /// The response has no body, but the head of one that has.
    is_head: bool,
    /// The validators of what the client has.
    known: Option<HeaderValue>,
}

/// What is done with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// It is not one that is compressed.
    Unconcerned,
    /// It is, but not for this client.
    Unwanted,
    /// It is sent in this coding if [`encode`] is called.
    Wanted(Leveled),
}

impl Asked {
    /// Reads a request.
    #[must_use]
    pub fn new(policy: &Compression, request: &RequestHeader) -> Self {
        let headers = &request.headers;
        // Ranges are of what the origin has; HTTP/1.0 needs the length, or the connection's end.
        let is_plain = headers.contains_key(RANGE) || request.version <= Version::HTTP_10;
        let coding = choose(headers, &policy.codings).filter(|_| !is_plain);
        Self {
            coding,
            is_head: request.method == Method::HEAD,
            known: headers.get(IF_NONE_MATCH).cloned(),
        }
    }

    /// Whether the body that the head speaks of is not sent.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.is_head
    }
}

impl Compression {
    /// What is to be done with the body of a final response; `ends` says that its head is all of it.
    /// Caches are told that the response depends on what clients accept where it does.
    pub fn meet(&self, asked: &Asked, response: &mut ResponseHeader, ends: bool) -> Meeting {
        if response.status == StatusCode::NOT_MODIFIED {
            if asked.has_weakened(response) {
                weaken(response);
                vary(response);
            }
            return Meeting::Unconcerned;
        }
        if self.codings.is_empty() || (ends && !asked.is_head) || !self.suits(response) {
            return Meeting::Unconcerned;
        }
        vary(response);
        asked.coding.map_or(Meeting::Unwanted, Meeting::Wanted)
    }

    fn suits(&self, response: &ResponseHeader) -> bool {
        let headers = &response.headers;
        let has_none = matches!(
            response.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
        );
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let kind = kind.unwrap_or_default();
        // gRPC compresses its messages itself, and its answers end with trailers.
        let is_grpc = kind
            .get(..16)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"));
        let length = headers.get(CONTENT_LENGTH).map(|length| {
            let length = length.to_str().ok()?;
            length.parse::<u64>().ok()
        });
        !has_none
            && !is_grpc
            && self.types.has(kind)
            // A length that is not known is that of a stream.
            && length.is_none_or(|length| length.is_some_and(|length| length >= self.min_bytes))
            && !headers.contains_key(CONTENT_ENCODING)
            && !headers.contains_key(CONTENT_RANGE)
            && !DIGESTS.iter().any(|name| headers.contains_key(*name))
            && !is_untransformable(headers)
    }
}

/// Makes a head one of a response in a coding. Whether it has become that: not where it has as many
/// fields as a head may have.
#[must_use]
pub fn encode(coding: Leveled, asked: &Asked, response: &mut ResponseHeader) -> bool {
    let token = coding.coding.token();
    let is_chunked = asked.is_head || response.insert_header(TRANSFER_ENCODING, "chunked").is_ok();
    if !is_chunked || response.insert_header(CONTENT_ENCODING, token).is_err() {
        return false;
    }
    // Of something else now: of ranges the origin would give those of what it has.
    response.remove_header(&CONTENT_LENGTH);
    response.remove_header(&ACCEPT_RANGES);
    if !asked.is_head {
        response.set_version(Version::HTTP_11);
    }
    weaken(response);
    true
}

impl Asked {
    /// Whether the client's copy is one that was compressed here, by its validator.
    fn has_weakened(&self, response: &ResponseHeader) -> bool {
        let Some((known, tag)) = self.known.as_ref().zip(response.headers.get(ETAG)) else {
            return false;
        };
        let (known, tag) = (known.as_bytes(), tag.as_bytes());
        let mut known = known.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        tag.starts_with(b"\"") && known.any(|known| known.strip_prefix(b"W/") == Some(tag))
    }
}

/// The same content in another coding is not the same byte for byte (RFC 9110 section 8.8.1).
fn weaken(response: &mut ResponseHeader) {
    let Some(tag) = response.headers.get(ETAG) else {
        return;
    };
    if !tag.as_bytes().starts_with(b"\"") {
        return;
    }
    let weak = [b"W/", tag.as_bytes()].concat();
    if let Ok(weak) = HeaderValue::from_bytes(&weak) {
        // Only fails where there are too many headers, and this is one for one.
        let _ = response.insert_header(ETAG, weak);
    }
}

/// Says that the response depends on `Accept-Encoding`, in one line with what else it depends on.
fn vary(response: &mut ResponseHeader) {
    let mut all = Vec::new();
    for line in response.headers.get_all(VARY) {
        let mut names = line.as_bytes().split(|byte| *byte == b',');
        if names.any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_bytes())
        }) {
            return;
        }
        if !line.as_bytes().trim_ascii().is_empty() {
            all.extend_from_slice(line.as_bytes());
            all.extend_from_slice(b", ");
        }
    }
    all.extend_from_slice(ACCEPT_ENCODING.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        // As above; the head has one more at most.
        let _ = response.insert_header(VARY, value);
    }
}

/// `Cache-Control: no-transform` (RFC 9111 section 5.2.2.6).
fn is_untransformable(headers: &HeaderMap) -> bool {
    let lines = headers.get_all::<HeaderName>(CACHE_CONTROL).into_iter();
    let mut words = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests;
