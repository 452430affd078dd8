//! What is wrong with a RateLimit, and what its words mean.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, Uri};

use crate::base::Findings;
use crate::base::quantity::parse_duration;
use crate::model::own::RateLimit;
use crate::model::own::rate_limit::{GlobalLimit, KeyPart, Limit, RedisBuckets};
use crate::model::{FieldPath, Object};
use crate::policy::global::spec::Unit;
use crate::policy::rate_limit::spec::{Bucket, PathTemplate};
use crate::policy::rate_limit::store::OnError;

use super::{fault, target};

/// More than this many requests a second could not be told apart in time.
const MOST: u64 = 1_000_000;
/// Bytes of all keys of a limit stay below 16 times this.
const MOST_KEYS: u32 = 1 << 24;

/// Redis' own, for a URL without one.
const REDIS_PORT: u16 = 6379;

const UNITS: &str = "second, minute, hour or day";

/// What responses tell clients of a limit.
pub(crate) const HEADERS: [(&str, (bool, bool)); 4] = [
    ("ietf", (true, false)),
    ("x-ratelimit", (false, true)),
    ("both", (true, true)),
    ("none", (false, false)),
];

/// Checks a RateLimit.
pub(super) fn check(object: &Object, spec: &RateLimit, findings: &mut Findings) {
    target::check(object, &spec.target_ref, findings);
    let mut check = Check { object, findings };
    let path = FieldPath::spec();
    let mode = spec.mode.as_deref().unwrap_or("enforce");
    if !matches!(mode, "enforce" | "observe") {
        let message = format!("`{mode}` is no mode");
        check.fault(&path.field("mode"), message, "enforce or observe");
    }
    let scope = spec.scope.as_deref().unwrap_or("replica");
    if !matches!(scope, "replica" | "gateway") {
        let message = format!("`{scope}` is no scope");
        check.fault(&path.field("scope"), message, "replica or gateway");
    } else if spec.global.is_some() && spec.scope.is_some() {
        let message = "a rate limit service counts for all replicas; there is nothing to divide";
        check.fault(&path.field("scope"), message, "remove `scope` or `global`");
    } else if spec.redis.is_some() && spec.scope.as_deref() == Some("replica") {
        let message = "what is counted in Redis is counted for all replicas";
        check.fault(&path.field("scope"), message, "remove `scope` or `redis`");
    }
    let headers = spec.headers.as_deref().unwrap_or("ietf");
    if !HEADERS.iter().any(|(name, _)| *name == headers) {
        let message = format!("`{headers}` are no headers of a limit");
        let hint = "ietf, x-ratelimit, both or none";
        check.fault(&path.field("headers"), message, hint);
    }
    if let Some(global) = &spec.global {
        check.global(&path.field("global"), global);
    }
    if let Some(redis) = &spec.redis {
        check.redis(&path.field("redis"), redis);
        if spec.global.is_some() {
            let message = "a limit is counted in one place";
            check.fault(&path.field("redis"), message, "remove it, or `global`");
        }
    }
    let limits = path.field("limits");
    if spec.limits.is_empty() && object.issues_under(&limits).next().is_none() {
        let hint = "write for example `limits: [{requests: 100, unit: minute}]`";
        check.fault(&limits, "nothing is limited", hint);
    }
    for (index, slot) in spec.limits.iter().enumerate() {
        let Some(limit) = slot.good() else { continue };
        match spec.global {
            Some(_) => check.descriptor(&limits.index(index), limit),
            None => check.limit(&limits.index(index), limit),
        }
    }
}

struct Check<'c> {
    object: &'c Object,
    findings: &'c mut Findings,
}

