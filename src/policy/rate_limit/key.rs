//! What requests have in common that share a bucket, and which requests a limit concerns.
//!
//! Values are read in place; only a hash of them is kept, seeded anew for each limit so that
//! nobody can choose what falls together.

mod show;

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::Regex;
use smallvec::SmallVec;

/// All parts hold for a request that goes this way; what they name tells buckets apart.
pub type Way = Box<[Part]>;

/// A request as limits see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// After trusted proxies.
    pub client: Option<IpAddr>,
    pub headers: &'r HeaderMap,
    /// Normalised, without query.
    pub path: &'r str,
    pub query: Option<&'r str>,
    /// Path with query.
    pub target: &'r str,
    pub method: &'r str,
    pub authority: &'r str,
    pub scheme: &'r str,
    /// Where the request is sent.
    pub cluster: Option<&'r str>,
    /// Tells the client's connection from all others.
    pub connection: u64,
}

/// One part of a way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Each value has buckets of its own.
    Each {
        source: Source,
        /// Requests without the value share a bucket; if not, they do not go this way.
        shared: bool,
    },
    /// Only requests with this value go this way.
    Is { source: Source, value: Box<[u8]> },
    /// Only requests go this way for which all conditions hold, or, if not expected, not all do.
    When {
        conditions: Box<[Condition]>,
        expected: bool,
    },
}

/// Where a value stands in a request. Several values of one name count together, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// So many leading bits of the client's address.
    Client {
        v4: u8,
        v6: u8,
    },
    /// The same, told with the number of bits, as Envoy's `masked_remote_address` is.
    Network {
        v4: u8,
        v6: u8,
    },
    Header(HeaderName),
    Cookie(Box<str>),
    Query(Box<str>),
    /// As Envoy reads it: the first of the name, percent-decoded.
    Parameter(Box<str>),
    /// What the path has in a template's places.
    Path(PathTemplate),
    /// Path with query.
    Target,
    Method,
    Authority,
    Scheme,
    Cluster,
    /// The client's connection; a bucket ends with it, or is forgotten before others.
    Connection,
}

/// A path whose segments are given, or any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    segments: Box<[Segment]>,
    /// Ends in `**`: any rest.
    is_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(Box<str>),
    /// `*`: any, which does not count.
    Any,
    /// `{name}`: any, which counts.
    Named(Box<str>),
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    pub source: Source,
    pub test: Test,
    pub inverted: bool,
    /// What a missing value is taken for; without it no condition holds but an inverted one.
    pub missing_is_empty: bool,
}

#[derive(Clone, Debug)]
pub enum Test {
    Present,
    Exact {
        text: Box<str>,
        ignore_case: bool,
    },
    Prefix {
        text: Box<str>,
        ignore_case: bool,
    },
    Suffix {
        text: Box<str>,
        ignore_case: bool,
    },
    Contains {
        text: Box<str>,
        ignore_case: bool,
    },
    /// Anchored at both ends.
    Regex(Regex),
}

/// The hash of a request's key in a limit; `None` if the limit does not concern it.
pub(super) fn hash(ways: &[Way], asked: &Asked<'_>, seed: &RandomState) -> Option<u64> {
    feed(ways, asked, || seed.build_hasher()).map(|hasher| hasher.finish())
}

/// A hasher that was given a request's key in a limit; `None` if the limit does not concern it.
pub(super) fn feed<H: Hasher>(ways: &[Way], asked: &Asked<'_>, begin: impl Fn() -> H) -> Option<H> {
    // Ways of one limit lead to the same values, so a value's bucket does not depend on the way.
    ways.iter().find_map(|way| {
        let mut hasher = begin();
        way.iter()
            .all(|part| part.holds(asked, &mut hasher))
            .then_some(hasher)
    })
}

impl Part {
    fn holds(&self, asked: &Asked<'_>, to: &mut impl Hasher) -> bool {
        match self {
            Self::Each { source, shared } => {
                let mut length = 0;
                let is_there = source.read(asked, |piece| {
                    length += piece.len();
                    to.write(piece);
                });
                // Keeps the values of neighbouring parts apart.
                to.write_usize(length);
                match source {
                    // A template says itself which requests it concerns.
                    Source::Path(_) => is_there,
                    // An empty value and none hash alike, so that there are not two buckets to choose
                    // from; Envoy makes a descriptor of the one and not of the other.
                    _ => *shared || is_there,
                }
            }
            Self::Is { source, value } => {
                let mut rest = Some(&**value);
                let is_there = source.read(asked, |piece| {
                    rest = rest.and_then(|rest| rest.strip_prefix(piece));
                });
                is_there && rest.is_some_and(<[u8]>::is_empty)
            }
            Self::When {
                conditions,
                expected,
            } => conditions.iter().all(|condition| condition.holds(asked)) == *expected,
        }
    }
}

