//! Header edits of a route or destination (`headers.request` and `headers.response`).

pub mod apply;
pub mod spec;
