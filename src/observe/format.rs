//! Access log formats: a format string is compiled once into segments, then written per request.
//!
//! `server` makes one from `gateway.mesh.accessLogEncoding` and `accessLogFormat`; without a
//! format it is Istio's default, byte for byte.

use serde_json::Value as Json;
use thiserror::Error;

use super::field::Field;
use super::line::{Escape, Line};
use super::out::{JsonOut, TextOut};
use super::record::Record;
use super::redact::Redaction;

/// Istio's default text format, without its final newline.
const DEFAULT_TEXT: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" "#,
    r#"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "#,
    r#""%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "#,
    r#"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "#,
    r#""%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% "#,
    r#"%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "#,
    r#"%REQUESTED_SERVER_NAME% %ROUTE_NAME%"#,
);

/// Istio's default JSON keys and their operators.
const DEFAULT_JSON: [(&str, &str); 24] = [
    ("start_time", "START_TIME"),
    ("route_name", "ROUTE_NAME"),
    ("method", "REQ(:METHOD)"),
    ("path", "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)"),
    ("protocol", "PROTOCOL"),
    ("response_code", "RESPONSE_CODE"),
    ("response_flags", "RESPONSE_FLAGS"),
    ("response_code_details", "RESPONSE_CODE_DETAILS"),
    (
        "connection_termination_details",
        "CONNECTION_TERMINATION_DETAILS",
    ),
    ("bytes_received", "BYTES_RECEIVED"),
    ("bytes_sent", "BYTES_SENT"),
    ("duration", "DURATION"),
    (
        "upstream_service_time",
        "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)",
    ),
    ("x_forwarded_for", "REQ(X-FORWARDED-FOR)"),
    ("user_agent", "REQ(USER-AGENT)"),
    ("request_id", "REQ(X-REQUEST-ID)"),
    ("authority", "REQ(:AUTHORITY)"),
    ("upstream_host", "UPSTREAM_HOST"),
    ("upstream_cluster", "UPSTREAM_CLUSTER_RAW"),
    ("upstream_local_address", "UPSTREAM_LOCAL_ADDRESS"),
    ("downstream_local_address", "DOWNSTREAM_LOCAL_ADDRESS"),
    ("downstream_remote_address", "DOWNSTREAM_REMOTE_ADDRESS"),
    ("requested_server_name", "REQUESTED_SERVER_NAME"),
    (
        "upstream_transport_failure_reason",
        "UPSTREAM_TRANSPORT_FAILURE_REASON",
    ),
];

