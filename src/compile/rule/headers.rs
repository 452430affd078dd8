//! Header edits of a rule and of its destinations, merged in the order Envoy runs them.
//!
//! With one destination both levels are one list, and the destination's edits come last within
//! removals, sets and adds. With several, the destination's own list runs first and the rule's
//! after it.

use http::{HeaderName, HeaderValue};

use crate::model::istio::virtual_service::{HeaderEdits as Written, Headers};
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, ValueTemplate};

/// Header edits of one destination, both levels merged.
#[derive(Default)]
pub(super) struct Edits {
    pub request: HeaderEdits,
    pub response: HeaderEdits,
    /// What `host` or `:authority` is set to.
    pub authority: Option<HeaderValue>,
}

/// Merges the levels for one destination of `count`.
///
/// # Errors
/// One sentence that says which name or value is wrong.
pub(super) fn merge(
    rule: Option<&Headers>,
    destination: Option<&Headers>,
    count: usize,
) -> Result<Edits, String> {
    if rule.is_none() && destination.is_none() {
        return Ok(Edits::default());
    }
    let request = [
        rule.and_then(|h| h.request.as_ref()),
        destination.and_then(|h| h.request.as_ref()),
    ];
    let authority = match request.into_iter().flatten().find_map(authority) {
        Some(text) => {
            Some(HeaderValue::from_str(text).map_err(|_| format!("`{text}` is not an authority"))?)
        }
        None => None,
    };
    let response = [
        rule.and_then(|h| h.response.as_ref()),
        destination.and_then(|h| h.response.as_ref()),
    ];
    Ok(Edits {
        request: levels(request, count)?,
        response: levels(response, count)?,
        authority,
    })
}

/// Merges the response edits of a rule that answers by itself.
pub(super) fn response(rule: Option<&Headers>) -> Result<HeaderEdits, String> {
    levels(
        [rule.and_then(|headers| headers.response.as_ref()), None],
        1,
    )
}

fn levels([rule, destination]: [Option<&Written>; 2], count: usize) -> Result<HeaderEdits, String> {
    let mut edits = Vec::new();
    if count == 1 {
        level(&[rule, destination], &mut edits)?;
    } else {
        level(&[destination], &mut edits)?;
        level(&[rule], &mut edits)?;
    }
    Ok(HeaderEdits(edits))
}

/// One list as Envoy runs it: removals, then sets, then adds.
fn level(written: &[Option<&Written>], edits: &mut Vec<HeaderEdit>) -> Result<(), String> {
    let written = || written.iter().copied().flatten();
    for name in written()
        .flat_map(|edits| &edits.remove)
        .filter(|name| !is_internal(name))
    {
        edits.push(HeaderEdit::Remove(header_name(name)?));
    }
    for (name, value) in written()
        .flat_map(|edits| &edits.set)
        .filter(|(name, _)| !is_internal(name))
    {
        edits.push(HeaderEdit::Set(
            header_name(name)?,
            ValueTemplate::parse(value)?,
        ));
    }
    for (name, value) in written()
        .flat_map(|edits| &edits.add)
        .filter(|(name, _)| !is_internal(name))
    {
        edits.push(HeaderEdit::Add(
            header_name(name)?,
            ValueTemplate::parse(value)?,
        ));
    }
    Ok(())
}

/// The authority that a level sets: `set` beats `add`.
fn authority(edits: &Written) -> Option<&str> {
    let names_authority =
        |(name, value): &(&String, &String)| is_authority(name) && !value.is_empty();
    let set = edits.set.iter().rev().find(names_authority);
    set.or_else(|| edits.add.iter().rev().find(names_authority))
        .map(|(_, value)| value.as_str())
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))
}

/// Names that no header edit reaches in Envoy.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

pub(crate) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}