impl Source {
    /// Gives the pieces of the value, in order. Whether there is one.
    fn read(&self, asked: &Asked<'_>, mut piece: impl FnMut(&[u8])) -> bool {
        let mut whole = |text: &str| {
            piece(text.as_bytes());
            true
        };
        match self {
            Self::Client { v4, v6 } | Self::Network { v4, v6 } => match asked.client {
                None => false,
                Some(IpAddr::V4(address)) => {
                    let bits = masked(address.to_bits().into(), 32, *v4);
                    piece(&(bits as u32).to_be_bytes());
                    true
                }
                Some(IpAddr::V6(address)) => {
                    piece(&masked(address.to_bits(), 128, *v6).to_be_bytes());
                    true
                }
            },
            Self::Header(name) => {
                let values = asked.headers.get_all(name).iter();
                joined(values.map(HeaderValue::as_bytes), piece)
            }
            Self::Cookie(name) => joined(cookies(asked.headers, name), piece),
            Self::Query(name) => {
                let pairs = asked.query.into_iter().flat_map(|query| query.split('&'));
                let values = pairs.filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (*key == **name).then_some(value.as_bytes())
                });
                joined(values, piece)
            }
            Self::Parameter(name) => {
                let value = parameter(asked.query.unwrap_or_default(), name);
                value
                    .clone()
                    .into_iter()
                    .flatten()
                    .for_each(|byte| piece(&[byte]));
                value.is_some()
            }
            Self::Path(template) => template.read(asked.path, piece),
            Self::Target => whole(asked.target),
            Self::Method => whole(asked.method),
            Self::Authority => whole(asked.authority),
            Self::Scheme => whole(asked.scheme),
            Self::Cluster => asked.cluster.is_some_and(whole),
            Self::Connection => {
                piece(&asked.connection.to_be_bytes());
                true
            }
        }
    }

    /// The value in words, as a rate limit service is told it.
    pub(in crate::policy) fn text<'r>(&self, asked: &Asked<'r>) -> Option<Cow<'r, str>> {
        match self {
            Self::Client { v4, v6 } | Self::Network { v4, v6 } => {
                let (address, length, is_whole) = match asked.client? {
                    IpAddr::V4(address) => {
                        let bits = masked(address.to_bits().into(), 32, *v4) as u32;
                        (IpAddr::from(bits.to_be_bytes()), v4, *v4 >= 32)
                    }
                    IpAddr::V6(address) => {
                        let bits = masked(address.to_bits(), 128, *v6);
                        (IpAddr::from(bits.to_be_bytes()), v6, *v6 >= 128)
                    }
                };
                Some(Cow::Owned(match self {
                    Self::Client { .. } if is_whole => address.to_string(),
                    _ => format!("{address}/{length}"),
                }))
            }
            Self::Path(template) => template.filled(asked.path).map(Cow::Owned),
            _ => self.with_value(asked, |value| {
                value.map(|value| Cow::Owned(String::from_utf8_lossy(value).into_owned()))
            }),
        }
    }

    /// The value as one text, as Envoy reads it.
    fn with_value<R>(&self, asked: &Asked<'_>, look: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let mut value: SmallVec<[u8; 256]> = SmallVec::new();
        let is_there = self.read(asked, |piece| value.extend_from_slice(piece));
        look(is_there.then_some(&value))
    }
}

/// Leading bits of an address of `width` bits.
fn masked(bits: u128, width: u32, length: u8) -> u128 {
    let dropped = width.saturating_sub(u32::from(length));
    bits.checked_shr(dropped)
        .and_then(|bits| bits.checked_shl(dropped))
        .unwrap_or(0)
}

/// The first value that a query gives a parameter, as Envoy decodes both: `%XX` is a byte, all else
/// stands for itself.
fn parameter<'q>(query: &'q str, name: &str) -> Option<impl Iterator<Item = u8> + Clone + 'q> {
    let mut pairs = query.split('&');
    pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        decoded(key).eq(name.bytes()).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> impl Iterator<Item = u8> + Clone {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        rest = tail;
        if *first == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = after;
            return Some(high << 4 | low);
        }
        Some(*first)
    })
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Gives values with commas between them. Whether there is any.
fn joined<'v>(values: impl Iterator<Item = &'v [u8]>, mut piece: impl FnMut(&[u8])) -> bool {
    let mut is_there = false;
    for value in values {
        if is_there {
            piece(b",");
        }
        piece(value);
        is_there = true;
    }
    is_there
}

