//! What a page answers: a status and a body, whole or in pieces.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

/// Goes out with a policy that lets the page load nothing from elsewhere.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// An answer before it is written.
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Body,
}

/// Pieces are made while they are written: metrics can be too much to hold.
pub(super) enum Body {
    Whole(Bytes),
    Pieces(Box<dyn Iterator<Item = Bytes> + Send>),
}

impl Answer {
    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: Body::Whole(Bytes::from(text.into())),
        }
    }

    /// The page for a browser.
    pub(super) fn html(text: &'static str) -> Self {
        Self {
            status: 200,
            content_type: HTML,
            body: Body::Whole(Bytes::from_static(text.as_bytes())),
        }
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(text) => Self {
                status: 200,
                content_type: "application/json",
                body: Body::Whole(Bytes::from(text + "\n")),
            },
            Err(error) => Self::text(
                500,
                format!("the answer cannot be written as JSON: {error}\n"),
            ),
        }
    }

    pub(super) fn metrics(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        Self {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: Body::Pieces(Box::new(pieces)),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
