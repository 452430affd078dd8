//! Limits on the rate of requests: one implementation for our `RateLimit` and for Envoy's local
//! rate limit as EnvoyFilters write it.

pub mod apply;
pub mod key;
pub mod spec;
pub mod state;
pub mod store;
mod table;
