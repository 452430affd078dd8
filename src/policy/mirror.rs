//! Copies of requests for other destinations (`mirror` and `mirrors` of an http rule).

pub mod apply;
