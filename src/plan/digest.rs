//! Same meaning, same digest: decides whether a reload is a swap at all.

use std::fmt;

/// A 128-bit fingerprint of meaning. Origins (files, lines) do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
