//! Compresses responses for clients that can read it (RFC 9110 sections 8.4 and 12.5.3; the
//! decisions are those of Envoy's compressor filter).

pub mod accept;
pub mod apply;
pub mod encode;
pub mod spec;
