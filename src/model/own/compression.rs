//! `Compression`: responses that are compressed for clients that can read it.
//!
//! A secret and what a stranger may choose should not be compressed in one response: how well
//! it is compressed tells whether the two are alike (the BREACH attack). Where pages say a
//! session's secrets and repeat what the request says, give that rule a policy of its own with
//! `algorithms: []`.

use serde::Deserialize;

use super::PolicyTarget;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Compression {
    /// Of several policies for one request, a rule's comes before its VirtualService's, and that
    /// before the Gateway's.
    pub target_ref: PolicyTarget,
    /// `zstd`, `br` and `gzip`, the best first (these, in this order); an empty list compresses
    /// nothing.
    pub algorithms: Option<Vec<String>>,
    /// Shorter responses are sent as they are (1024: they fit into one packet anyway). Those whose
    /// length is not known beforehand are compressed.
    pub min_bytes: Option<u64>,
    /// Media types, `text/*` for all of a kind (those of Envoy's compressor: HTML, plain text, CSS,
    /// JavaScript, JSON, XML, SVG).
    pub content_types: Option<Vec<String>>,
    pub level: Levels,
}

/// From 1, the fastest, to 9, or 6 for Brotli. Those above are for files that are compressed once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Levels {
    /// 3.
    pub zstd: Option<u32>,
    /// 4.
    pub br: Option<u32>,
    /// 5.
    pub gzip: Option<u32>,
}
