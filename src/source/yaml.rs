//! Text to documents: YAML and JSON read by serde-saphyr into [`Node`]s, within limits.
//!
//! The limits keep a hostile or accidental file from costing more than a few times its size:
//! nesting, aliases and the events they replay are bounded, keys are unique.

mod raw;

use std::collections::HashSet;
use std::sync::Arc;

use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Options};

use crate::base::Position;
use crate::model::Node;
use raw::{Build, Placed, position_of};

/// Why a text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    /// Zero if unknown.
    pub(super) position: Position,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// Names seen so far, so that the thousands of `spec` and `host` of a folder are one text each.
#[derive(Debug, Default)]
pub(super) struct KeyNames(HashSet<Arc<str>>);

impl KeyNames {
    /// Longer keys, and keys beyond this number, are data rather than field names.
    const MAX_LENGTH: usize = 48;
    const MAX_COUNT: usize = 4096;

    pub(super) fn shared(&mut self, key: &str) -> Arc<str> {
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
    let documents: Vec<Placed> = serde_saphyr::from_multiple_with_options(text, options())
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
        .map(|document| build.node(document, Position::default()))
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
