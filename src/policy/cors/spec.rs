//! Who may ask from another origin, and what browsers are told.

use std::fmt;
use std::hash::{Hash, Hasher};

use http::HeaderValue;
use regex::Regex;

/// A policy, with header values ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cors {
    pub origins: Vec<OriginMatch>,
    /// `access-control-allow-methods`.
    pub methods: Allowed,
    /// `access-control-allow-headers`.
    pub headers: Allowed,
    /// `access-control-expose-headers`; `None` says nothing.
    pub expose: Option<HeaderValue>,
    /// `access-control-max-age`, in seconds; `None` says nothing.
    pub max_age: Option<HeaderValue>,
    pub credentials: bool,
    /// Preflights from origins that are not allowed go to the origin server, not answered here.
    pub forward_unmatched: bool,
}

/// A list that a preflight's answer names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// `*`: what the preflight asks for, as Envoy does.
    Asked,
    These(HeaderValue),
}

/// Condition on the `Origin` header. As in Envoy, one that `*` fulfils allows every origin.
#[derive(Clone, Debug)]
pub enum OriginMatch {
    Exact(Box<str>),
    Prefix(Box<str>),
    /// Anchored at both ends.
    Regex(Regex),
}

impl OriginMatch {
    pub(super) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Exact(text) => ("exact", text),
            Self::Prefix(text) => ("prefix", text),
            Self::Regex(regex) => ("regex", regex.as_str()),
        }
    }
}

impl PartialEq for OriginMatch {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for OriginMatch {}

impl Hash for OriginMatch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Display for OriginMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, text) = self.parts();
        let text = match self {
            // As written, without the anchors.
            Self::Regex(_) => text
                .strip_prefix("^(?:")
                .and_then(|text| text.strip_suffix(")$"))
                .unwrap_or(text),
            _ => text,
        };
        write!(f, "{how} {text:?}")
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => f.write_str("none"),
            Self::Asked => f.write_str("*"),
            Self::These(value) => f.write_str(&String::from_utf8_lossy(value.as_bytes())),
        }
    }
}

impl fmt::Display for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<String> = self.origins.iter().map(ToString::to_string).collect();
        let origins = match origins.is_empty() {
            true => "no origin".to_owned(),
            false => format!("origins {}", origins.join(", ")),
        };
        write!(
            f,
            "{origins}, methods {}, headers {}",
            self.methods, self.headers
        )?;
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        if let Some(expose) = &self.expose {
            write!(f, ", exposed {}", text(expose))?;
        }
        if let Some(age) = &self.max_age {
            write!(f, ", for {}s", text(age))?;
        }
        if self.credentials {
            f.write_str(", with credentials")?;
        }
        f.write_str(match self.forward_unmatched {
            true => ", other preflights forwarded",
            false => ", other preflights answered",
        })
    }
}
