//! Limits that are counted elsewhere: a service that speaks Envoy's rate limit protocol
//! (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`) is asked about each request.
//!
//! `spec` is what it is asked, `message` what goes over the wire, `apply` makes the one of a
//! request and reads the answer. `upstream` carries both.

pub mod apply;
pub mod message;
pub mod spec;
