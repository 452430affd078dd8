//! A fixed status and body.

use bytes::Bytes;

/// The body is `text/plain` unless header edits say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectResponse {
    pub status: u16,
    pub body: Bytes,
}