/// All values that requests give a cookie.
fn cookies<'r>(headers: &'r HeaderMap, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let lines = headers.get_all(http::header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = pair.split_at(equals);
        (key.trim_ascii() == name.as_bytes())
            .then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

impl PathTemplate {
    /// Reads `/users/{id}/*/**`.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("the path `{text}` does not begin with `/`"));
        };
        let (rest, is_open) = match rest.strip_suffix("**") {
            Some(rest) if rest.is_empty() || rest.ends_with('/') => (rest, true),
            _ => (rest, false),
        };
        let segments = rest.split('/').filter(|segment| !segment.is_empty());
        let segments: Result<_, String> = segments
            .map(|segment| {
                let name = segment
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'));
                match name {
                    Some("") => Err("a place in a path has no name".into()),
                    Some(name) => Ok(Segment::Named(name.into())),
                    None if segment == "*" => Ok(Segment::Any),
                    None if segment.contains(['*', '{', '}', '?', '#']) => {
                        Err(format!("`{segment}` is not a whole segment of a path"))
                    }
                    None => Ok(Segment::Literal(segment.into())),
                }
            })
            .collect();
        Ok(Self {
            segments: segments?,
            is_open,
        })
    }

    /// Empty segments do not count, so that `//` and a last `/` are no way around a limit.
    fn read(&self, path: &str, mut piece: impl FnMut(&[u8])) -> bool {
        let mut given = path.split('/').filter(|segment| !segment.is_empty());
        for segment in &self.segments {
            let Some(given) = given.next() else {
                return false;
            };
            match segment {
                Segment::Literal(text) if **text != *given => return false,
                Segment::Literal(_) | Segment::Any => {}
                Segment::Named(_) => {
                    piece(given.as_bytes());
                    piece(b"/");
                }
            }
        }
        self.is_open || given.next().is_none()
    }

    /// The template with a path's own values in the named places. `None` if it is not of the path.
    fn filled(&self, path: &str) -> Option<String> {
        if !self.read(path, |_| {}) {
            return None;
        }
        let mut given = path.split('/').filter(|segment| !segment.is_empty());
        let own = self.segments.iter().map(|segment| match segment {
            Segment::Named(_) => Segment::Literal(given.next().unwrap_or_default().into()),
            Segment::Literal(_) | Segment::Any => {
                given.next();
                segment.clone()
            }
        });
        let filled = Self {
            segments: own.collect(),
            is_open: self.is_open,
        };
        Some(filled.to_string())
    }
}

impl Condition {
    pub(in crate::policy) fn holds(&self, asked: &Asked<'_>) -> bool {
        let holds = self.source.with_value(asked, |value| match value {
            Some(value) => Some(self.test.holds(value)),
            None if self.missing_is_empty => Some(self.test.holds(b"")),
            None => None,
        });
        match holds {
            Some(holds) => holds != self.inverted,
            // Envoy: a header that is not there fulfils an inverted condition on presence alone.
            None => self.inverted && matches!(self.test, Test::Present),
        }
    }
}

impl Test {
    fn holds(&self, value: &[u8]) -> bool {
        let text = String::from_utf8_lossy;
        let folded = |ignore_case: &bool| match ignore_case {
            true => text(value).to_ascii_lowercase().into(),
            false => text(value),
        };
        match self {
            Self::Present => true,
            Self::Exact { text, ignore_case } => *folded(ignore_case) == **text,
            Self::Prefix { text, ignore_case } => folded(ignore_case).starts_with(&**text),
            Self::Suffix { text, ignore_case } => folded(ignore_case).ends_with(&**text),
            Self::Contains { text, ignore_case } => folded(ignore_case).contains(&**text),
            Self::Regex(regex) => regex.is_match(&text(value)),
        }
    }

    fn parts(&self) -> (&'static str, &str, bool) {
        match self {
            Self::Present => ("present", "", false),
            Self::Exact { text, ignore_case } => ("is", text, *ignore_case),
            Self::Prefix { text, ignore_case } => ("starts with", text, *ignore_case),
            Self::Suffix { text, ignore_case } => ("ends with", text, *ignore_case),
            Self::Contains { text, ignore_case } => ("contains", text, *ignore_case),
            Self::Regex(regex) => ("matches", regex.as_str(), false),
        }
    }
}

impl PartialEq for Test {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Test {}

impl Hash for Test {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

#[cfg(test)]
mod tests;
