//! What Istio refuses in one `http` rule of a VirtualService.

use crate::base::Findings;
use crate::base::quantity::parse_duration;
use crate::compile::pattern::Patterns;
use crate::compile::rule::{answer, matching};
use crate::model::istio::virtual_service::{Destination, HttpMatch, HttpRoute, Retry, StringMatch};
use crate::model::{FieldPath, Object};

use super::{extras, fault, name};

/// One rule under examination.
pub(super) struct Check<'c> {
    pub object: &'c Object,
    /// Index in `spec.http`.
    pub index: usize,
    pub rule: &'c HttpRoute,
    /// Whether the object has no hosts.
    pub is_delegate: bool,
    pub patterns: &'c Patterns,
    pub findings: &'c mut Findings,
}

impl Check<'_> {
    pub(super) fn run(&mut self) {
        self.actions();
        let compares = self.is_delegate || self.rule.delegate.is_some();
        for (index, slot) in self.rule.matches.iter().enumerate() {
            if let Some(spec) = slot.good() {
                self.matched(index, spec, compares);
            }
        }
        if let Some(written) = &self.rule.headers {
            self.headers(written, |check| check.path());
        }
        if let Some(rewrite) = &self.rule.rewrite {
            self.rewrite(rewrite);
        }
        if let Some(redirect) = &self.rule.redirect {
            // Each match has its own prefix; without matches the prefix is `/`.
            let prefix = match self.rule.matches.is_empty() {
                true => Some(1),
                false => self
                    .rule
                    .matches
                    .iter()
                    .filter_map(|slot| slot.good())
                    .map(matching::prefix_length)
                    .min()
                    .flatten(),
            };
            if let Err(message) = answer::redirect(redirect, prefix) {
                self.add("redirect", message, "");
            }
            let is_set =
                |field: &Option<String>| field.as_deref().is_some_and(|text| !text.is_empty());
            let has_target = is_set(&redirect.uri)
                || is_set(&redirect.prefix_rewrite)
                || is_set(&redirect.authority);
            if !has_target
                && !is_set(&redirect.scheme)
                && redirect.port.is_none()
                && redirect.derive_port.is_none()
            {
                self.add(
                    "redirect",
                    "a redirect changes nothing",
                    "set `uri`, `prefixRewrite`, `authority`, `scheme` or `port`",
                );
            }
        }
        if let Some(response) = &self.rule.direct_response
            && let Err(message) = answer::direct(response)
        {
            self.add("directResponse", message, "");
        }
        if let Some(Err(message)) = self
            .rule
            .timeout
            .as_deref()
            .map(|text| parse_duration(text, false))
        {
            self.add("timeout", message, "leave it out for no timeout");
        }
        self.destinations();
        if let Some(retries) = &self.rule.retries {
            self.retries(retries);
        }
        extras::check(self);
    }

    pub(super) fn add(&mut self, field: &str, message: impl Into<String>, hint: &str) {
        let path = self.path().field(field);
        self.findings.push(fault(self.object, &path, message, hint));
    }

    pub(super) fn path(&self) -> FieldPath {
        FieldPath::spec().field("http").index(self.index)
    }

    /// What may stand together.
    fn actions(&mut self) {
        let rule = self.rule;
        let set = [
            ("route", !rule.route.is_empty()),
            ("redirect", rule.redirect.is_some()),
            ("directResponse", rule.direct_response.is_some()),
        ];
        if rule.delegate.is_some() {
            if self.is_delegate {
                self.add(
                    "delegate",
                    "a delegate cannot delegate further",
                    "route to a destination here",
                );
            }
            for (field, _) in set.iter().filter(|(_, set)| *set) {
                self.add(
                    field,
                    format!("a rule with `delegate` cannot have `{field}`"),
                    "keep one of both",
                );
            }
            return;
        }
        let unreadable = || {
            set.iter().any(|(field, _)| {
                self.object
                    .issues_under(&self.path().field(field))
                    .next()
                    .is_some()
            })
        };
        let mut chosen = set.iter().filter(|(_, set)| *set).map(|(field, _)| *field);
        match (chosen.next(), chosen.next()) {
            (None, _) if !unreadable() => {
                let path = self.path();
                let message = "a rule needs `route`, `redirect`, `directResponse` or `delegate`";
                self.findings.push(fault(
                    self.object,
                    &path,
                    message,
                    "say where the requests go",
                ));
            }
            (Some(first), Some(second)) => {
                self.add(
                    second,
                    format!("a rule cannot have both `{first}` and `{second}`"),
                    "keep one of them",
                );
            }
            (Some(answer @ ("redirect" | "directResponse")), None) => {
                for (field, is_set) in [
                    ("fault", rule.fault.is_some()),
                    ("rewrite", rule.rewrite.is_some()),
                ] {
                    if is_set {
                        self.add(
                            field,
                            format!("a rule cannot have both `{answer}` and `{field}`"),
                            "keep one of them",
                        );
                    }
                }
            }
            _ => {}
        }
    }

    fn matched(&mut self, index: usize, spec: &HttpMatch, compares: bool) {
        let texts = [
            ("uri", &spec.uri),
            ("scheme", &spec.scheme),
            ("method", &spec.method),
            ("authority", &spec.authority),
        ];
        for (field, written) in texts {
            if let Some(Err(message)) = written
                .as_ref()
                .map(|written| text(written, false, self.patterns))
            {
                self.add_match(index, field, None, message);
            } else if compares
                && written
                    .as_ref()
                    .is_some_and(|written| written.regex.is_some())
            {
                self.add_match(
                    index,
                    field,
                    None,
                    "delegation cannot compare regexes".into(),
                );
            }
        }
        let maps = [
            ("headers", &spec.headers),
            ("withoutHeaders", &spec.without_headers),
            ("queryParams", &spec.query_params),
        ];
        for (field, map) in maps {
            for (key, written) in map {
                let may_be_star = field == "withoutHeaders";
                if let Err(message) = text(written, may_be_star, self.patterns) {
                    self.add_match(index, field, Some(key), message);
                } else if compares
                    && written
                        .regex
                        .as_deref()
                        .is_some_and(|regex| !(may_be_star && regex == "*"))
                {
                    self.add_match(
                        index,
                        field,
                        Some(key),
                        "delegation cannot compare regexes".into(),
                    );
                }
                let is_name = http::HeaderName::from_bytes(key.as_bytes()).is_ok();
                let is_pseudo = field == "headers"
                    && matches!(key.as_str(), ":method" | ":scheme" | ":authority" | ":path");
                if field != "queryParams"
                    && !is_name
                    && !is_pseudo
                    && !key.starts_with(matching::CLAIMS)
                {
                    self.add_match(
                        index,
                        field,
                        Some(key),
                        format!("`{key}` is not a header name"),
                    );
                }
            }
        }
        if let Some(port) = spec.port.filter(|port| *port > 65535) {
            self.add_match(
                index,
                "port",
                None,
                format!("the port {port} is not between 1 and 65535"),
            );
        }
        if let Some(namespace) = spec
            .source_namespace
            .as_deref()
            .filter(|text| !text.is_empty() && !name::is_label(text))
        {
            self.add_match(
                index,
                "sourceNamespace",
                None,
                format!("`{namespace}` is not a namespace"),
            );
        }
        let rule = self.index;
        let path = || {
            let rule = FieldPath::spec().field("http").index(rule);
            rule.field("match").index(index).field("gateways")
        };
        name::check_gateways(self.object, &spec.gateways, path, self.findings);
    }

    fn add_match(&mut self, index: usize, field: &str, key: Option<&str>, message: String) {
        let mut path = self.path().field("match").index(index).field(field);
        if let Some(key) = key {
            path = path.field(key);
        }
        let hint = if message.contains("RE2") {
            "see github.com/google/re2/wiki/Syntax; a regex matches the whole value"
        } else {
            ""
        };
        self.findings.push(fault(self.object, &path, message, hint));
    }

    fn destinations(&mut self) {
        let routes = &self.rule.route;
        for (index, slot) in routes.iter().enumerate() {
            let Some(route) = slot.good() else { continue };
            let path = |check: &Self| check.path().field("route").index(index);
            match &route.destination {
                Some(destination) => {
                    self.destination(destination, |check| path(check).field("destination"))
                }
                None => {
                    let path = path(self);
                    if self
                        .object
                        .issues_under(&path.field("destination"))
                        .next()
                        .is_none()
                    {
                        self.findings.push(fault(
                            self.object,
                            &path,
                            "a destination is missing",
                            "add `destination: {host: …}`",
                        ));
                    }
                }
            }
            if route.weight.is_some_and(|weight| weight < 0) {
                let path = path(self).field("weight");
                self.findings.push(fault(
                    self.object,
                    &path,
                    "a weight is negative",
                    "write zero or more",
                ));
            }
            if let Some(written) = &route.headers {
                self.headers(written, path);
            }
        }
        let weights = routes
            .iter()
            .map(|slot| slot.good().and_then(|route| route.weight).unwrap_or(0));
        if routes.len() > 1 && weights.max().is_some_and(|most| most == 0) {
            self.add(
                "route",
                "all weights are zero",
                "give at least one destination a weight",
            );
        }
    }

    pub(super) fn destination(
        &mut self,
        destination: &Destination,
        path: impl Fn(&Self) -> FieldPath,
    ) {
        let host = destination.host.as_str();
        let unreadable = || {
            self.object
                .issues_under(&path(self).field("host"))
                .next()
                .is_some()
        };
        if let Err(message) = name::host(host)
            && !unreadable()
        {
            let path = path(self).field("host");
            self.findings.push(fault(
                self.object,
                &path,
                message,
                "write the name of a service",
            ));
        } else if host == "*" {
            let path = path(self).field("host");
            self.findings.push(fault(
                self.object,
                &path,
                "a destination cannot be `*`",
                "write the name of a service",
            ));
        }
        if let Some(subset) = destination
            .subset
            .as_deref()
            .filter(|subset| !subset.is_empty() && !name::is_label(subset))
        {
            let path = path(self).field("subset");
            let message = format!("`{subset}` is not a DNS label");
            self.findings.push(fault(
                self.object,
                &path,
                message,
                "use letters, digits and hyphens",
            ));
        }
        if let Some(number) = destination
            .port
            .and_then(|port| port.number)
            .filter(|number| !(1..=65535).contains(number))
        {
            let path = path(self).field("port").field("number");
            let message = format!("the port {number} is not between 1 and 65535");
            self.findings.push(fault(
                self.object,
                &path,
                message,
                "write a port of the service",
            ));
        }
    }

    fn retries(&mut self, retries: &Retry) {
        let attempts = retries.attempts.unwrap_or(0);
        if attempts < 0 {
            self.add("retries", "`attempts` is negative", "write zero or more");
        }
        let has_extras = retries.per_try_timeout.is_some()
            || retries
                .retry_on
                .as_deref()
                .is_some_and(|text| !text.is_empty())
            || retries.retry_remote_localities.is_some();
        if attempts == 0 && has_extras {
            self.add(
                "retries",
                "`attempts: 0` disables retries, but more is set",
                "set `attempts`, or remove the rest",
            );
        }
        for text in [&retries.per_try_timeout, &retries.backoff]
            .into_iter()
            .flatten()
        {
            if let Err(message) = parse_duration(text, false) {
                self.add("retries", message, "");
            }
        }
        let conditions = retries.retry_on.as_deref().filter(|text| !text.is_empty());
        for condition in conditions.into_iter().flat_map(|text| text.split(',')) {
            if !extras::is_retry_condition(condition) {
                self.add(
                    "retries",
                    format!("`{condition}` is not a condition of `retryOn`"),
                    "separate conditions by commas, without spaces",
                );
            }
        }
    }
}

/// Checks a condition; a star for "present" is no regex and legal in one place only.
fn text(written: &StringMatch, may_be_star: bool, patterns: &Patterns) -> Result<(), String> {
    match written {
        StringMatch {
            exact: Some(_),
            prefix: None,
            regex: None,
        } => Ok(()),
        StringMatch {
            regex: Some(star), ..
        } if may_be_star && star == "*" => Ok(()),
        _ => matching::text(written, patterns).map(|_| ()),
    }
}
