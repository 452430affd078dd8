//! What Istio refuses in a Telemetry.

use http::HeaderName;

use crate::base::Findings;
use crate::model::istio::telemetry::{CustomTag, Telemetry, Tracing};
use crate::model::{FieldPath, Object};

use super::fault;

/// Checks a Telemetry.
pub(super) fn check(object: &Object, spec: &Telemetry, findings: &mut Findings) {
    for (index, slot) in spec.tracing.iter().enumerate() {
        if let Some(tracing) = slot.good() {
            let path = FieldPath::spec().field("tracing").index(index);
            check_tracing(object, &path, tracing, findings);
        }
    }
}

fn check_tracing(object: &Object, path: &FieldPath, tracing: &Tracing, findings: &mut Findings) {
    let modes = ["CLIENT_AND_SERVER", "CLIENT", "SERVER"];
    let mode = tracing.matches.as_ref().and_then(|it| it.mode.as_deref());
    if let Some(mode) = mode.filter(|mode| !modes.contains(mode)) {
        let path = path.field("match").field("mode");
        let message = format!("`{mode}` is not a mode");
        let hint = format!("write one of {}", modes.join(", "));
        findings.push(fault(object, &path, message, hint));
    }
    for (index, slot) in tracing.providers.iter().enumerate() {
        if slot.good().is_some_and(|provider| provider.name.is_empty()) {
            let path = path.field("providers").index(index).field("name");
            let hint = "write the name of a provider";
            findings.push(fault(object, &path, "the provider has no name", hint));
        }
    }
    if let Some(percent) = tracing.random_sampling_percentage
        && !(0.0..=100.0).contains(&percent)
    {
        let path = path.field("randomSamplingPercentage");
        let message = format!("{percent} is not a percentage");
        findings.push(fault(
            object,
            &path,
            message,
            "write a number from 0 to 100",
        ));
    }
    for (name, tag) in &tracing.custom_tags {
        let path = path.field("customTags");
        if name.is_empty() {
            let hint = "write a name before the colon";
            findings.push(fault(object, &path, "a tag has no name", hint));
        }
        let path = path.field(name);
        if object.issues_under(&path).next().is_none()
            && let Some((field, message)) = wrong_tag(tag)
        {
            let path = field.iter().fold(path, |path, field| path.field(field));
            let hint = "write exactly one of `literal: {value}`, `environment: {name}` and `header: {name}`";
            findings.push(fault(object, &path, message, hint));
        }
    }
}

/// The field of a tag that is wrong, and what is wrong with it.
fn wrong_tag(tag: &CustomTag) -> Option<(&'static [&'static str], &'static str)> {
    let CustomTag {
        literal,
        environment,
        header,
        formatter,
    } = tag;
    let set = [
        literal.is_some(),
        environment.is_some(),
        header.is_some(),
        formatter.is_some(),
    ];
    match set.iter().filter(|set| **set).count() {
        0 => return Some((&[], "the tag has no value")),
        1 => {}
        _ => return Some((&[], "the tag has more than one value")),
    }
    if literal.as_ref().is_some_and(|it| it.value.is_empty()) {
        return Some((&["literal", "value"], "the tag's value is empty"));
    }
    if environment.as_ref().is_some_and(|it| it.name.is_empty()) {
        return Some((&["environment", "name"], "the variable has no name"));
    }
    let is_name = |name: &str| HeaderName::from_bytes(name.as_bytes()).is_ok();
    if header.as_ref().is_some_and(|it| !is_name(&it.name)) {
        return Some((&["header", "name"], "it is not the name of a header"));
    }
    None
}
