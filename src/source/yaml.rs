//! Text to documents: YAML and JSON read by serde-saphyr into [`Node`]s, within limits.
//!
//! The limits keep a hostile or accidental file from costing more than a few times its size:
//! nesting, aliases and the events they replay are bounded, keys are unique.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Location, Options, Spanned};

use crate::base::Position;
use crate::model::Node;
use crate::model::node::{Entry, Value};

/// Why a text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    /// Zero if unknown.
    pub(super) position: Position,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// Keys seen so far, so that the thousands of `spec` and `host` of a folder are one text each.
#[derive(Debug, Default)]
pub(super) struct KeyNames(HashSet<Arc<str>>);

impl KeyNames {
    /// Longer keys, and keys beyond this number, are data rather than field names.
    const MAX_LENGTH: usize = 48;
    const MAX_COUNT: usize = 4096;

    fn shared(&mut self, key: &str) -> Arc<str> {
        if let Some(known) = self.0.get(key) {
            return known.clone();
        }
        let name: Arc<str> = key.into();
        if key.len() <= Self::MAX_LENGTH && self.0.len() < Self::MAX_COUNT {
            self.0.insert(name.clone());
        }
        name
    }
}

/// Reads all documents of a text; empty ones are left out.
pub(super) fn parse(text: &str, keys: &mut KeyNames) -> Result<Vec<Node>, YamlError> {
    let documents: Vec<Spanned<Raw>> = serde_saphyr::from_multiple_with_options(text, options())
        .map_err(|error| {
            let error = explain(&error);
            let line = usize::try_from(error.position.line).unwrap_or_default();
            let is_template = text
                .lines()
                .nth(line.saturating_sub(1))
                .is_some_and(|l| l.contains("{{"));
            let hint = if is_template {
                "render the template before it is read"
            } else {
                error.hint
            };
            YamlError { hint, ..error }
        })?;
    let mut build = Build { text, keys };
    Ok(documents
        .into_iter()
        .map(|document| build.node(document, Location::UNKNOWN))
        .collect())
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // The file's size is bounded already; these leave room for an export of a cluster.
            max_events: 40_000_000,
            max_nodes: 20_000_000,
            max_documents: 1_000_000,
            max_total_scalar_bytes: 1 << 30,
            max_total_comment_bytes: 1 << 30,
            max_buffered_comment_events: 100_000,
            max_depth: 64,
            flow_nesting_limit: 64,
            max_aliases: 10_000,
            max_anchors: 10_000,
        },
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 16,
        },
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

fn explain(error: &serde_saphyr::Error) -> YamlError {
    use serde_saphyr::Error;

    let error = error.without_snippet();
    let position = error.location().map(position_of).unwrap_or_default();
    let rendered = error.render();
    // The place is told apart from the message; there may be several for an alias.
    let plain = rendered.split(" at line ").next().unwrap_or(&rendered);
    const LIMITS: &str = "split the file, or write it with less nesting and fewer aliases";
    let (message, hint) = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => (
            format!("the key `{key}` is given twice in the same map"),
            "keep one of the two",
        ),
        Error::DuplicateMappingKey { .. } => (
            "a key is given twice in the same map".to_owned(),
            "keep one of the two",
        ),
        Error::Budget { .. } => (too_complex(plain), LIMITS),
        // The scanner's own limits come without a variant of their own.
        _ if plain.contains("recursion limit") || plain.contains("alias replay") => {
            (too_complex(plain), LIMITS)
        }
        _ if plain.contains("tabs") => (plain.to_owned(), "indent with spaces"),
        _ => (plain.to_owned(), "correct the YAML at this place"),
    };
    YamlError {
        position,
        message,
        hint,
    }
}

fn too_complex(why: &str) -> String {
    format!("the document is too complex to be read safely: {why}")
}

fn position_of(location: Location) -> Position {
    let bounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Position {
        line: bounded(location.line()),
        column: bounded(location.column()),
    }
}

/// A value as serde-saphyr delivers it, before numbers get their text back.
enum Raw {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    String(Box<str>),
    Sequence(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        if value.is_finite() {
            Ok(Raw::Float(value))
        } else {
            Err(E::custom("a number must be finite"))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if u32::try_from(entries.len()).is_err() {
                return Err(A::Error::custom("a map has too many keys"));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Raw::Map(entries))
    }
}

/// Turns raw values into nodes.
struct Build<'t, 'k> {
    text: &'t str,
    keys: &'k mut KeyNames,
}

impl Build<'_, '_> {
    /// `outer` is where the value around this one is referenced. What an alias brings in has the
    /// alias's place for itself, and the place of its definition for everything below.
    fn node(&mut self, raw: Spanned<Raw>, outer: Location) -> Node {
        let inside_alias = raw.referenced == outer && raw.defined != outer;
        let place = if inside_alias {
            raw.defined
        } else {
            raw.referenced
        };
        let here = raw.referenced;
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(self.number(raw.defined, value)),
            Raw::Float(value) => Value::Float(self.number(raw.defined, value)),
            Raw::String(text) => Value::String(text),
            Raw::Sequence(items) => Value::Sequence(
                items
                    .into_iter()
                    .map(|item| self.node(item, here))
                    .collect(),
            ),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Entry {
                        key_position: position_of(key.defined),
                        key: self.keys.shared(&key.value),
                        value: self.node(value, here),
                    })
                    .collect(),
            ),
        };
        Node {
            position: position_of(place),
            value,
        }
    }

    /// The number as written if Rust reads the same number from it, otherwise in plain decimal.
    fn number<N: std::str::FromStr + PartialEq + ToString>(
        &self,
        at: Location,
        value: N,
    ) -> Box<str> {
        let written = || {
            let start = usize::try_from(at.span().byte_offset()?).ok()?;
            let length = usize::try_from(at.span().byte_len()?).ok()?;
            let text = self.text.get(start..start.checked_add(length)?)?.trim();
            (text.parse::<N>().ok()? == value).then_some(text)
        };
        match written() {
            Some(text) => text.into(),
            None => value.to_string().into(),
        }
    }
}
