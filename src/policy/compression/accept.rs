//! Which coding a client wants: `Accept-Encoding` (RFC 9110 section 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use super::spec::{Coding, Leveled};

/// Thousandths; what quality values can say.
type Quality = u16;

const FULL: Quality = 1000;

/// What a client said about one coding, or about all others.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    codings: [Option<Quality>; Coding::ALL.len()],
    identity: Option<Quality>,
    others: Option<Quality>,
}

/// The coding that a client likes best, of several the first; `None` if it is to get the response as
/// it is, because it wants that or can read nothing else.
#[must_use]
pub fn choose(headers: &HeaderMap, codings: &[Leveled]) -> Option<Leveled> {
    let mut wishes = Wishes::default();
    for line in headers.get_all(ACCEPT_ENCODING) {
        let items = line.as_bytes().split(|byte| *byte == b',');
        items.for_each(|item| wishes.note(item.trim_ascii()));
    }
    let mut best: Option<(Quality, Leveled)> = None;
    for coding in codings {
        let quality = wishes.of(coding.coding);
        if quality > best.map_or(0, |(quality, _)| quality) {
            best = Some((quality, *coding));
        }
    }
    // Who does not speak of it has nothing against it, but would not have listed codings either.
    let (quality, coding) = best?;
    (quality >= wishes.identity.unwrap_or(0)).then_some(coding)
}

impl Wishes {
    /// Notes one item. What cannot be read says nothing.
    fn note(&mut self, item: &[u8]) {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let Some(token) = parts.next().filter(|token| !token.is_empty()) else {
            return;
        };
        let weight = parts.find_map(|part| match part {
            [b'q' | b'Q', b'=', value @ ..] => Some(quality(value)),
            _ => None,
        });
        let Some(quality) = weight.unwrap_or(Some(FULL)) else {
            return;
        };
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        let slot = if is("*") {
            &mut self.others
        } else if is("identity") {
            &mut self.identity
        } else {
            let coding = Coding::ALL.iter().position(|coding| {
                // RFC 9110 section 8.4.1.3.
                is(coding.token()) || (*coding == Coding::Gzip && is("x-gzip"))
            });
            let Some(slot) = coding.and_then(|index| self.codings.get_mut(index)) else {
                return;
            };
            slot
        };
        *slot = Some(quality);
    }

    fn of(&self, coding: Coding) -> Quality {
        let index = Coding::ALL.iter().position(|known| *known == coding);
        let own = index.and_then(|index| *self.codings.get(index)?);
        own.or(self.others).unwrap_or(0)
    }
}

/// `0` to `1` with up to three digits after the point.
fn quality(text: &[u8]) -> Option<Quality> {
    let (whole, rest) = text.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] => digits,
        _ => return None,
    };
    if digits.len() > 3 {
        return None;
    }
    let mut value = match whole {
        b'0' => 0,
        b'1' => FULL,
        _ => return None,
    };
    for (digit, worth) in digits.iter().zip([100, 10, 1]) {
        let digit = char::from(*digit).to_digit(10)?;
        value += Quality::try_from(digit).ok()? * worth;
    }
    (value <= FULL).then_some(value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn chosen(lines: &[&str], order: &[Coding]) -> &'static str {
        let lines = lines.iter().map(|line| {
            let value = HeaderValue::from_str(line).unwrap();
            (ACCEPT_ENCODING, value)
        });
        let mut headers = HeaderMap::new();
        lines.for_each(|(name, value)| {
            headers.append(name, value);
        });
        let leveled = order.iter().map(|coding| Leveled {
            coding: *coding,
            level: 1,
        });
        let leveled: Vec<_> = leveled.collect();
        choose(&headers, &leveled).map_or("identity", |chosen| chosen.coding.token())
    }

    #[test]
    fn the_coding_of_the_highest_quality_is_chosen_and_of_equals_the_first_of_ours() {
        for (line, expected) in [
            ("gzip", "gzip"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, br", "br"),
            ("gzip;q=1.0, br;q=0.9", "gzip"),
            ("gzip;q=0.5, br;q=0.501", "br"),
            ("GZIP ; Q=0.5", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate, compress", "identity"),
            ("", "identity"),
            ("*", "zstd"),
            ("*;q=0", "identity"),
            ("zstd;q=0, *", "br"),
            ("gzip, *;q=0", "gzip"),
            ("gzip;q=0", "identity"),
            ("gzip;q=0.000", "identity"),
            ("identity", "identity"),
            ("identity;q=0", "identity"),
            ("identity;q=0, gzip;q=0.1", "gzip"),
            ("identity, gzip;q=0.5", "identity"),
            ("identity;q=0.5, gzip;q=0.5", "gzip"),
            // Not read: too many digits, too much, no number, another parameter.
            ("gzip;q=0.1234", "identity"),
            ("gzip;q=1.1", "identity"),
            ("gzip;q=", "identity"),
            ("gzip;q=x, br;q=0.1", "br"),
            ("gzip;level=9", "gzip"),
            (", ,gzip,", "gzip"),
        ] {
            assert_eq!(chosen(&[line], &Coding::ALL), expected, "{line}");
        }
        assert_eq!(chosen(&[], &Coding::ALL), "identity");
        assert_eq!(chosen(&["gzip;q=0.2", "br;q=0.3"], &Coding::ALL), "br");
        let order = [Coding::Gzip, Coding::Zstd];
        assert_eq!(chosen(&["zstd, br, gzip"], &order), "gzip");
        assert_eq!(chosen(&["br"], &order), "identity");
    }
}
