//! `rate_limits`: how a virtual host or route makes descriptors of its requests, and
//! which of its requests a configured descriptor therefore concerns.

use http::HeaderName;

use crate::compile::pattern::Patterns;
use crate::model::node::Node;
use crate::policy::global::spec::{self as global, Absent, Value};
use crate::policy::rate_limit::spec::{Condition, Part, Source, Test};

use super::local::Descriptor;
use super::node::{Fields, Wrong};

/// One item of `rate_limits`: the descriptor that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// It is only for filters of the same.
    pub stage: u32,
    entries: Vec<Entry>,
}

/// One action: the entry that it makes, if it makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    key: String,
    value: EntryValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum EntryValue {
    /// Of the request. Without it there is no descriptor, or, if `skips`, one without the entry.
    Of {
        source: Source,
        skips: bool,
    },
    Fixed(String),
    /// Only of requests for which the conditions hold, or do not.
    FixedWhen {
        text: String,
        conditions: Box<[Condition]>,
        expected: bool,
    },
}

/// Envoy compares whole addresses.
const CLIENT: Source = Source::Client { v4: 32, v6: 128 };

/// Reads one item of `rate_limits`.
pub(super) fn read(node: &Node, place: &str, patterns: &Patterns) -> Result<Item, Wrong> {
    // `disable_key` names a runtime key, of which there is none.
    let known = ["actions", "stage", "disable_key"];
    let fields = Fields::read(node, place, &known)?;
    let stage = fields.number("stage")?.unwrap_or(0);
    if stage > 10 {
        return Err(format!(
            "`{place}`: a `stage` of more than 10, which Envoy refuses"
        ));
    }
    let mut entries = Vec::new();
    for (item, place) in fields.list("actions")? {
        entries.push(action(item, &place, patterns)?);
    }
    match entries.is_empty() {
        true => Err(format!("`{place}` has no actions")),
        false => Ok(Item { stage, entries }),
    }
}

fn action(node: &Node, place: &str, patterns: &Patterns) -> Result<Entry, Wrong> {
    let known = [
        "request_headers",
        "header_value_match",
        "query_parameter_value_match",
        "remote_address",
        "generic_key",
        "destination_cluster",
    ];
    let fields = Fields::read(node, place, &known)?;
    if node.entries().len() != 1 {
        return Err(format!("`{place}` is not exactly one action"));
    }
    let entry = |key: &str, value| Entry {
        key: key.to_owned(),
        value,
    };
    if let Some(fields) = fields.map(
        "request_headers",
        &["header_name", "descriptor_key", "skip_if_absent"],
    )? {
        let source = source(fields.text("header_name")?.unwrap_or_default())?;
        let skips = fields.boolean("skip_if_absent")?.unwrap_or(false);
        let key = fields.text("descriptor_key")?.unwrap_or_default();
        return Ok(entry(key, EntryValue::Of { source, skips }));
    }
    for (name, key, list) in [
        ("header_value_match", "header_match", "headers"),
        (
            "query_parameter_value_match",
            "query_match",
            "query_parameters",
        ),
    ] {
        let known = ["descriptor_key", "descriptor_value", "expect_match", list];
        let Some(fields) = fields.map(name, &known)? else {
            continue;
        };
        let mut conditions = Vec::new();
        for (item, place) in fields.list(list)? {
            conditions.push(match list {
                "headers" => condition(item, &place, patterns)?,
                _ => parameter(item, &place, patterns)?,
            });
        }
        let text = fields.text("descriptor_value")?.unwrap_or_default();
        let value = EntryValue::FixedWhen {
            text: text.to_owned(),
            conditions: conditions.into(),
            expected: fields.boolean("expect_match")?.unwrap_or(true),
        };
        let key = fields.text("descriptor_key")?.unwrap_or(key);
        return Ok(entry(key, value));
    }
    if let Some(fields) = fields.map("generic_key", &["descriptor_key", "descriptor_value"])? {
        let text = fields.text("descriptor_value")?.unwrap_or_default();
        let key = fields.text("descriptor_key")?.unwrap_or("generic_key");
        return Ok(entry(key, EntryValue::Fixed(text.to_owned())));
    }
    if let Some(node) = fields.get("remote_address") {
        Fields::read(node, place, &[])?;
        return Ok(entry("remote_address", of(CLIENT)));
    }
    if let Some(node) = fields.get("destination_cluster") {
        Fields::read(node, place, &[])?;
        return Ok(entry("destination_cluster", of(Source::Cluster)));
    }
    Err(format!("`{place}` is empty"))
}

