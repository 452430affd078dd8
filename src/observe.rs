//! What is recorded about requests and connections: access log and metrics.

pub mod record;

pub use record::Record;
