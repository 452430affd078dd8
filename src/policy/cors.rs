//! Cross-origin requests of browsers (`corsPolicy` of an http rule).

pub mod apply;
pub mod spec;
