//! Redirects (`redirect` of an http rule, `tls.httpsRedirect` of a Gateway server).

pub mod apply;
pub mod spec;
