//! Credentials in the query of a path, a referer or a redirect are not logged.
//!
//! Headers that hold nothing but secrets are refused where a format names them (see `field`).

use std::borrow::Cow;
use std::sync::Arc;

/// What is written in the place of a value.
const HIDDEN: &str = "REDACTED";

/// Names of query parameters whose values are hidden, whatever their case.
#[derive(Clone, Debug, Default)]
pub struct Redaction(Arc<[Box<str>]>);

impl Redaction {
    pub fn new(names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// The text without what must not be seen; most texts have no such thing and stay as they are.
    pub(super) fn of<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some((before, rest)) = text.split_once('?') else {
            return Cow::Borrowed(text);
        };
        let query_end = rest.find('#').unwrap_or(rest.len());
        let (query, fragment) = rest.split_at(query_end);
        if !query.split('&').any(|pair| self.hides(pair)) {
            return Cow::Borrowed(text);
        }
        let mut shown = String::with_capacity(text.len());
        shown.push_str(before);
        for (index, pair) in query.split('&').enumerate() {
            shown.push(if index == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((name, _)) if self.hides(pair) => {
                    shown.push_str(name);
                    shown.push('=');
                    shown.push_str(HIDDEN);
                }
                _ => shown.push_str(pair),
            }
        }
        shown.push_str(fragment);
        Cow::Owned(shown)
    }

    fn hides(&self, pair: &str) -> bool {
        pair.split_once('=').is_some_and(|(name, value)| {
            !value.is_empty()
                && self
                    .0
                    .iter()
                    .any(|hidden| name.eq_ignore_ascii_case(hidden))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_values_of_named_parameters_are_hidden() {
        let redaction = Redaction::new(["token", "api_key"]);
        for (text, shown) in [
            ("/a", "/a"),
            ("/token=x", "/token=x"),
            ("/a?b=c&tokens=1", "/a?b=c&tokens=1"),
            ("/a?token=x", "/a?token=REDACTED"),
            ("/a?b=c&Token=x=y&d", "/a?b=c&Token=REDACTED&d"),
            (
                "/?API_KEY=1&token=2#top",
                "/?API_KEY=REDACTED&token=REDACTED#top",
            ),
            ("/?token=&token", "/?token=&token"),
            (
                "https://a.example/?b?token=x&token=y",
                "https://a.example/?b?token=x&token=REDACTED",
            ),
        ] {
            assert_eq!(redaction.of(text), shown, "{text}");
        }
    }

    #[test]
    fn a_text_with_nothing_to_hide_is_not_copied() {
        let redaction = Redaction::new(["token"]);
        assert!(matches!(redaction.of("/a?b=c"), Cow::Borrowed(_)));
        assert!(matches!(
            Redaction::default().of("/a?token=c"),
            Cow::Borrowed(_)
        ));
    }
}
