//! Regular expressions as Istio takes them: RE2 syntax, made into the `regex` crate's.
//!
//! Envoy runs RE2; the crate descends from it but reads some texts differently: `\d` is Unicode
//! there and ASCII here, a lone `{` is an error there and literal here, `&&` and `[` have a meaning
//! inside a class there. [`Patterns::whole`] and [`part`] translate, so that a pattern means here what it
//! means in Istio. Called for every regex of a rule.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

use regex::{Regex, RegexBuilder};

/// Istio's limit on a pattern's length, in bytes.
const MAX_LENGTH: usize = 1024;
/// RE2's limit on a counted repetition.
const MAX_REPEAT: u32 = 1000;
/// Bound on a compiled program: patterns of legal length stay far below.
const MAX_COMPILED: usize = 4 << 20;

/// The patterns of one compile: each text is compiled once, however often it is written, and
/// shared by validation and translation.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    whole: RefCell<HashMap<Box<str>, Result<Regex, String>, foldhash::fast::RandomState>>,
}

impl Patterns {
    /// A pattern that must match a value from end to end.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the pattern.
    pub(crate) fn whole(&self, text: &str) -> Result<Regex, String> {
        if let Some(known) = self.whole.borrow().get(text) {
            return known.clone();
        }
        let compiled = whole(text);
        self.whole
            .borrow_mut()
            .insert(text.into(), compiled.clone());
        compiled
    }
}

fn whole(text: &str) -> Result<Regex, String> {
    compile(text, |translated| format!("^(?:{translated})$"))
}

/// A pattern that may match anywhere in a value.
///
/// # Errors
/// One sentence that says what is wrong with the pattern.
pub(crate) fn part(text: &str) -> Result<Regex, String> {
    compile(text, |translated| translated)
}

/// RE2's replacement text (`\1`) in the `regex` crate's form (`${1}`).
///
/// # Errors
/// One sentence that says which reference is wrong.
pub(crate) fn replacement(text: &str, pattern: &Regex) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some(digit) if digit.is_ascii_digit() => {
                    let group = digit as usize - '0' as usize;
                    if group >= pattern.captures_len() {
                        return Err(format!(
                            "`\\{group}` names a group that the pattern does not have"
                        ));
                    }
                    // Writing to a String cannot fail.
                    let _ = write!(out, "${{{group}}}");
                }
                Some(other) => {
                    return Err(format!(
                        "`\\{other}` is no reference; write `\\1` to `\\9`, or `\\\\`"
                    ));
                }
                None => return Err("the text ends in a single `\\`".into()),
            },
            other => out.push(other),
        }
    }
    Ok(out)
}

fn compile(text: &str, wrap: impl Fn(String) -> String) -> Result<Regex, String> {
    if text.is_empty() {
        return Err("the regex is empty".into());
    }
    if text.len() > MAX_LENGTH {
        return Err(format!("the regex is longer than {MAX_LENGTH} characters"));
    }
    let mut translated =
        translate(text).map_err(|error| format!("`{text}` is not an RE2 regex: {error}"))?;
    translated = wrap(translated);
    RegexBuilder::new(&translated)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| format!("`{text}` is not an RE2 regex: {}", brief(&error)))
}

/// The last line of a multi-line syntax error, which holds the reason.
fn brief(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".into(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

/// Whether the two syntaxes read a text alike without looking closer.
fn is_common(text: &str) -> bool {
    !text.contains(['\\', '[', '{', '('])
}

fn translate(text: &str) -> Result<String, String> {
    if is_common(text) {
        return Ok(text.to_owned());
    }
    let mut scan = Scan {
        text,
        chars: text.char_indices().peekable(),
        out: String::with_capacity(text.len() + 16),
    };
    while let Some((at, c)) = scan.chars.next() {
        match c {
            '\\' => scan.escape(false)?,
            '[' => scan.class()?,
            '{' => scan.brace(at)?,
            '(' => scan.group(at)?,
            other => scan.out.push(other),
        }
    }
    Ok(scan.out)
}

struct Scan<'t> {
    text: &'t str,
    chars: Peekable<CharIndices<'t>>,
    out: String,
}

