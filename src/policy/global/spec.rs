//! Which service is asked, and what it is told about a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::rate_limit::spec::{Condition, Part, Source};

/// A rate limit service, and how it is asked. Values that cannot be wrong; `compile` makes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Name of the cluster that it is reached by.
    pub cluster: Arc<str>,
    /// `:authority` of the calls.
    pub authority: Arc<str>,
    pub domain: Arc<str>,
    /// How long one check may take.
    pub timeout: Duration,
    /// The status of answers to requests that could not be checked. They are served without one.
    pub deny: Option<u16>,
    /// What it is told. A request of which none can be made is not checked.
    pub descriptors: Box<[Descriptor]>,
    /// Refused requests are told so in `x-envoy-ratelimited`.
    pub marks: bool,
}

/// One thing to tell: the service looks a limit up for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// At least one.
    pub entries: Box<[Entry]>,
    /// In place of the limit that the service is configured with.
    pub limit: Option<Override>,
    /// What the limit is charged with, if it is not one.
    pub hits: Option<Hits>,
}

/// What one request counts as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hits {
    Number(u32),
    /// A number in the request, cut to a whole one. One without it is not asked about.
    Of(Source),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub key: Box<str>,
    pub value: Value,
}

/// What stands in an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    Fixed(Box<str>),
    Of {
        source: Source,
        absent: Absent,
    },
    /// If all conditions hold for the request, or, if not expected, not all do; else there is no
    /// descriptor.
    When {
        text: Box<str>,
        conditions: Box<[Condition]>,
        expected: bool,
    },
}

/// What becomes of a descriptor for a request without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absent {
    /// There is none.
    Drops,
    /// It goes without the entry.
    Skips,
    /// The value is empty, so that leaving it out is no way around the limit.
    Empty,
}

/// A limit that the gateway brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Override {
    pub requests: u32,
    pub unit: Unit,
}

/// `envoy.type.v3.RateLimitUnit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Second = 1,
    Minute = 2,
    Hour = 3,
    Day = 4,
}

impl Unit {
    /// A unit by its name in our `RateLimit`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let known = [Self::Second, Self::Minute, Self::Hour, Self::Day];
        known.into_iter().find(|unit| unit.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster,
            domain,
            timeout,
            deny,
            ..
        } = self;
        write!(f, "{cluster} asked within {timeout:?} for domain {domain}")?;
        match deny {
            Some(status) => write!(f, ", {status} if it cannot be asked"),
            None => write!(f, ", served if it cannot be asked"),
        }
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("descriptor")?;
        for (index, entry) in self.entries.iter().enumerate() {
            f.write_str(if index > 0 { ", " } else { " " })?;
            write!(f, "{entry}")?;
        }
        if let Some(Override { requests, unit }) = self.limit {
            write!(f, "; {requests} per {}", unit.name())?;
        }
        match &self.hits {
            None => Ok(()),
            Some(Hits::Number(number)) => write!(f, "; counts as {number}"),
            Some(Hits::Of(source)) => write!(f, "; counts as the {source} says"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value } = self;
        match value {
            Value::Fixed(text) => write!(f, "{key}={text:?}"),
            Value::Of { source, absent } => {
                write!(f, "{key}=the {source}")?;
                f.write_str(match absent {
                    Absent::Drops => "",
                    Absent::Skips => " if there is one",
                    Absent::Empty => " or nothing",
                })
            }
            Value::When {
                text,
                conditions,
                expected,
            } => {
                let part = Part::When {
                    conditions: conditions.clone(),
                    expected: *expected,
                };
                write!(f, "{key}={text:?} {part}")
            }
        }
    }
}
