//! What Telemetry resources say about tracing, on top of the settings.
//!
//! As in Istio, one resource counts at each of three levels (the root namespace, the gateway's
//! namespace, and a selector there), the oldest; what a later level sets replaces what an earlier
//! one set, field by field. Called by `compile`.

use std::sync::Arc;

use http::HeaderName;

use crate::base::{Code, Finding, Findings, Share};
use crate::model::istio::Telemetry;
use crate::model::istio::telemetry::{CustomTag as Written, Tracing as Entry};
use crate::model::{FieldPath, Object, Spec};
use crate::plan::tracing::{CustomTag, SECRET_HEADERS, TagValue, Tracing};

use super::Options;
use super::protect::elsewhere;
use super::version::Versions;

/// How spans are made; `None` if nothing is traced.
pub(crate) fn tracing(
    versions: &Versions,
    options: &Options,
    findings: &mut Findings,
) -> Option<Tracing> {
    let mut levels: [Option<(&Object, &Telemetry)>; 3] = [None; 3];
    for object in versions.others() {
        let Spec::Telemetry(spec) = &object.spec else {
            continue;
        };
        let mut note = |code, path: &str, message| {
            findings.push(finding(object, code, &field(path), message));
        };
        let level = match level(object, spec, options) {
            Ok(level) => level,
            Err((path, message)) => {
                note(Code::NOT_FOR_THIS_GATEWAY, path, message);
                continue;
            }
        };
        // What is wrong with it has been said; no part of it can be told from what is meant.
        if versions.damage(&object.key).is_some() {
            continue;
        }
        let Some(place) = levels.get_mut(level) else {
            continue;
        };
        if let Some((first, _)) = place {
            let message = format!("{} is older and for the same workloads", first.key);
            note(Code::SHADOWED, "", message);
            continue;
        }
        *place = Some((object, spec));
    }
    let mut tracing = options.tracing.clone();
    for (object, spec) in levels.into_iter().flatten() {
        let parts = [
            (
                "accessLogging",
                spec.access_logging.is_some(),
                "the access log is set up by `gateway.mesh` and `gateway.accessLog`",
            ),
            (
                "metrics",
                spec.metrics.is_some(),
                "the metrics are Istio's own, with all labels",
            ),
        ];
        for (name, is_written, instead) in parts {
            if is_written {
                let message = format!("`{name}` is not supported and has no effect: {instead}");
                let path = FieldPath::spec().field(name);
                findings.push(
                    finding(object, Code::UNSUPPORTED, &path, message)
                        .hint("remove it to accept this"),
                );
            }
        }
        let path = FieldPath::spec().field("tracing");
        match &mut tracing {
            Some(tracing) => {
                for (index, slot) in spec.tracing.iter().enumerate() {
                    if let Some(entry) = slot.good() {
                        let path = path.index(index);
                        Applying {
                            object,
                            options,
                            findings,
                            tracing,
                        }
                        .entry(entry, &path);
                    }
                }
            }
            None if spec.tracing.is_empty() => {}
            None => findings.push(
                finding(
                    object,
                    Code::UNSUPPORTED,
                    &path,
                    "nothing is traced: the gateway has no collector to send spans to".into(),
                )
                .hint(
                    "set `gateway.tracing.endpoint` to the address of an OpenTelemetry collector",
                ),
            ),
        }
    }
    tracing
}

/// Which level a Telemetry is at: 0 is the root namespace, 2 is a selector. Or why it is not for this
/// gateway.
fn level(
    object: &Object,
    spec: &Telemetry,
    options: &Options,
) -> Result<usize, (&'static str, String)> {
    let labels = spec
        .selector
        .as_ref()
        .map(|selector| &selector.match_labels);
    let has_target = spec.target_ref.is_some() || !spec.target_refs.is_empty();
    if let Some(elsewhere) = elsewhere(object, options, labels, has_target) {
        return Err(elsewhere);
    }
    let is_own = object.key.namespace == options.namespace;
    match labels.is_some_and(|labels| !labels.is_empty()) {
        true if is_own => Ok(2),
        true => Err((
            "spec.selector",
            "with a selector, it is for workloads of its own namespace".into(),
        )),
        false if object.key.namespace == options.root_namespace => Ok(0),
        false => Ok(1),
    }
}