impl Scan<'_> {
    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let Some((at, c)) = self.chars.next() else {
            return Err("it ends in a single `\\`".into());
        };
        match c {
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.out.push_str(r"[\t\n\f\r ]"),
            'S' => self.out.push_str(r"[^\t\n\f\r ]"),
            'b' if !in_class => self.out.push_str(r"(?-u:\b)"),
            // A negated ASCII boundary could split a character, which the crate refuses; on the
            // ASCII that paths and headers are, both mean the same.
            'B' if !in_class => self.out.push_str(r"\B"),
            'A' | 'z' if !in_class => {
                self.out.push('\\');
                self.out.push(c);
            }
            'Q' if !in_class => self.quoted(at + 1),
            'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'x' | 'p' | 'P' => {
                self.out.push('\\');
                self.out.push(c);
                if matches!(c, 'x' | 'p' | 'P') {
                    self.braced();
                }
            }
            '<' | '>' => self.out.push(c),
            '_' => self.out.push('_'),
            c if c.is_ascii_alphanumeric() => return Err(format!("`\\{c}` is not known")),
            c if c.is_ascii() => {
                self.out.push('\\');
                self.out.push(c);
            }
            c => return Err(format!("`\\{c}` is not known")),
        }
        Ok(())
    }

    /// Copies `{…}` behind `\x` and `\p` as it is.
    fn braced(&mut self) {
        if self.chars.next_if(|(_, c)| *c == '{').is_none() {
            return;
        }
        self.out.push('{');
        for (_, c) in self.chars.by_ref() {
            self.out.push(c);
            if c == '}' {
                break;
            }
        }
    }

    /// `\Q…\E`: everything between is literal.
    fn quoted(&mut self, from: usize) {
        let rest = self.text.get(from..).unwrap_or_default();
        let length = rest.find("\\E").unwrap_or(rest.len());
        self.out
            .push_str(&regex::escape(rest.get(..length).unwrap_or_default()));
        let end = from + length;
        while self.chars.next_if(|(at, _)| *at < end + 2).is_some() {}
    }

    /// A bracket expression, whose opening has been read.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.chars.next_if(|(_, c)| *c == '^').is_some() {
            self.out.push('^');
        }
        // A bracket that closes at once is literal.
        if self.chars.next_if(|(_, c)| *c == ']').is_some() {
            self.out.push_str("\\]");
        }
        while let Some((at, c)) = self.chars.next() {
            match c {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' => {
                    let rest = self.text.get(at..).unwrap_or_default();
                    match rest.starts_with("[:").then(|| rest.find(":]")).flatten() {
                        Some(end) => {
                            self.out.push_str(rest.get(..end + 2).unwrap_or_default());
                            while self
                                .chars
                                .next_if(|(next, _)| *next < at + end + 2)
                                .is_some()
                            {}
                        }
                        None => self.out.push_str("\\["),
                    }
                }
                '\\' => self.escape(true)?,
                '&' | '~' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                '-' if self.chars.peek().is_some_and(|(_, next)| *next == '-') => {
                    self.out.push_str("\\-")
                }
                other => self.out.push(other),
            }
        }
        Err("a `[` is not closed".into())
    }

    /// A brace is a repetition if it reads as one, and literal otherwise.
    fn brace(&mut self, at: usize) -> Result<(), String> {
        let rest = self.text.get(at + 1..).unwrap_or_default();
        let body = rest.find('}').and_then(|end| rest.get(..end));
        let is_number =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let Some(body) = body.filter(|body| match body.split_once(',') {
            Some((low, high)) => is_number(low) && (high.is_empty() || is_number(high)),
            None => is_number(body),
        }) else {
            self.out.push_str("\\{");
            return Ok(());
        };
        let too_often = |part: &str| part.parse::<u32>().map_or(true, |count| count > MAX_REPEAT);
        if body
            .split(',')
            .any(|part| !part.is_empty() && too_often(part))
        {
            return Err(format!("`{{{body}}}` repeats more than {MAX_REPEAT} times"));
        }
        self.out.push('{');
        Ok(())
    }

    /// A group: the kinds that only one of the two syntaxes has are refused.
    fn group(&mut self, at: usize) -> Result<(), String> {
        self.out.push('(');
        let rest = self.text.get(at + 1..).unwrap_or_default();
        let Some(kind) = rest.strip_prefix('?') else {
            return Ok(());
        };
        if kind.starts_with("P<")
            || kind.starts_with('<') && !kind.starts_with("<=") && !kind.starts_with("<!")
        {
            return Ok(());
        }
        let flags = kind.find([':', ')']).and_then(|end| kind.get(..end));
        if flags.is_some_and(|flags| flags.chars().all(|flag| "imsU-".contains(flag))) {
            return Ok(());
        }
        Err("`(?` starts something that RE2 does not have".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        whole(pattern).unwrap().is_match(value)
    }

    #[test]
    fn a_regex_matches_the_whole_value_also_with_alternatives() {
        assert!(matches("/a|/b", "/b"));
        assert!(!matches("/a|/b", "/b/c"));
        assert!(!matches("/a|/b", "x/a"));
    }

    #[test]
    fn what_re2_reads_differently_from_rust_means_what_re2_means() {
        assert!(matches("/users/{id}", "/users/{id}"));
        assert!(matches(r"/v\d{1,3}", "/v12"));
        assert!(!matches(r"\d", "٣"));
        assert!(matches(r"[\w.-]+", "a_b.c-d"));
        assert!(matches("[[a]+", "a[a"));
        assert!(matches("[a&&b]+", "a&b"));
        assert!(matches("[]a]+", "]a"));
        assert!(matches(r"\Qa.b(\E.", "a.b(c"));
        assert!(!matches(r"\Qa.b\E", "axb"));
        assert!(matches(r"\<a\>", "<a>"));
        assert!(matches("(?i)abc", "ABC"));
        assert!(matches("[[:alpha:]]+", "abc"));
        assert!(matches(r"\x{41}\p{L}", "Aé"));
        assert!(matches(r"a\_b\/", "a_b/"));
        assert!(matches("a{,2}", "a{,2}"));
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for pattern in [
            "*", "(?=a)", "(?<!a)b", r"(a)\1", "a{1001}", "(?x)a", "[a", r"\h", "", "a\\", "(a",
        ] {
            assert!(whole(pattern).is_err(), "{pattern}");
        }
        assert!(whole(&"a".repeat(1025)).unwrap_err().contains("1024"));
    }

    #[test]
    fn a_replacement_takes_re2_references_and_keeps_dollars() {
        let pattern = part("/(a)/(b)").unwrap();
        assert_eq!(
            replacement(r"/\2/\1$x\\", &pattern).unwrap(),
            "/${2}/${1}$$x\\"
        );
        assert!(replacement(r"\3", &pattern).is_err());
        assert!(replacement(r"\", &pattern).is_err());
        let result = pattern.replace_all("/a/b/a/b", replacement(r"/\2", &pattern).unwrap());
        assert_eq!(result, "/b/b");
    }
}
