//! Answers given without an origin (`directResponse` of an http rule).

pub mod spec;
