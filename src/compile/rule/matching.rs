//! The conditions of one match: `uri` for the path index, everything else as predicates.
//!
//! Semantics: Istio's `HTTPMatchRequest`. A condition that cannot be
//! compiled is taken to hold and fences its rule.

use std::sync::Arc;

use http::{HeaderName, Method};

use crate::base::{Code, Finding};
use crate::compile::pattern::Patterns;
use crate::model::istio::virtual_service::{HttpMatch, StringMatch as Written};
use crate::plan::predicate::{Predicate, StringMatch, UriMatch};
use crate::plan::{Fence, Route};

use super::{Rule, Translator};

/// Prefix of the names that test a claim of a verified token.
pub(crate) const CLAIMS: &str = "@request.auth.claims";

/// What one match demands.
#[derive(Default)]
pub(super) struct Conditions {
    pub uri: UriMatch,
    pub predicates: Vec<Predicate>,
    /// Set when one of them cannot be compiled.
    pub fence: Option<Arc<Fence>>,
}

/// Length of what a path rewrite replaces: the matched prefix. `None` for other matches, whose
/// whole path is replaced. No `uri` matches the prefix `/`, as Istio translates it.
pub(crate) fn prefix_length(spec: &HttpMatch) -> Option<usize> {
    match &spec.uri {
        None => Some(1),
        Some(Written {
            exact: None,
            prefix: None,
            regex: None,
        }) => Some(1),
        Some(uri) => uri.prefix.as_ref().map(String::len),
    }
}

/// Whether a route matches every request, as Istio tells: no `uri`, the prefix `/` or the regex
/// `.*`, and nothing else.
pub(super) fn is_catch_all(route: &Route) -> bool {
    route.predicates.is_empty()
        && match &route.uri {
            UriMatch::Any => true,
            UriMatch::Prefix { text, .. } => **text == *"/",
            UriMatch::Regex(regex) => regex.as_str() == "^(?:.*)$",
            UriMatch::Exact { .. } => false,
        }
}

/// Conditions under way, with what is needed to fence the rule.
struct Draft<'r> {
    rule: &'r Rule<'r>,
    printed: &'r str,
    index: Option<usize>,
    done: Conditions,
}

impl Draft<'_> {
    /// Printed path of the match.
    fn path(&self) -> String {
        match self.index {
            Some(index) => format!("{}.match[{index}]", self.printed),
            None => format!("{}.match", self.printed),
        }
    }

    fn add(&mut self, field: &str, key: Option<&str>, predicate: Result<Predicate, String>) {
        match predicate {
            Ok(predicate) => self.done.predicates.push(predicate),
            Err(error) => self.unreadable(field, key, error),
        }
    }

    /// A condition that cannot be compiled counts as holding, and its rule is fenced.
    fn unreadable(&mut self, field: &str, key: Option<&str>, error: String) {
        let path = match key {
            Some(key) => format!("{}.{field}[{key}]", self.path()),
            None => format!("{}.{field}", self.path()),
        };
        let origin = self.rule.object.origin.at(self.rule.position);
        let reason = format!("{path}: {error}").into();
        self.done
            .fence
            .get_or_insert_with(|| Arc::new(Fence { origin, reason }));
        let is_known = |predicate: &Predicate| matches!(predicate, Predicate::Unreadable { text } if **text == *path);
        if !self.done.predicates.iter().any(is_known) {
            self.done
                .predicates
                .push(Predicate::Unreadable { text: path.into() });
        }
    }
}

impl Translator<'_, '_> {
    pub(super) fn conditions(
        &mut self,
        rule: &Rule<'_>,
        printed: &str,
        index: Option<usize>,
        spec: &HttpMatch,
    ) -> Conditions {
        let done = Conditions::default();
        if rule.damage.is_none() && index.is_none() && rule.spec.matches.is_empty() {
            return done;
        }
        let patterns = self.patterns;
        let mut draft = Draft {
            rule,
            printed,
            index,
            done,
        };
        if let Some(damage) = rule.damage {
            let path = draft.path();
            let texts = damage.under(&path).map(|fault| Predicate::Unreadable {
                text: (*fault.path).into(),
            });
            draft.done.predicates.extend(texts);
        }
        match uri(spec, patterns) {
            Ok(uri) => draft.done.uri = uri,
            Err(error) => draft.unreadable("uri", None, error),
        }
        let mut pseudo =
            |field: &str, written: &Option<Written>, make: fn(StringMatch) -> Predicate| {
                if let Some(written) = written {
                    draft.add(field, None, text(written, patterns).map(make));
                }
            };
        pseudo("method", &spec.method, method);
        pseudo("scheme", &spec.scheme, Predicate::Scheme);
        pseudo("authority", &spec.authority, Predicate::Authority);
        for (name, written) in &spec.headers {
            match name.starts_with(CLAIMS) {
                true => self.claim("headers", name, &mut draft),
                false => draft.add("headers", Some(name), header(name, written, patterns)),
            }
        }
        for (name, written) in &spec.without_headers {
            match name.starts_with(CLAIMS) {
                true => self.claim("withoutHeaders", name, &mut draft),
                false => draft.add(
                    "withoutHeaders",
                    Some(name),
                    without_header(name, written, patterns),
                ),
            }
        }
        for (name, written) in &spec.query_params {
            let matcher = text(written, patterns).map(|matcher| match matcher {
                StringMatch::Exact(value) if value.is_empty() => StringMatch::Present,
                matcher => matcher,
            });
            let predicate = matcher.map(|matcher| Predicate::Query {
                name: name.as_str().into(),
                matcher,
            });
            draft.add("queryParams", Some(name), predicate);
        }
        draft.done.predicates.sort_by_key(cost);
        draft.done
    }

