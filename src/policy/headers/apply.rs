//! Runs header edits.
