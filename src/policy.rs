//! Traffic policies, one folder each: `spec` is what a plan holds, `apply` does it to a request.
//!
//! A spec can only hold values that cannot be wrong; `compile` makes them, `proxy` applies them.

pub mod access;
pub mod compression;
pub mod cors;
pub mod direct_response;
pub mod fault;
pub mod global;
pub mod headers;
pub mod mirror;
pub mod outcall;
pub mod path;
pub mod rate_limit;
pub mod redirect;
pub mod rewrite;