    /// A condition on a token's claim cannot be tested before tokens are verified.
    fn claim(&mut self, field: &str, name: &str, draft: &mut Draft<'_>) {
        let message = format!("conditions on token claims (`{name}`) are not supported yet");
        self.findings.push(
            Finding::new(Code::UNENFORCED_PROTECTION, message.clone())
                .at(&draft.rule.object.origin.at(draft.rule.position))
                .of(&draft.rule.object.key)
                .path(format!("{}.{field}[{name}]", draft.path()))
                .hint("its rule answers 503 meanwhile; remove the condition to serve the rule without it"),
        );
        draft.unreadable(field, Some(name), message);
    }
}

/// The condition on the path. `Err` says why it cannot be compiled.
fn uri(spec: &HttpMatch, patterns: &Patterns) -> Result<UriMatch, String> {
    let Some(written) = &spec.uri else {
        return Ok(UriMatch::Any);
    };
    let ignore_case = spec.ignore_uri_case.unwrap_or(false);
    let fold = |text: &str| {
        if ignore_case {
            text.to_ascii_lowercase().into()
        } else {
            text.into()
        }
    };
    Ok(match text(written, patterns)? {
        StringMatch::Present => UriMatch::Any,
        StringMatch::Exact(text) => UriMatch::Exact {
            text: fold(&text),
            ignore_case,
        },
        StringMatch::Prefix(text) => UriMatch::Prefix {
            text: fold(&text),
            ignore_case,
        },
        StringMatch::Regex(regex) => UriMatch::Regex(regex),
    })
}

/// A condition on a text. `Err` says why it cannot be compiled.
pub(crate) fn text(written: &Written, patterns: &Patterns) -> Result<StringMatch, String> {
    match (&written.exact, &written.prefix, &written.regex) {
        (None, None, None) => Ok(StringMatch::Present),
        (Some(text), None, None) => Ok(StringMatch::Exact(text.as_str().into())),
        (None, Some(text), None) if text.is_empty() => Err("a prefix is empty".into()),
        (None, Some(text), None) => Ok(StringMatch::Prefix(text.as_str().into())),
        (None, None, Some(regex)) => patterns.whole(regex).map(StringMatch::Regex),
        _ => Err("only one of `exact`, `prefix` and `regex` may be set".into()),
    }
}

/// A condition on a header, or on a part of the request line that is written like one.
fn header(name: &str, written: &Written, patterns: &Patterns) -> Result<Predicate, String> {
    let matcher = text(written, patterns)?;
    Ok(match name {
        ":method" => method(matcher),
        ":authority" => Predicate::Authority(matcher),
        ":scheme" => Predicate::Scheme(matcher),
        ":path" => Predicate::Target(matcher),
        // Envoy keeps Host and `:authority` as one.
        name if name.eq_ignore_ascii_case("host") => Predicate::Authority(matcher),
        name => Predicate::Header {
            name: header_name(name)?,
            matcher,
        },
    })
}

fn without_header(name: &str, written: &Written, patterns: &Patterns) -> Result<Predicate, String> {
    // `*` is no regex; here alone Istio reads it as "present".
    let matcher = match written.regex.as_deref() {
        Some("*") => StringMatch::Present,
        _ => text(written, patterns)?,
    };
    Ok(Predicate::WithoutHeader {
        name: header_name(name)?,
        matcher,
    })
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))
}

fn method(matcher: StringMatch) -> Predicate {
    match &matcher {
        StringMatch::Exact(text) => match Method::from_bytes(text.as_bytes()) {
            Ok(method) => Predicate::Method(method),
            Err(_) => Predicate::MethodMatch(matcher),
        },
        _ => Predicate::MethodMatch(matcher),
    }
}

/// Orders predicates: comparing comes before searching, searching before regexes.
fn cost(predicate: &Predicate) -> u8 {
    let place = |matcher: &StringMatch, base: u8| match matcher {
        StringMatch::Regex(_) => 10 + base,
        _ => base,
    };
    match predicate {
        Predicate::Unreadable { .. } => 0,
        Predicate::Method(_) => 1,
        Predicate::MethodMatch(matcher) => place(matcher, 1),
        Predicate::Scheme(matcher) => place(matcher, 2),
        Predicate::Authority(matcher) => place(matcher, 3),
        Predicate::Header { matcher, .. } => place(matcher, 4),
        Predicate::WithoutHeader { matcher, .. } => place(matcher, 5),
        Predicate::Target(matcher) => place(matcher, 6),
        Predicate::Query { matcher, .. } => place(matcher, 7),
    }
}