/// One Telemetry being applied.
struct Applying<'a> {
    object: &'a Object,
    options: &'a Options,
    findings: &'a mut Findings,
    tracing: &'a mut Tracing,
}

impl Applying<'_> {
    fn entry(&mut self, entry: &Entry, path: &FieldPath) {
        let mode = entry.matches.as_ref().and_then(|it| it.mode.as_deref());
        if mode == Some("SERVER") {
            let message =
                "it is for what workloads receive; a gateway's tracing is that of a client";
            self.note(Code::NOT_FOR_THIS_GATEWAY, path, message.into());
            return;
        }
        self.providers(entry, path);
        if let Some(disabled) = entry.disable_span_reporting {
            self.tracing.reports = !disabled;
        }
        if let Some(percent) = entry.random_sampling_percentage {
            self.tracing.sampling = Share::of_percent(percent);
        }
        if let Some(enabled) = entry.enable_istio_tags {
            self.tracing.istio_tags = enabled;
        }
        if entry.use_request_id_for_trace_sampling == Some(false) {
            let path = path.field("useRequestIdForTraceSampling");
            let message =
                "`false` has no effect: the decision is never taken from a request id here";
            self.note(Code::INERT_FIELD, &path, message.into());
        }
        if !entry.custom_tags.is_empty() {
            let path = path.field("customTags");
            let tags = entry.custom_tags.iter();
            let tags = tags.filter_map(|(name, tag)| self.tag(name, tag, &path));
            let tags = tags.collect();
            self.tracing.tags = tags;
        }
    }

    fn providers(&mut self, entry: &Entry, path: &FieldPath) {
        let path = path.field("providers");
        let mut providers = entry.providers.iter();
        let Some(first) = providers.next().and_then(|slot| slot.good()) else {
            return;
        };
        if providers.next().is_some() {
            let message = format!(
                "only the first provider counts, `{}`, as in Istio",
                first.name
            );
            self.note(Code::INERT_FIELD, &path.index(1), message);
        }
        let known = &self.options.trace_provider;
        if !known.is_empty() && **known != *first.name {
            self.tracing.reports = false;
            let message = format!(
                "the gateway knows no provider `{}`, so no spans are sent; its collector is `{known}`",
                first.name
            );
            let finding = finding(
                self.object,
                Code::UNSUPPORTED,
                &path.index(0).field("name"),
                message,
            );
            self.findings.push(finding.hint(
                "name that one, or let `gateway.tracing.provider` be empty to send the spans of all providers to it",
            ));
        }
    }

    fn tag(&mut self, name: &str, tag: &Written, path: &FieldPath) -> Option<CustomTag> {
        let default = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        let value = if let Some(literal) = &tag.literal {
            TagValue::Literal(literal.value.as_str().into())
        } else if let Some(variable) = &tag.environment {
            TagValue::Environment {
                name: variable.name.as_str().into(),
                default: default(&variable.default_value),
            }
        } else if let Some(header) = &tag.header {
            if SECRET_HEADERS.contains(&&*header.name.to_ascii_lowercase()) {
                let path = path.field(name).field("header").field("name");
                let message = format!("`{}` holds secrets, which go into no span", header.name);
                self.note(Code::UNSUPPORTED, &path, message);
                return None;
            }
            TagValue::Header {
                // Validation has refused what is no name.
                name: HeaderName::from_bytes(header.name.as_bytes()).ok()?,
                default: default(&header.default_value),
            }
        } else {
            let path = path.field(name).field("formatter");
            let message =
                "tags made of the access log's operators are not supported; there is no such tag";
            self.note(Code::UNSUPPORTED, &path, message.into());
            return None;
        };
        Some(CustomTag {
            name: name.into(),
            value,
        })
    }

    fn note(&mut self, code: Code, path: &FieldPath, message: String) {
        self.findings
            .push(finding(self.object, code, path, message));
    }
}

fn finding(object: &Object, code: Code, path: &FieldPath, message: String) -> Finding {
    let shown = path.to_string();
    Finding::new(code, message)
        .at(&object.origin_of(path))
        .of(&object.key)
        .path(shown)
}

/// The path of a field that is written with dots.
fn field(path: &str) -> FieldPath {
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps.fold(FieldPath::default(), |path, step| path.field(step))
}
