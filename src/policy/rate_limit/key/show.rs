//! Keys and conditions as plans, explanations and findings print them.

use std::fmt;
use std::net::IpAddr;

use super::{Part, PathTemplate, Segment, Source, Test};

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            ("present", ..) => f.write_str("is there"),
            (word, text, false) => write!(f, "{word} {text:?}"),
            (word, text, true) => write!(f, "{word} {text:?} in any case"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each { source, .. } => write!(f, "for each {source}"),
            Self::Is { source, value } => match (source, <[u8; 4]>::try_from(&**value)) {
                (Source::Client { .. } | Source::Network { .. }, Ok(octets)) => {
                    write!(f, "where the {source} is {}", IpAddr::from(octets))
                }
                _ => write!(
                    f,
                    "where the {source} is {:?}",
                    String::from_utf8_lossy(value)
                ),
            },
            Self::When {
                conditions,
                expected,
            } => {
                f.write_str(if *expected { "where" } else { "unless" })?;
                for (index, condition) in conditions.iter().enumerate() {
                    let and = if index > 0 { " and" } else { "" };
                    let not = if condition.inverted { " not:" } else { "" };
                    write!(f, "{and}{not} the {} {}", condition.source, condition.test)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { v4: 32, v6: 128 } => f.write_str("client address"),
            Self::Client { v4, v6 } => write!(f, "client address (IPv4 /{v4}, IPv6 /{v6})"),
            Self::Network { v4, v6 } => write!(f, "client network (IPv4 /{v4}, IPv6 /{v6})"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Parameter(name) => write!(f, "first query parameter {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Path(template) => write!(f, "path {template}"),
            Self::Target => f.write_str("path with query"),
            Self::Method => f.write_str("method"),
            Self::Authority => f.write_str("authority"),
            Self::Scheme => f.write_str("scheme"),
            Self::Cluster => f.write_str("destination cluster"),
            Self::Connection => f.write_str("connection"),
        }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Any => f.write_str("/*")?,
                Segment::Named(name) => write!(f, "/{{{name}}}")?,
            }
        }
        f.write_str(match (self.is_open, self.segments.is_empty()) {
            (true, _) => "/**",
            (false, true) => "/",
            (false, false) => "",
        })
    }
}
