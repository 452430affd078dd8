//! Envoy's local rate limit, as a patch configures it.

use http::{HeaderName, HeaderValue, StatusCode};

use crate::base::Share;
use crate::model::node::Node;
use crate::policy::headers::spec::ValueTemplate;
use crate::policy::rate_limit::spec::{Bucket, Refusal};

use super::node::{Fields, Wrong, get};

const LOCAL: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const TYPED_STRUCTS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// Envoy's shortest time between fills.
const SHORTEST: u128 = 50;

/// Headers of an answer that HTTP itself writes.
const RESERVED: [&str; 4] = [
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
];

/// A filter's configuration, or what a virtual host or route has instead.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// A filter without one only makes room for those of virtual hosts and routes.
    pub bucket: Option<Bucket>,
    /// The most even first, as Envoy asks them.
    pub descriptors: Vec<Descriptor>,
    pub enabled: Share,
    pub enforced: Share,
    /// Whether the shares are written; without them nothing is limited.
    pub has_shares: bool,
    pub refusal: Refusal,
    pub x_ratelimit: bool,
    /// The bucket of all requests is used also by those that have a descriptor's.
    pub always_default: bool,
    pub host_limits: HostLimits,
    /// Each connection of a client has buckets of its own.
    pub per_connection: bool,
    /// Which of the `rate_limits` are this filter's.
    pub stage: u32,
}

/// Whether a virtual host's `rate_limits` count beside the route's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostLimits {
    /// Where the route has none.
    Override,
    Include,
    Ignore,
}

/// A bucket for requests with these values; an empty value is any, each with its own bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub entries: Vec<(String, String)>,
    pub bucket: Bucket,
    /// Its place in the list.
    pub index: usize,
}

/// The configuration of the local rate limit in an `Any`; `None` if it is another filter's.
pub(super) fn find(typed: &Node) -> Option<&Node> {
    let kind = get(typed, "@type")?.as_str()?;
    let is = |text: &str, name: &str| text.rsplit('/').next() == Some(name);
    if is(kind, LOCAL) {
        return Some(typed);
    }
    let inner = get(typed, "type_url")?.as_str()?;
    let is_struct = TYPED_STRUCTS.iter().any(|name| is(kind, name));
    (is_struct && is(inner, LOCAL)).then(|| get(typed, "value").unwrap_or(typed))
}

/// Reads a configuration.
pub(super) fn read(node: &Node) -> Result<Config, Wrong> {
    let fields = Fields::read(
        node,
        "",
        &[
            "@type",
            "stat_prefix",
            "token_bucket",
            "filter_enabled",
            "filter_enforced",
            "response_headers_to_add",
            "descriptors",
            "enable_x_ratelimit_headers",
            "status",
            "stage",
            "vh_rate_limits",
            "always_consume_default_token_bucket",
            "rate_limited_as_resource_exhausted",
            "local_rate_limit_per_downstream_connection",
        ],
    )?;
    let mut descriptors = Vec::new();
    for (index, (item, place)) in fields.list("descriptors")?.into_iter().enumerate() {
        descriptors.push(descriptor(item, &place, index)?);
    }
    descriptors.sort_by(|a, b| a.bucket.rate().total_cmp(&b.bucket.rate()));
    let (enabled, enforced) = (
        share(&fields, "filter_enabled")?,
        share(&fields, "filter_enforced")?,
    );
    Ok(Config {
        bucket: bucket(&fields)?,
        descriptors,
        enabled: enabled.unwrap_or(Share::NONE),
        enforced: enforced.unwrap_or(Share::NONE),
        has_shares: enabled.is_some() && enforced.is_some(),
        refusal: Refusal {
            status: status(&fields, "status", 429)?,
            grpc_status: grpc_status(&fields)?,
            headers: headers(&fields)?,
            retry_after: false,
        },
        x_ratelimit: x_ratelimit(&fields)?,
        always_default: fields
            .boolean("always_consume_default_token_bucket")?
            .unwrap_or(true),
        per_connection: fields
            .boolean("local_rate_limit_per_downstream_connection")?
            .unwrap_or(false),
        host_limits: host_limits(&fields)?,
        stage: stage(&fields)?,
    })
}

/// Of a filter.
pub(super) fn stage(fields: &Fields<'_>) -> Result<u32, Wrong> {
    match fields.number("stage")?.unwrap_or(0) {
        stage @ 0..=10 => Ok(stage),
        stage => Err(format!(
            "`{}`: {stage} is more than 10, which Envoy refuses",
            fields.place("stage")
        )),
    }
}

/// Of refused gRPC requests, in place of what their status maps to.
pub(super) fn grpc_status(fields: &Fields<'_>) -> Result<Option<u16>, Wrong> {
    let is_exhausted = fields.boolean("rate_limited_as_resource_exhausted")?;
    Ok(is_exhausted.filter(|is| *is).map(|_| 8))
}

pub(super) fn x_ratelimit(fields: &Fields<'_>) -> Result<bool, Wrong> {
    match fields.text("enable_x_ratelimit_headers")? {
        None | Some("OFF" | "0") => Ok(false),
        Some("DRAFT_VERSION_03" | "1") => Ok(true),
        Some(other) => Err(format!(
            "`enable_x_ratelimit_headers: {other}` is not supported"
        )),
    }
}