/// What the request has; without it there is no descriptor.
fn of(source: Source) -> EntryValue {
    EntryValue::Of {
        source,
        skips: false,
    }
}

/// A header, or one of Envoy's names for other parts of a request.
fn source(name: &str) -> Result<Source, Wrong> {
    Ok(match name {
        ":path" => Source::Target,
        ":method" => Source::Method,
        ":authority" => Source::Authority,
        ":scheme" => Source::Scheme,
        name => {
            let name =
                HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"));
            Source::Header(name?)
        }
    })
}

fn condition(node: &Node, place: &str, patterns: &Patterns) -> Result<Condition, Wrong> {
    let known = [
        "name",
        "string_match",
        "exact_match",
        "prefix_match",
        "suffix_match",
        "contains_match",
        "safe_regex_match",
        "present_match",
        "invert_match",
        "treat_missing_header_as_empty",
    ];
    let fields = Fields::read(node, place, &known)?;
    let source = source(fields.text("name")?.unwrap_or_default())?;
    let mut inverted = fields.boolean("invert_match")?.unwrap_or(false);
    let test = if fields.get("string_match").is_some() {
        string_match(&fields, patterns)?
    } else {
        let names = [
            "exact_match",
            "prefix_match",
            "suffix_match",
            "contains_match",
        ];
        test(&fields, names, "safe_regex_match", false, patterns)?
    };
    let test = match (test, fields.boolean("present_match")?) {
        (Some(test), _) => test,
        (None, is_present) => {
            inverted ^= is_present == Some(false);
            Test::Present
        }
    };
    Ok(Condition {
        source,
        test,
        inverted,
        missing_is_empty: fields
            .boolean("treat_missing_header_as_empty")?
            .unwrap_or(false),
    })
}

/// A condition on a parameter of the query.
fn parameter(node: &Node, place: &str, patterns: &Patterns) -> Result<Condition, Wrong> {
    let fields = Fields::read(node, place, &["name", "string_match", "present_match"])?;
    let name = fields.text("name")?.unwrap_or_default();
    if name.is_empty() {
        return Err(format!("`{place}` has no name"));
    }
    let is_present = fields.boolean("present_match")?.unwrap_or(true);
    let test = string_match(&fields, patterns)?;
    Ok(Condition {
        source: Source::Query(name.into()),
        inverted: test.is_none() && !is_present,
        test: test.unwrap_or(Test::Present),
        missing_is_empty: false,
    })
}

/// `string_match`.
fn string_match(fields: &Fields<'_>, patterns: &Patterns) -> Result<Option<Test>, Wrong> {
    let known = [
        "exact",
        "prefix",
        "suffix",
        "contains",
        "safe_regex",
        "ignore_case",
    ];
    let Some(matcher) = fields.map("string_match", &known)? else {
        return Ok(None);
    };
    let ignore_case = matcher.boolean("ignore_case")?.unwrap_or(false);
    let names = ["exact", "prefix", "suffix", "contains"];
    test(&matcher, names, "safe_regex", ignore_case, patterns)
}

