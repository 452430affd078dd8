//! Finds the virtual host of a request: exact, then longest wildcard suffix, then `*`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::HostPattern;

/// Host patterns to virtual host indexes.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    exact: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    suffix: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    any: Option<u32>,
}

impl HostIndex {
    /// Adds a pattern; an equal pattern is replaced.
    pub fn insert(&mut self, pattern: &HostPattern, virtual_host: u32) {
        match pattern {
            HostPattern::Exact(name) => {
                self.exact.insert(name.clone(), virtual_host);
            }
            HostPattern::Suffix(suffix) => {
                self.suffix.insert(suffix.clone(), virtual_host);
            }
            HostPattern::Any => self.any = Some(virtual_host),
        }
    }

    /// The virtual host of a lower-case host without port.
    pub fn find(&self, host: &str) -> Option<u32> {
        if let Some(found) = self.exact.get(host) {
            return Some(*found);
        }
        if !self.suffix.is_empty() {
            // From the left: the first dot starts the longest suffix.
            for (at, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                if let Some(found) = host.get(at..).and_then(|suffix| self.suffix.get(suffix)) {
                    return Some(*found);
                }
            }
        }
        self.any
    }
}
