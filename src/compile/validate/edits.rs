//! What Istio refuses in a rule's header edits and rewrites.

use crate::base::{Code, Finding, Severity};
use crate::compile::pattern;
use crate::compile::rule::headers;
use crate::model::FieldPath;
use crate::model::istio::virtual_service::{Headers, Rewrite};
use crate::policy::headers::spec::ValueTemplate;

use super::fault;
use super::route::Check;

impl Check<'_> {
    pub(super) fn headers(&mut self, written: &Headers, base: impl Fn(&Self) -> FieldPath) {
        for (side, edits) in [
            ("request", &written.request),
            ("response", &written.response),
        ] {
            let Some(edits) = edits else { continue };
            let path = |check: &Self, operation: &str| {
                base(check).field("headers").field(side).field(operation)
            };
            for (operation, map) in [("set", &edits.set), ("add", &edits.add)] {
                for (name, value) in map {
                    let result =
                        header_name(name).and_then(|()| match headers::is_internal(name) {
                            true if headers::is_authority(name) && side == "request" => {
                                http::HeaderValue::from_str(value)
                                    .map(|_| ())
                                    .map_err(|_| format!("`{value}` is not an authority"))
                            }
                            _ => ValueTemplate::parse(value).map(|_| ()),
                        });
                    let path = path(self, operation).field(name);
                    if let Err(message) = result {
                        self.findings.push(fault(self.object, &path, message, ""));
                    } else {
                        self.inert(name, side, path);
                    }
                }
            }
            for (index, name) in edits.remove.iter().enumerate() {
                let path = path(self, "remove").index(index);
                if let Err(message) = header_name(name) {
                    self.findings.push(fault(self.object, &path, message, ""));
                } else if headers::is_internal(name) {
                    self.inert(name, "response", path);
                }
            }
        }
    }

    /// Names that no edit reaches.
    fn inert(&mut self, name: &str, side: &str, path: FieldPath) {
        if headers::is_internal(name) && !(side == "request" && headers::is_authority(name)) {
            let message = format!("an edit of `{name}` has no effect, as in Istio");
            let finding =
                fault(self.object, &path, message, "remove it").severity(Severity::Warning);
            self.findings.push(Finding {
                code: Code::INERT_FIELD,
                ..finding
            });
        }
    }

    pub(super) fn rewrite(&mut self, rewrite: &Rewrite) {
        let is_set = |field: &Option<String>| field.as_deref().is_some_and(|text| !text.is_empty());
        match &rewrite.uri_regex_rewrite {
            Some(_) if is_set(&rewrite.uri) => {
                self.add(
                    "rewrite",
                    "only one of `uri` and `uriRegexRewrite` may be set",
                    "keep one of them",
                );
            }
            Some(regex) if regex.pattern.is_empty() || regex.rewrite.is_empty() => {
                self.add(
                    "rewrite",
                    "`uriRegexRewrite` needs both `match` and `rewrite`",
                    "",
                );
            }
            Some(regex) => {
                let result = pattern::part(&regex.pattern)
                    .and_then(|pattern| pattern::replacement(&regex.rewrite, &pattern));
                if let Err(message) = result {
                    self.add("rewrite", message, "");
                }
            }
            None if !is_set(&rewrite.uri) && !is_set(&rewrite.authority) => {
                self.add(
                    "rewrite",
                    "a rewrite changes nothing",
                    "set `uri`, `uriRegexRewrite` or `authority`",
                );
            }
            None => {}
        }
        let has_control = |text: &String| text.bytes().any(|byte| byte < 0x20 || byte == 0x7f);
        if rewrite.uri.as_ref().is_some_and(has_control)
            || rewrite.authority.as_ref().is_some_and(has_control)
        {
            self.add("rewrite", "the new value contains a control character", "");
        }
    }
}

fn header_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a header name is empty".into());
    }
    if headers::is_internal(name) || http::HeaderName::from_bytes(name.as_bytes()).is_ok() {
        return Ok(());
    }
    Err(format!("`{name}` is not a header name"))
}