fn test(
    fields: &Fields<'_>,
    [exact, prefix, suffix, contains]: [&str; 4],
    regex: &str,
    ignore_case: bool,
    patterns: &Patterns,
) -> Result<Option<Test>, Wrong> {
    let text = |name: &str| {
        let text = fields.text(name)?;
        Ok::<_, Wrong>(text.map(|text| match ignore_case {
            true => text.to_ascii_lowercase().into_boxed_str(),
            false => text.into(),
        }))
    };
    if let Some(text) = text(exact)? {
        return Ok(Some(Test::Exact { text, ignore_case }));
    }
    if let Some(text) = text(prefix)? {
        return Ok(Some(Test::Prefix { text, ignore_case }));
    }
    if let Some(text) = text(suffix)? {
        return Ok(Some(Test::Suffix { text, ignore_case }));
    }
    if let Some(text) = text(contains)? {
        return Ok(Some(Test::Contains { text, ignore_case }));
    }
    let Some(fields) = fields.map(regex, &["regex", "google_re2"])? else {
        return Ok(None);
    };
    let pattern = patterns.whole(fields.text("regex")?.unwrap_or_default())?;
    Ok(Some(Test::Regex(pattern)))
}

/// The ways of requests of which an item makes this descriptor; none if it never does.
pub(super) fn ways(descriptor: &Descriptor, item: &Item) -> Vec<Box<[Part]>> {
    let mut ways = Vec::new();
    follow(&descriptor.entries, &item.entries, Vec::new(), &mut ways);
    ways
}

/// Goes on with what is left of a descriptor and of an item.
fn follow(
    wanted: &[(String, String)],
    made: &[Entry],
    mut parts: Vec<Part>,
    ways: &mut Vec<Box<[Part]>>,
) {
    let Some((entry, made)) = made.split_first() else {
        if wanted.is_empty() {
            ways.push(parts.into());
        }
        return;
    };
    if let EntryValue::Of {
        source,
        skips: true,
    } = &entry.value
    {
        let mut parts = parts.clone();
        parts.push(Part::When {
            conditions: Box::new([Condition {
                source: source.clone(),
                test: Test::Present,
                inverted: true,
                missing_is_empty: false,
            }]),
            expected: true,
        });
        follow(wanted, made, parts, ways);
    }
    let Some(((key, value), wanted)) = wanted.split_first() else {
        return;
    };
    if *key != entry.key {
        return;
    }
    match &entry.value {
        EntryValue::Of { source, .. } if value.is_empty() => parts.push(Part::Each {
            source: source.clone(),
            shared: false,
        }),
        EntryValue::Of { source, .. } => match bytes(source, value) {
            Some(value) => parts.push(Part::Is {
                source: source.clone(),
                value,
            }),
            None => return,
        },
        EntryValue::Fixed(text) if value.is_empty() || value == text => {}
        EntryValue::FixedWhen {
            text,
            conditions,
            expected,
        } if value.is_empty() || value == text => parts.push(Part::When {
            conditions: conditions.clone(),
            expected: *expected,
        }),
        EntryValue::Fixed(_) | EntryValue::FixedWhen { .. } => return,
    }
    follow(wanted, made, parts, ways);
}

impl Item {
    /// What a service is told.
    pub(super) fn descriptor(&self) -> global::Descriptor {
        let entries = self.entries.iter().map(|Entry { key, value }| {
            let value = match value {
                EntryValue::Of { source, skips } => Value::Of {
                    source: source.clone(),
                    absent: match skips {
                        true => Absent::Skips,
                        false => Absent::Drops,
                    },
                },
                EntryValue::Fixed(text) => Value::Fixed(text.as_str().into()),
                EntryValue::FixedWhen {
                    text,
                    conditions,
                    expected,
                } => Value::When {
                    text: text.as_str().into(),
                    conditions: conditions.clone(),
                    expected: *expected,
                },
            };
            global::Entry {
                key: key.as_str().into(),
                value,
            }
        });
        global::Descriptor {
            entries: entries.collect(),
            limit: None,
        }
    }
}

/// A value as its source gives it. `None` if it never does.
fn bytes(source: &Source, value: &str) -> Option<Box<[u8]>> {
    match source {
        Source::Client { .. } => match value.parse().ok()? {
            std::net::IpAddr::V4(address) => Some(Box::new(address.octets())),
            std::net::IpAddr::V6(address) => Some(Box::new(address.octets())),
        },
        _ => Some(value.as_bytes().into()),
    }
}
