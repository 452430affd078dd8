//! Faults injected on purpose (`fault` of an http rule): a delay, then an abort.

pub mod apply;
pub mod spec;
