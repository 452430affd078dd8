//! Which responses are compressed, and how.

use std::fmt;

/// How responses are compressed for clients that can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compression {
    /// Where clients like several equally well, the first of them is taken. None compresses nothing.
    pub codings: Box<[Leveled]>,
    /// Bytes; a shorter response is sent as it is.
    pub min_bytes: u64,
    pub types: MediaTypes,
}

/// A coding and how much work it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leveled {
    pub coding: Coding,
    /// Within [`Coding::levels`].
    pub level: u8,
}

/// A content coding (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

/// Media types whose responses are compressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MediaTypes {
    /// [`TEXTS`].
    Texts,
    /// In lower case and without parameters; `text/*` is every type of text.
    These(Box<[Box<str>]>),
}

/// What Envoy's compressor takes by default.
pub const TEXTS: [&str; 18] = [
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
];

impl Coding {
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its registered name.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.token() == token)
    }

    /// The levels there are. Those above are for files that are compressed once and sent often: they
    /// take tens of milliseconds for one part of a response, or, Brotli from 7 on, 8 to 32 MB.
    #[must_use]
    pub fn levels(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Brotli => 1..=6,
            Self::Zstd | Self::Gzip => 1..=9,
        }
    }

    /// A level at which compressing costs about as much as sending.
    #[must_use]
    pub fn default_level(self) -> u8 {
        match self {
            Self::Zstd => 3,
            Self::Brotli => 4,
            Self::Gzip => 5,
        }
    }
}

impl MediaTypes {
    /// Whether a `Content-Type` is one of them.
    #[must_use]
    pub fn has(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|byte| *byte == b';').next();
        let essence = essence.unwrap_or_default().trim_ascii();
        match self {
            Self::Texts => {
                let mut texts = TEXTS.iter();
                texts.any(|text| essence.eq_ignore_ascii_case(text.as_bytes()))
            }
            Self::These(types) => types.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(start) => essence
                    .get(..start.len())
                    .is_some_and(|known| known.eq_ignore_ascii_case(start.as_bytes())),
                None => essence.eq_ignore_ascii_case(wanted.as_bytes()),
            }),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            codings,
            min_bytes,
            types,
        } = self;
        if codings.is_empty() {
            return f.write_str("no compression");
        }
        for (index, Leveled { coding, level }) in codings.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} at level {level}", coding.token())?;
        }
        write!(f, ", from {min_bytes} bytes on, ")?;
        match types {
            MediaTypes::Texts => f.write_str("texts"),
            MediaTypes::These(types) => f.write_str(&types.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_their_essence_in_any_case() {
        let these = MediaTypes::These(["text/*", "application/json"].map(Box::from).into());
        for (kind, in_texts, in_these) in [
            ("text/html; charset=utf-8", true, true),
            ("TEXT/HTML", true, true),
            ("application/json", true, true),
            ("application/json ;x", true, true),
            ("application/jsonp", false, false),
            ("text/csv", false, true),
            ("textile/x", false, false),
            ("image/png", false, false),
            ("", false, false),
        ] {
            let has = [&MediaTypes::Texts, &these].map(|types| types.has(kind.as_bytes()));
            assert_eq!(has, [in_texts, in_these], "{kind}");
        }
    }
}
