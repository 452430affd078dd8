//! `rate_limits`: how a virtual host or route makes descriptors of its requests.

use http::HeaderName;

use crate::compile::Options;
use crate::compile::pattern::Patterns;
use crate::model::node::Node;
use crate::policy::global::apply::MOST_HITS;
use crate::policy::global::spec::{self as global, Absent, Hits, Value};
use crate::policy::rate_limit::spec::{Condition, Source, Test};

use super::super::Guard;
use super::local;
use super::node::{Fields, Wrong};

mod ways;

pub(super) use ways::ways;

/// One item of `rate_limits`: the descriptor that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// It is only for filters of the same.
    pub stage: u32,
    /// It says what requests count as, where Envoy passes over that.
    pub is_overcharged: bool,
    entries: Vec<Entry>,
    hits: Option<Hits>,
}

/// Where `rate_limits` stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a virtual host or route, for all filters.
    Table,
    /// In what a virtual host or route has for one filter.
    Filter,
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
pub(super) fn read(
    guard: &Guard<'_, '_>,
    node: &Node,
    place: &str,
    of: Place,
) -> Result<Item, Wrong> {
    // `disable_key` names a runtime key, of which there is none.
    let known: &[&str] = match of {
        Place::Table => &["actions", "stage", "disable_key", "hits_addend"],
        // Envoy refuses the others here.
        Place::Filter => &["actions", "hits_addend"],
    };
    let fields = Fields::read(node, place, known)?;
    let hits = match fields.map("hits_addend", &["number", "format"])? {
        Some(fields) => Some(hits(&fields)?),
        None => None,
    };
    let stage = local::stage(&fields)?;
    let mut entries = Vec::new();
    for (item, place) in fields.list("actions")? {
        entries.push(action(guard, item, &place)?);
    }
    match entries.is_empty() {
        true => Err(format!("`{place}` has no actions")),
        false => Ok(Item {
            stage,
            entries,
            is_overcharged: of == Place::Table && hits.is_some(),
            hits: hits.filter(|_| of == Place::Filter),
        }),
    }
}

/// `hits_addend`.
fn hits(fields: &Fields<'_>) -> Result<Hits, Wrong> {
    let place = fields.place("format");
    match (fields.number("number")?, fields.text("format")?) {
        (Some(_), Some(_)) => Err(format!("`{place}` and `number` may not both be set")),
        (Some(number), None) if number <= MOST_HITS => Ok(Hits::Number(number)),
        (Some(number), None) => Err(format!(
            "`{}`: {number} is more than {MOST_HITS}, which Envoy refuses",
            fields.place("number")
        )),
        (None, Some(format)) => {
            let inner = format.strip_prefix("%REQ(");
            let name = inner.and_then(|inner| inner.strip_suffix(")%"));
            match name.filter(|name| !name.contains(['?', '%', ')'])) {
                Some(name) => Ok(Hits::Of(source(&name.to_ascii_lowercase())?)),
                None => Err(format!(
                    "`{place}: {format}` is not supported; write `number` or `%REQ(name)%`"
                )),
            }
        }
        (None, None) => Err(format!("`{place}` and `number` are missing")),
    }
}

fn action(guard: &Guard<'_, '_>, node: &Node, place: &str) -> Result<Entry, Wrong> {
    let patterns = guard.patterns;
    let known = [
        "request_headers",
        "query_parameters",
        "header_value_match",
        "query_parameter_value_match",
        "remote_address",
        "masked_remote_address",
        "generic_key",
        "source_cluster",
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
    let parameter_fields = ["query_parameter_name", "descriptor_key", "skip_if_absent"];
    if let Some(fields) = fields.map("query_parameters", &parameter_fields)? {
        let name = fields.text("query_parameter_name")?.unwrap_or_default();
        let key = fields.text("descriptor_key")?.unwrap_or_default();
        if name.is_empty() || key.is_empty() {
            return Err(format!(
                "`{place}.query_parameters` has no name or no descriptor_key, which Envoy refuses"
            ));
        }
        let source = Source::Parameter(name.into());
        let skips = fields.boolean("skip_if_absent")?.unwrap_or(false);
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
    if let Some(fields) = fields.map(
        "masked_remote_address",
        &["v4_prefix_mask_len", "v6_prefix_mask_len"],
    )? {
        let source = Source::Network {
            v4: bits(&fields, "v4_prefix_mask_len", 32)?,
            v6: bits(&fields, "v6_prefix_mask_len", 128)?,
        };
        return Ok(entry("masked_remote_address", of(source)));
    }
    if let Some(node) = fields.get("source_cluster") {
        Fields::read(node, place, &[])?;
        let cluster = own_cluster(guard.options)?;
        return Ok(entry("source_cluster", EntryValue::Fixed(cluster)));
    }
    if let Some(node) = fields.get("destination_cluster") {
        Fields::read(node, place, &[])?;
        return Ok(entry("destination_cluster", of(Source::Cluster)));
    }
    Err(format!("`{place}` is empty"))
}

/// How many bits of an address count.
fn bits(fields: &Fields<'_>, name: &str, most: u8) -> Result<u8, Wrong> {
    let Some(written) = fields.number(name)? else {
        return Ok(most);
    };
    let bits = u8::try_from(written).ok().filter(|bits| *bits <= most);
    bits.ok_or_else(|| {
        format!(
            "`{}`: {written} is more than {most}, which Envoy refuses",
            fields.place(name)
        )
    })
}

/// Envoy's `--service-cluster`, as Istio's agent names a gateway: the label `app`, and the namespace.
fn own_cluster(options: &Options) -> Result<String, Wrong> {
    let app = options.labels.get("app");
    let app = app.ok_or("`source_cluster` is told by the gateway's label `app`, which it lacks")?;
    Ok(format!("{app}.{}", options.namespace))
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
        source: Source::Parameter(name.into()),
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
            hits: self.hits.clone(),
        }
    }
}
