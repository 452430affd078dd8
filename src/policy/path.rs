//! Path normalisation: once, before routing, so that what is matched, authorised, logged and
//! forwarded is one text.
//!
//! `proxy::admit` and `explain` call [`split_target`], then [`normalize`] (or, in the edge
//! profile, [`normalize_edge`]). Like Envoy, which canonicalises as Chromium does: a backslash is
//! a slash, escapes of unreserved characters are decoded, dot segments (escaped ones too) are
//! resolved and cannot climb above the root, characters that must not stand in a path raw are
//! escaped, and every other escape stays as it was written, broken ones and the case of its
//! digits included.

use std::borrow::Cow;

/// `meshConfig.pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathNormalization {
    None,
    /// Dot segments, unreserved escapes, backslashes. Istio's `DEFAULT`.
    #[default]
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

/// Why a path is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadPath {
    #[error("the path contains %00")]
    Nul,
    #[error("the path does not begin with a slash")]
    NoSlash,
    /// The rest only in the edge profile.
    #[error("the path contains a `%` that no two hexadecimal digits follow")]
    BrokenEscape,
    #[error("the path climbs above its root")]
    AboveRoot,
    /// GET and HEAD are redirected to the path with the slashes decoded instead.
    #[error("the path contains an escaped slash or backslash")]
    EscapedSlash,
    #[error("a segment of the path is a dot segment with parameters")]
    DotParameters,
    #[error("the path contains a control character, a space or a character beyond ASCII")]
    Forbidden,
}

/// A request target in origin form as path and query. A fragment is dropped.
pub fn split_target(target: &str) -> (&str, Option<&str>) {
    let target = target.split_once('#').map_or(target, |(before, _)| before);
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// The path that is matched and forwarded. Borrows if nothing has to change.
///
/// # Errors
/// The path cannot be normalised: 400.
pub fn normalize(
    raw_path: &str,
    normalization: PathNormalization,
) -> Result<Cow<'_, str>, BadPath> {
    if is_plain(raw_path.as_bytes()) {
        return Ok(raw_path.into());
    }
    let path = raw_path
        .split_once('#')
        .map_or(raw_path, |(before, _)| before);
    check_always(path)?;
    if path.is_empty() {
        return Ok("/".into());
    }
    if path == "*" {
        return Ok(path.into());
    }
    Ok(match normalization {
        PathNormalization::None => path.into(),
        PathNormalization::Base => Rules::default().apply(path),
        PathNormalization::MergeSlashes => Rules {
            merge: true,
            ..Rules::default()
        }
        .apply(path),
        PathNormalization::DecodeAndMergeSlashes => Rules {
            merge: true,
            decode_slashes: true,
            ..Rules::default()
        }
        .apply(path),
    })
}

/// The edge profile's normalisation: [`check_strict`], then slashes merged, and the digits of
/// the escapes that stay in upper case.
///
/// # Errors
/// The path is refused: 400, or a redirect for [`BadPath::EscapedSlash`].
pub fn normalize_edge(raw_path: &str) -> Result<Cow<'_, str>, BadPath> {
    check_strict(raw_path)?;
    match raw_path {
        "" => Ok("/".into()),
        "*" => Ok(raw_path.into()),
        _ => Ok(Rules {
            merge: true,
            upper_case: true,
            ..Rules::default()
        }
        .apply(raw_path)),
    }
}

/// What the edge profile refuses besides: whatever a recipient somewhere could read differently.
///
/// # Errors
/// The first reason found.
pub fn check_strict(raw_path: &str) -> Result<(), BadPath> {
    check_always(raw_path)?;
    let bytes = raw_path.as_bytes();
    if bytes
        .iter()
        .any(|byte| !byte.is_ascii_graphic() || *byte == b'#')
    {
        return Err(BadPath::Forbidden);
    }
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        match escape(bytes, at) {
            None => return Err(BadPath::BrokenEscape),
            Some(b'/' | b'\\') => return Err(BadPath::EscapedSlash),
            Some(_) => {}
        }
    }
    let decoded = Rules::default().decode(raw_path);
    let mut depth = 0_usize;
    for segment in decoded.split(|byte| *byte == b'/').skip(1) {
        match segment {
            b"." | b"" => {}
            b".." => depth = depth.checked_sub(1).ok_or(BadPath::AboveRoot)?,
            _ if segment.starts_with(b".;") || segment.starts_with(b"..;") => {
                return Err(BadPath::DotParameters);
            }
            _ => depth += 1,
        }
    }
    Ok(())
}

fn check_always(path: &str) -> Result<(), BadPath> {
    let bytes = path.as_bytes();
    if bytes.contains(&0) || bytes.windows(3).any(|three| three == b"%00") {
        return Err(BadPath::Nul);
    }
    match bytes {
        [] | [b'/' | b'\\', ..] | b"*" => Ok(()),
        _ => Err(BadPath::NoSlash),
    }
}

