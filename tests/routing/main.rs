//! From YAML text to decisions: what each part of a VirtualService and a Gateway means.
//!
//! Every test loads manifests as `pingress run` does, compiles them, and asks the plan what it
//! does with a request. The numbered gotchas are those at the end of the Istio reference.

mod actions;
mod binding;
mod compression;
mod delegates;
mod envoy_filters;
mod fences;
mod global_limits;
mod gotchas;
mod headers;
mod matches;
mod memory;
mod merging;
mod order;
mod policies;
mod protections;
mod rate_limits;
mod samples;
mod streams;
mod support;
mod telemetry;