impl Check<'_> {
    fn fault(&mut self, path: &FieldPath, message: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(fault(self.object, path, message, hint));
    }

    fn limit(&mut self, path: &FieldPath, limit: &Limit) {
        let requests = path.field("requests");
        // What could not be read is missing here without being so.
        let is_readable = self.object.issues_under(path).next().is_none();
        let (read, interval) = (limit.requests, limit.unit.as_deref().map(interval));
        match (read, &interval) {
            (Some(0), _) => {
                let hint = "1 or more; to refuse everything, let the rule answer by itself";
                self.fault(&requests, "0 requests are no rate", hint);
            }
            (Some(count), Some(Some(unit))) if u64::from(count) > MOST * unit.as_secs() => {
                let message = format!("more than {MOST} a second cannot be measured");
                self.fault(&requests, message, "write less, or remove the limit");
            }
            (None, _) if is_readable => {
                let hint = "write how many may come in a unit of time";
                self.fault(&requests, "the limit has no number", hint);
            }
            _ => {}
        }
        match interval {
            Some(None) => {
                let message = format!(
                    "`{}` is no unit of time",
                    limit.unit.as_deref().unwrap_or("")
                );
                self.fault(&path.field("unit"), message, UNITS);
            }
            None if is_readable => {
                self.fault(&path.field("unit"), "the limit has no unit of time", UNITS);
            }
            _ => {}
        }
        if limit.burst == Some(0) {
            let hint = "1 or more";
            let message = "a burst of 0 would let nothing through";
            self.fault(&path.field("burst"), message, hint);
        } else if bucket(limit).is_some_and(|bucket| !bucket.is_measurable()) {
            let message = "a bucket that takes more than a year to fill cannot be measured";
            self.fault(&path.field("burst"), message, "write less");
        }
        if let Some(keys) = limit.max_keys
            && !(512..=MOST_KEYS).contains(&keys)
        {
            let message = format!("{keys} keys are too few or too many");
            let hint = format!("from 512 to {MOST_KEYS}; a key takes 16 bytes");
            self.fault(&path.field("maxKeys"), message, hint);
        }
        self.key(path, limit);
    }

    fn key(&mut self, path: &FieldPath, limit: &Limit) {
        for (index, slot) in limit.key.iter().enumerate() {
            if let Some(part) = slot.good() {
                self.part(&path.field("key").index(index), part);
            }
        }
    }

    fn global(&mut self, path: &FieldPath, global: &GlobalLimit) {
        if let Err(message) = address(global) {
            let hint = "write for example `service: ratelimit.shop.svc.cluster.local:8081`";
            self.fault(&path.field("service"), message, hint);
        }
        if global.domain.is_empty() {
            let hint = "write the domain that the service's configuration has";
            self.fault(&path.field("domain"), "it has no domain", hint);
        }
        let timeout = global
            .timeout
            .as_deref()
            .map(|text| parse_duration(text, false));
        if let Some(Err(message)) = timeout {
            self.fault(&path.field("timeout"), message, "write for example `20ms`");
        }
        let on_error = global.on_error.as_deref().unwrap_or("allow");
        if !matches!(on_error, "allow" | "deny") {
            let message = format!("`{on_error}` is nothing to do");
            self.fault(&path.field("onError"), message, "allow or deny");
        }
    }

    fn redis(&mut self, path: &FieldPath, redis: &RedisBuckets) {
        if let Err(message) = redis_place(&redis.url) {
            let hint = "write for example `url: redis://redis.shop.svc.cluster.local:6379`";
            self.fault(&path.field("url"), message, hint);
        }
        let timeout = redis.timeout.as_deref();
        if let Some(Err(message)) = timeout.map(|text| parse_duration(text, false)) {
            let hint = "write for example `100ms`";
            self.fault(&path.field("timeout"), message, hint);
        }
        if on_error(redis).is_none() {
            let message = format!(
                "`{}` is nothing to do",
                redis.on_error.as_deref().unwrap_or_default()
            );
            self.fault(&path.field("onError"), message, "allow, deny or local");
        }
    }

    /// A limit that a service counts.
    fn descriptor(&mut self, path: &FieldPath, limit: &Limit) {
        let is_readable = self.object.issues_under(path).next().is_none();
        match (limit.requests, limit.unit.as_deref()) {
            (Some(0), _) => {
                let hint = "1 or more; to refuse everything, let the rule answer by itself";
                self.fault(&path.field("requests"), "0 requests are no rate", hint);
            }
            (_, Some(unit)) if Unit::parse(unit).is_none() => {
                let message = format!("`{unit}` is no unit of time");
                self.fault(&path.field("unit"), message, UNITS);
            }
            (Some(_), None) if is_readable => {
                self.fault(&path.field("unit"), "the limit has no unit of time", UNITS);
            }
            (None, Some(_)) if is_readable => {
                let hint = "write how many may come in the unit, or remove it: the service knows";
                self.fault(&path.field("requests"), "the limit has no number", hint);
            }
            _ => {}
        }
        for (field, value) in [("burst", limit.burst), ("maxKeys", limit.max_keys)] {
            if value.is_some() {
                let message = "a service that counts has no such thing";
                self.fault(&path.field(field), message, "remove it");
            }
        }
        self.key(path, limit);
    }

    fn part(&mut self, path: &FieldPath, part: &KeyPart) {
        let KeyPart {
            client_address,
            header,
            cookie,
            query,
            path: template,
        } = part;
        let names = [("cookie", cookie), ("query", query)];
        let set = [client_address.is_some(), header.is_some()]
            .into_iter()
            .chain([cookie, query, template].map(Option::is_some));
        let is_readable = self.object.issues_under(path).next().is_none();
        if set.filter(|is_set| *is_set).count() != 1 && is_readable {
            let message = "a part of a key is exactly one thing";
            let hint = "one of clientAddress, header, cookie, query and path";
            self.fault(path, message, hint);
        }
        if let Some(name) = header
            && name.parse::<HeaderName>().is_err()
        {
            let message = format!("`{name}` is no header name");
            let hint = "use letters, digits and hyphens";
            self.fault(&path.field("header"), message, hint);
        }
        for (field, name) in names {
            if name.as_deref() == Some("") {
                self.fault(&path.field(field), "the name is empty", "write a name");
            }
        }
        if let Some(template) = template
            && let Err(message) = PathTemplate::parse(template)
        {
            let hint = "write for example `/users/{id}/*`";
            self.fault(&path.field("path"), message, hint);
        }
        let Some(address) = client_address else {
            return;
        };
        for (field, length, most) in [
            ("ipv4PrefixLength", address.ipv4_prefix_length, 32),
            ("ipv6PrefixLength", address.ipv6_prefix_length, 128),
        ] {
            if length.is_some_and(|length| length > most) {
                let path = path.field("clientAddress").field(field);
                self.fault(
                    &path,
                    "an address has not so many bits",
                    format!("at most {most}"),
                );
            }
        }
    }
}