pub(super) fn host_limits(fields: &Fields<'_>) -> Result<HostLimits, Wrong> {
    match fields.text("vh_rate_limits")? {
        None | Some("OVERRIDE" | "0") => Ok(HostLimits::Override),
        Some("INCLUDE" | "1") => Ok(HostLimits::Include),
        Some("IGNORE" | "2") => Ok(HostLimits::Ignore),
        Some(other) => Err(format!("`vh_rate_limits: {other}` is not supported")),
    }
}

/// What is added to answers to refused requests.
pub(super) fn headers(fields: &Fields<'_>) -> Result<Box<[(HeaderName, HeaderValue)]>, Wrong> {
    let written = fields.list("response_headers_to_add")?;
    let read = written.iter().map(|(item, place)| header(item, place));
    read.collect()
}

fn bucket(fields: &Fields<'_>) -> Result<Option<Bucket>, Wrong> {
    let known = ["max_tokens", "tokens_per_fill", "fill_interval"];
    let Some(fields) = fields.map("token_bucket", &known)? else {
        return Ok(None);
    };
    let capacity = fields.number("max_tokens")?.unwrap_or(0);
    let per_fill = fields.number("tokens_per_fill")?.unwrap_or(1);
    for (name, value) in [("max_tokens", capacity), ("tokens_per_fill", per_fill)] {
        if value == 0 {
            return Err(format!("`{}` must be more than 0", fields.place(name)));
        }
    }
    let place = fields.place("fill_interval");
    let Some(interval) = fields.duration("fill_interval")? else {
        return Err(format!("`{place}` is missing"));
    };
    if interval.as_millis() < SHORTEST {
        return Err(format!(
            "`{place}` is shorter than 50ms, which Envoy refuses"
        ));
    }
    let bucket = Bucket {
        capacity,
        per_fill,
        interval,
        replicas: 1,
    };
    match bucket.is_measurable() {
        true => Ok(Some(bucket)),
        false => Err(format!(
            "`{place}`: a bucket that takes more than a year to fill is not supported"
        )),
    }
}

fn descriptor(node: &Node, place: &str, index: usize) -> Result<Descriptor, Wrong> {
    let fields = Fields::read(node, place, &["entries", "token_bucket"])?;
    let mut entries = Vec::new();
    for (item, place) in fields.list("entries")? {
        let fields = Fields::read(item, &place, &["key", "value"])?;
        let text = |name| {
            fields
                .text(name)
                .map(|text| text.unwrap_or_default().to_owned())
        };
        entries.push((text("key")?, text("value")?));
    }
    let bucket = bucket(&fields)?;
    Ok(Descriptor {
        entries,
        bucket: bucket.ok_or_else(|| format!("`{place}` has no token_bucket"))?,
        index,
    })
}

/// `RuntimeFractionalPercent`; there is no runtime to ask, so its default holds.
fn share(fields: &Fields<'_>, name: &str) -> Result<Option<Share>, Wrong> {
    let Some(fields) = fields.map(name, &["runtime_key", "default_value"])? else {
        return Ok(None);
    };
    let place = fields.place("default_value");
    let Some(fields) = fields.map("default_value", &["numerator", "denominator"])? else {
        return Ok(Some(Share::NONE));
    };
    let parts = match fields.text("denominator")? {
        None | Some("HUNDRED" | "0") => 100,
        Some("TEN_THOUSAND" | "1") => 10_000,
        Some("MILLION" | "2") => 1_000_000,
        Some(other) => {
            return Err(format!(
                "`{place}.denominator: {other}` is not a denominator"
            ));
        }
    };
    let numerator = fields.number("numerator")?.unwrap_or(0);
    Ok(Some(Share::of_fraction(numerator, parts)))
}

/// A status that a field names. Envoy takes the default in place of what is no error.
pub(super) fn status(fields: &Fields<'_>, name: &str, default: u16) -> Result<u16, Wrong> {
    let Some(fields) = fields.map(name, &["code"])? else {
        return Ok(default);
    };
    let Some(text) = fields.text("code")? else {
        return Ok(default);
    };
    let named = |status: &u16| {
        let reason = StatusCode::from_u16(*status).ok()?.canonical_reason()?;
        let letters = reason.chars().filter(char::is_ascii_alphanumeric);
        letters.eq(text.chars()).then_some(())
    };
    let status = text
        .parse()
        .ok()
        .or_else(|| (200..600).find(|status| named(status).is_some()));
    match status {
        Some(status @ 400..=599) => Ok(status),
        Some(_) => Ok(default),
        None => Err(format!("`{name}.code: {text}` is no status")),
    }
}

fn header(node: &Node, place: &str) -> Result<(HeaderName, HeaderValue), Wrong> {
    // On an answer made here there is nothing else to append to, or to replace.
    let known = ["header", "append", "append_action", "keep_empty_value"];
    let fields = Fields::read(node, place, &known)?;
    let Some(header) = fields.map("header", &["key", "value"])? else {
        return Err(format!("`{place}` has no header"));
    };
    let key = header.text("key")?.unwrap_or_default();
    let name = HeaderName::try_from(key).map_err(|_| format!("`{key}` is no header name"))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!(
            "the header `{key}` cannot be set on a refused request's answer"
        ));
    }
    let text = header.text("value")?.unwrap_or_default();
    match ValueTemplate::parse(text) {
        Ok(ValueTemplate::Literal(value)) => Ok((name, value)),
        Ok(ValueTemplate::Parts(_)) => Err(format!(
            "`{text}`: a value with `%…%` is not supported here"
        )),
        Err(wrong) => Err(format!("`{place}`: {wrong}")),
    }
}
