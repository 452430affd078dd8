//! Header edits of a route or destination (`headers.request` and `headers.response`).

pub mod apply;
mod parse;
pub mod spec;

pub use apply::{Substitutions, edit_request, edit_response};