/// Host and port of a service that counts.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn address(global: &GlobalLimit) -> Result<(&str, u16), String> {
    let (host, port) = match (global.port, global.service.rsplit_once(':')) {
        (Some(port), _) => (&*global.service, u16::try_from(port).ok()),
        (None, Some((host, port))) => (host, port.parse().ok()),
        (None, None) => return Err("it has no port".into()),
    };
    let port = port
        .filter(|port| *port > 0)
        .ok_or("it has no port that is one")?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    let is_name = |name: &str| {
        let mut letters = name.bytes();
        letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.'))
    };
    match !bare.is_empty() && (is_name(bare) || bare.parse::<IpAddr>().is_ok()) {
        true => Ok((bare, port)),
        false => Err(format!("`{host}` is no host")),
    }
}

/// What is done when Redis cannot be asked; `None` if that is nothing to do.
pub(crate) fn on_error(redis: &RedisBuckets) -> Option<OnError> {
    let Some(written) = redis.on_error.as_deref() else {
        return Some(OnError::default());
    };
    let mut known = OnError::ALL.into_iter();
    known.find(|known| known.code() == written)
}

/// Where a Redis is, without credentials.
///
/// # Errors
/// What is wrong with its URL.
pub(crate) fn redis_place(url: &str) -> Result<String, String> {
    let Ok(uri) = url.parse::<Uri>() else {
        return Err("it is no URL".into());
    };
    match uri.scheme_str() {
        Some("redis") => {}
        Some("rediss") => return Err("TLS to Redis is not supported".into()),
        _ => return Err("it does not begin with `redis://`".into()),
    }
    let host = uri.host().unwrap_or_default();
    if host.is_empty() {
        return Err("it has no host".into());
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let place = authority.rsplit('@').next().unwrap_or_default();
    let port = match place.strip_prefix(host).unwrap_or_default() {
        "" => Some(REDIS_PORT),
        written => {
            let number = written.strip_prefix(':').unwrap_or_default();
            number.parse().ok().filter(|port: &u16| *port > 0)
        }
    };
    let port = port.ok_or("it has no port that is one")?;
    let database = uri.path().trim_start_matches('/');
    if !database.is_empty() && database.parse::<u16>().is_err() || uri.query().is_some() {
        return Err("behind the host there may only be the number of a database".into());
    }
    let database = if database.is_empty() { "0" } else { database };
    Ok(format!("redis://{host}:{port}/{database}"))
}

/// A unit of time by its name.
fn interval(unit: &str) -> Option<Duration> {
    let seconds = match unit {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86400,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// What a limit fills and how fast. `None` if it does not say.
pub(crate) fn bucket(limit: &Limit) -> Option<Bucket> {
    let requests = limit.requests.filter(|requests| *requests > 0)?;
    Some(Bucket {
        capacity: limit.burst.unwrap_or(requests).max(1),
        per_fill: requests,
        replicas: 1,
        interval: interval(limit.unit.as_deref()?)?,
    })
}
