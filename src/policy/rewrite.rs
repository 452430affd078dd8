//! Path and authority rewriting (`rewrite` of an http rule).

pub mod apply;
pub mod spec;