/// Whether no level changes the path: what nearly every path is, told in one pass without
/// branches.
fn is_plain(path: &[u8]) -> bool {
    const SLASH: u8 = 1;
    /// A slash or a dot: not after a slash. The bit beside [`SLASH`].
    const NOT_AFTER_SLASH: u8 = SLASH << 1;
    const NEVER: u8 = 4;
    const CLASSES: [u8; 256] = {
        let mut classes = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            classes[byte] = match byte as u8 {
                b'/' => SLASH | NOT_AFTER_SLASH,
                b'.' => NOT_AFTER_SLASH,
                b'\\' | b'%' | b'#' => NEVER,
                other if must_be_escaped(other) => NEVER,
                _ => 0,
            };
            byte += 1;
        }
        classes
    };
    let (found, _) = path.iter().fold((0, 0), |(found, before), &byte| {
        let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(NEVER);
        (found | class & NEVER | class & (before & SLASH) << 1, class)
    });
    found == 0 && path.first() == Some(&b'/')
}

/// What beyond the base rules is done.
#[derive(Clone, Copy, Default)]
struct Rules {
    decode_slashes: bool,
    merge: bool,
    upper_case: bool,
}

impl Rules {
    /// In Envoy's order: escapes, then dot segments, then repeated slashes. An escape is decoded
    /// once; what comes out is not looked at again.
    fn apply(self, path: &str) -> Cow<'_, str> {
        if self.is_normal(path.as_bytes()) {
            return path.into();
        }
        let mut resolved = resolve_dots(&self.decode(path));
        if self.merge {
            resolved.dedup_by(|a, b| *a == b'/' && *b == b'/');
        }
        // Only ASCII was decoded, and all else escaped: the result is ASCII.
        String::from_utf8_lossy(&resolved).into_owned().into()
    }

    fn is_normal(self, bytes: &[u8]) -> bool {
        bytes.iter().enumerate().all(|(at, &byte)| match byte {
            b'\\' => false,
            b'%' => !self.changes(bytes, at),
            b'/' => {
                let rest = bytes.get(at + 1..).unwrap_or_default();
                !(begins_with_dots(rest) || self.merge && rest.first() == Some(&b'/'))
            }
            _ => !must_be_escaped(byte),
        })
    }

    /// Whether the escape at `at` is not left as it is.
    fn changes(self, bytes: &[u8], at: usize) -> bool {
        escape(bytes, at).is_some_and(|decoded| {
            self.decodes(decoded)
                || self.upper_case
                    && bytes
                        .get(at + 1..at + 3)
                        .is_some_and(|digits| digits.iter().any(u8::is_ascii_lowercase))
        })
    }

    fn decodes(self, byte: u8) -> bool {
        is_unreserved(byte) || self.decode_slashes && matches!(byte, b'/' | b'\\')
    }

    fn decode(self, path: &str) -> Vec<u8> {
        let bytes = path.as_bytes();
        let mut out = Vec::with_capacity(bytes.len() + 1);
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'\\' => out.push(b'/'),
                b'%' => match escape(bytes, at - 1) {
                    Some(decoded) if self.decodes(decoded) => {
                        out.push(if decoded == b'\\' { b'/' } else { decoded });
                        at += 2;
                    }
                    Some(decoded) if self.upper_case => {
                        push_escaped(&mut out, decoded);
                        at += 2;
                    }
                    _ => out.push(b'%'),
                },
                _ if must_be_escaped(byte) => push_escaped(&mut out, byte),
                _ => out.push(byte),
            }
        }
        out
    }
}

/// Removes `.` and `..` segments. `/..` stays at the root, and a removed last segment leaves its
/// slash.
fn resolve_dots(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let parent = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    out.truncate(parent);
                }
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    out
}

/// Whether a path's rest after a slash begins with a dot segment.
fn begins_with_dots(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b'.'] | [b'.', b'/' | b'\\', ..] | [b'.', b'.'] | [b'.', b'.', b'/' | b'\\', ..]
    )
}

/// The byte that the escape at `at` stands for; `None` if the escape is broken.
fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| {
        let digit = char::from(*bytes.get(at + offset)?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    Some(digit(1)? << 4 | digit(2)?)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Chromium's table for paths, which Envoy uses.
const fn must_be_escaped(byte: u8) -> bool {
    !byte.is_ascii_graphic()
        || matches!(
            byte,
            b'"' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    let digit = |value: u8| {
        if value < 10 {
            b'0' + value
        } else {
            b'A' + value - 10
        }
    };
    out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests;
