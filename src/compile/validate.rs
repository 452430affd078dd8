//! What Istio refuses when an object is applied, and what is wrong with our own.
//!
//! One file per kind, each with `check(object, spec, findings)`: it adds one finding of severity
//! error per fault, made with [`fault`], with the field's path. `version` calls [`check`] on every
//! object; one with errors is replaced by its last error-free version, or compiled with fences
//! around the rules that the findings' paths name.

pub(crate) mod compression;
mod destination_rule;
mod edits;
mod extras;
mod gateway;
mod guards;
pub(crate) mod health_check;
mod kubernetes;
pub(crate) mod name;
pub(crate) mod rate_limit;
mod route;
mod service_entry;
mod target;
mod telemetry;
mod virtual_service;

use crate::base::{Code, Finding, Findings};
use crate::model::{FieldPath, Object, Spec};

use super::pattern::Patterns;

/// Adds what is wrong with an object's values to the findings.
pub(crate) fn check(object: &Object, patterns: &Patterns, findings: &mut Findings) {
    match &object.spec {
        Spec::Gateway(spec) => gateway::check(object, spec, findings),
        Spec::VirtualService(spec) => virtual_service::check(object, spec, patterns, findings),
        Spec::DestinationRule(spec) => destination_rule::check(object, spec, findings),
        Spec::ServiceEntry(spec) => service_entry::check(object, spec, findings),
        Spec::WorkloadEntry(spec) => service_entry::check_workload(object, spec, findings),
        Spec::Service(spec) => kubernetes::check_service(object, spec, findings),
        Spec::EndpointSlice(slice) => kubernetes::check_slice(object, slice, findings),
        Spec::Secret(credential) => kubernetes::check_secret(object, credential, findings),
        Spec::Endpoints(record) => kubernetes::check_endpoints(object, record, findings),
        Spec::HealthCheckPolicy(spec) => health_check::check(object, spec, findings),
        Spec::RateLimit(spec) => rate_limit::check(object, spec, findings),
        Spec::AccessList(spec) => guards::check_access(object, spec, findings),
        Spec::BodyLimit(spec) => guards::check_body(object, spec, findings),
        Spec::Compression(spec) => compression::check(object, spec, findings),
        Spec::Telemetry(spec) => telemetry::check(object, spec, findings),
        _ => {}
    }
}

/// A violation of Istio's own validation, at a field.
pub(crate) fn fault(
    object: &Object,
    path: &FieldPath,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Finding {
    Finding::new(Code::SCHEMA_VALIDATION, message)
        .at(&object.origin_of(path))
        .of(&object.key)
        .path(path.to_string())
        .hint(hint)
}
