//! Runs header edits on a request for an origin or a response for a client.
//!
//! `proxy` calls [`edit_request`] and [`edit_response`]. A value that comes out empty changes
//! nothing, as in Envoy, whether it was written empty or its substitutions had nothing to say.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use super::spec::{HeaderEdit, HeaderEdits, TemplatePart, ValueTemplate};

/// What a request's handling knows, for `%…%` substitutions.
///
/// Headers are answered by the messages themselves; `value` is asked for every other part, and
/// for the pseudo-header `:scheme`.
pub trait Substitutions {
    /// The part's value, or `None` if it is not known (yet).
    fn value(&self, part: &TemplatePart) -> Option<Cow<'_, str>>;
}

/// Edits the request that an origin will see. `%REQ(…)%` reads the request as edited so far.
pub fn edit_request(edits: &HeaderEdits, request: &mut RequestHeader, known: &impl Substitutions) {
    for edit in &edits.0 {
        match edit {
            HeaderEdit::Remove(name) => {
                request.remove_header(name);
            }
            HeaderEdit::Set(name, template) => {
                if let Some(value) = template.render(Some(request), None, known) {
                    // Both types are already those of the map: this cannot fail.
                    let _ = request.insert_header(name.clone(), value);
                }
            }
            HeaderEdit::Add(name, template) => {
                if let Some(value) = template.render(Some(request), None, known) {
                    let _ = request.append_header(name.clone(), value);
                }
            }
        }
    }
}

/// Edits the response that a client will see. `request` is the request `%REQ(…)%` reads, if any.
pub fn edit_response(
    edits: &HeaderEdits,
    response: &mut ResponseHeader,
    request: Option<&RequestHeader>,
    known: &impl Substitutions,
) {
    for edit in &edits.0 {
        match edit {
            HeaderEdit::Remove(name) => {
                response.remove_header(name);
            }
            HeaderEdit::Set(name, template) => {
                if let Some(value) = template.render(request, Some(&response.headers), known) {
                    let _ = response.insert_header(name.clone(), value);
                }
            }
            HeaderEdit::Add(name, template) => {
                if let Some(value) = template.render(request, Some(&response.headers), known) {
                    let _ = response.append_header(name.clone(), value);
                }
            }
        }
    }
}

impl ValueTemplate {
    /// The value for one message; `None` if it is empty.
    fn render(
        &self,
        request: Option<&RequestHeader>,
        response: Option<&HeaderMap>,
        known: &impl Substitutions,
    ) -> Option<HeaderValue> {
        let parts = match self {
            Self::Literal(value) => return (!value.is_empty()).then(|| value.clone()),
            Self::Parts(parts) => parts,
        };
        let mut out = Vec::new();
        for part in parts {
            match part {
                TemplatePart::Text(text) => out.extend_from_slice(text.as_bytes()),
                TemplatePart::Request {
                    name,
                    alternative,
                    max,
                } => {
                    let read = |name: &str| request.and_then(|request| read_request(request, name));
                    match read(name).or_else(|| read(alternative.as_deref()?)) {
                        Some(value) => push(&mut out, &value, *max),
                        None => push(
                            &mut out,
                            known.value(part).unwrap_or_default().as_bytes(),
                            *max,
                        ),
                    }
                }
                TemplatePart::Response {
                    name,
                    alternative,
                    max,
                } => {
                    let read = |name: &str| response.and_then(|headers| headers.get(name));
                    if let Some(value) = read(name).or_else(|| read(alternative.as_deref()?)) {
                        push(&mut out, value.as_bytes(), *max);
                    }
                }
                _ => push(
                    &mut out,
                    known.value(part).unwrap_or_default().as_bytes(),
                    None,
                ),
            }
        }
        // Substituted values were valid header values; anything else a trait gives is refused here.
        (!out.is_empty())
            .then(|| HeaderValue::from_bytes(&out).ok())
            .flatten()
    }
}

fn push(out: &mut Vec<u8>, value: &[u8], max: Option<usize>) {
    out.extend_from_slice(max.and_then(|max| value.get(..max)).unwrap_or(value));
}

/// The first value of a header or pseudo-header of a request.
fn read_request<'a>(request: &'a RequestHeader, name: &str) -> Option<Cow<'a, [u8]>> {
    match name {
        ":method" => Some(request.method.as_str().as_bytes().into()),
        ":path" => Some(request.raw_path().into()),
        ":authority" => match request.headers.get(HeaderName::from_static("host")) {
            Some(host) => Some(host.as_bytes().into()),
            None => request
                .uri
                .authority()
                .map(|authority| authority.as_str().as_bytes().into()),
        },
        _ => request
            .headers
            .get(name)
            .map(|value| value.as_bytes().into()),
    }
}

#[cfg(test)]
mod tests;
