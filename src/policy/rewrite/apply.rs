//! Rewrites paths.