/// Keys that follow Istio's in the default JSON line of a request Pingress answered itself.
const CAUSE_JSON: [(&str, Field); 3] = [
    (r#","cause":"#, Field::Cause),
    (r#","cause_message":"#, Field::CauseMessage),
    (r#","cause_owner":"#, Field::CauseOwner),
];

/// `accessLogEncoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogEncoding {
    #[default]
    Text,
    Json,
}

/// What is wrong with an `accessLogFormat`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("accessLogFormat: {0}")]
pub struct FormatError(String);

/// A compiled format.
#[derive(Clone, Debug)]
pub struct LogFormat {
    segments: Vec<Segment>,
    /// The default JSON format tells the cause of local answers.
    causes: bool,
    redaction: Redaction,
}

#[derive(Clone, Debug)]
enum Segment {
    Literal(Box<[u8]>),
    /// `-` if absent.
    Text(Field),
    /// A whole JSON value: a number, a string, or `null` if absent.
    Json(Field),
    /// Part of a JSON string; `-` if absent.
    InJsonString(Field),
}

impl LogFormat {
    /// Compiles a format; an empty one is Istio's default.
    ///
    /// # Errors
    /// An unknown operator, a header that holds secrets, or a JSON format that is not an object.
    pub fn new(encoding: LogEncoding, format: &str) -> Result<Self, FormatError> {
        let mut segments = Vec::new();
        match encoding {
            LogEncoding::Text => {
                let format = if format.is_empty() {
                    DEFAULT_TEXT
                } else {
                    format
                };
                // Istio ends a format with one newline whether or not it is written.
                let format = format.strip_suffix('\n').unwrap_or(format);
                compile(format, Segment::Text, false, &mut segments)?;
                push_literal(&mut segments, b"\n");
                Ok(Self {
                    segments,
                    causes: false,
                    redaction: Redaction::default(),
                })
            }
            LogEncoding::Json if format.is_empty() => {
                for (index, (key, operator)) in DEFAULT_JSON.iter().enumerate() {
                    let before = if index == 0 { "{" } else { "," };
                    push_literal(&mut segments, format!("{before}\"{key}\":").as_bytes());
                    segments.push(Segment::Json(Field::parse(operator).map_err(FormatError)?));
                }
                Ok(Self {
                    segments,
                    causes: true,
                    redaction: Redaction::default(),
                })
            }
            LogEncoding::Json => {
                let value: Json = serde_json::from_str(format).map_err(|error| {
                    FormatError(format!(
                        "is not JSON, which accessLogEncoding JSON needs: {error}"
                    ))
                })?;
                if !value.is_object() {
                    return Err(FormatError("is not a JSON object".into()));
                }
                compile_json(&value, &mut segments)?;
                push_literal(&mut segments, b"\n");
                Ok(Self {
                    segments,
                    causes: false,
                    redaction: Redaction::default(),
                })
            }
        }
    }

    /// The same format, hiding credentials.
    #[must_use]
    pub fn redacted(self, redaction: Redaction) -> Self {
        Self { redaction, ..self }
    }

    /// Writes one line, with its newline.
    pub(super) fn write(&self, record: &Record<'_>, line: &mut Line) {
        let redaction = &self.redaction;
        for segment in &self.segments {
            match segment {
                Segment::Literal(bytes) => line.raw(bytes),
                Segment::Text(field) => field.put(record, redaction, &mut TextOut::text(line)),
                Segment::InJsonString(field) => {
                    field.put(record, redaction, &mut TextOut::in_json(line))
                }
                Segment::Json(field) => field.put(record, redaction, &mut JsonOut(line)),
            }
        }
        if self.causes {
            if record.cause.is_some() {
                for (key, field) in &CAUSE_JSON {
                    line.raw(key.as_bytes());
                    field.put(record, redaction, &mut JsonOut(line));
                }
            }
            line.raw(b"}\n");
        }
    }
}

/// Splits a text into literals and operators; `%%` is a percent sign.
fn compile(
    mut text: &str,
    segment: fn(Field) -> Segment,
    in_json: bool,
    segments: &mut Vec<Segment>,
) -> Result<(), FormatError> {
    let literal = |text: &str, segments: &mut Vec<Segment>| {
        let mut line = Line::new();
        if in_json {
            line.text(text, Escape::Json);
        } else {
            line.raw(text.as_bytes());
        }
        push_literal(segments, line.bytes());
    };
    while let Some((before, after)) = text.split_once('%') {
        literal(before, segments);
        let Some((operator, rest)) = split_operator(after) else {
            return Err(FormatError(format!(
                "the operator `%{after}` lacks its closing percent sign"
            )));
        };
        if operator.is_empty() {
            literal("%", segments);
        } else {
            segments.push(segment(Field::parse(operator).map_err(FormatError)?));
        }
        text = rest;
    }
    literal(text, segments);
    Ok(())
}

/// An operator, whose percent sign is read, and what follows it. An argument may have percent signs of
/// its own (`%START_TIME(%s.%3f)%`); as in Envoy, it ends at the first parenthesis that closes the
/// operator, too.
fn split_operator(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let has_argument = text.get(name..)?.starts_with('(');
    let mut parentheses = text.match_indices(')').map(|(at, _)| at);
    let end = parentheses.find_map(|at| {
        let after = text.get(at + 1..)?;
        let length = after.strip_prefix(':').unwrap_or(after);
        let digits = length.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.starts_with('%').then(|| text.len() - digits.len())
    });
    let end = match end.filter(|_| has_argument) {
        Some(end) => end,
        None => text.find('%')?,
    };
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// A string that is one operator keeps the operator's type; other values stay as they are.
fn compile_json(value: &Json, segments: &mut Vec<Segment>) -> Result<(), FormatError> {
    match value {
        Json::Object(object) => {
            for (index, (key, value)) in object.iter().enumerate() {
                let before = if index == 0 { '{' } else { ',' };
                push_literal(
                    segments,
                    format!("{before}{}:", Json::from(key.as_str())).as_bytes(),
                );
                compile_json(value, segments)?;
            }
            push_literal(segments, if object.is_empty() { b"{}" } else { b"}" });
        }
        Json::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                push_literal(segments, if index == 0 { b"[" } else { b"," });
                compile_json(value, segments)?;
            }
            push_literal(segments, if array.is_empty() { b"[]" } else { b"]" });
        }
        Json::String(text) => {
            let whole = text.strip_prefix('%').and_then(split_operator);
            match whole.filter(|(operator, rest)| !operator.is_empty() && rest.is_empty()) {
                Some((operator, _)) => {
                    segments.push(Segment::Json(Field::parse(operator).map_err(FormatError)?))
                }
                None => {
                    push_literal(segments, b"\"");
                    compile(text, Segment::InJsonString, true, segments)?;
                    push_literal(segments, b"\"");
                }
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {
            push_literal(segments, value.to_string().as_bytes())
        }
    }
    Ok(())
}

/// Appends to the last literal, so that a line is as few copies as possible.
fn push_literal(segments: &mut Vec<Segment>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if let Some(Segment::Literal(last)) = segments.last_mut() {
        *last = [&**last, bytes].concat().into();
    } else {
        segments.push(Segment::Literal(bytes.into()));
    }
}

#[cfg(test)]
mod tests;
