//! Finds the virtual host of a request: exact, then longest wildcard suffix, then `*`.
//!
//! A trailing dot is part of the name: `a.com.` is not `a.com`.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::base::HostPattern;

/// Host patterns to virtual host indexes.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    exact: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    suffix: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    /// Lengths of the shortest and the longest suffix. Only what lies between is looked up, so
    /// that a client's long name full of dots costs no more than a short one.
    shortest: usize,
    longest: usize,
    any: Option<u32>,
}

/// By its patterns, in any order.
impl Hash for HostIndex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for map in [&self.exact, &self.suffix] {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable();
            entries.hash(state);
        }
        self.any.hash(state);
    }
}

impl HostIndex {
    /// Adds a pattern; an equal pattern is replaced.
    pub fn insert(&mut self, pattern: &HostPattern, virtual_host: u32) {
        match pattern {
            HostPattern::Exact(name) => {
                self.exact.insert(name.clone(), virtual_host);
            }
            HostPattern::Suffix(suffix) => {
                let known = !self.suffix.is_empty();
                self.shortest = if known {
                    self.shortest.min(suffix.len())
                } else {
                    suffix.len()
                };
                self.longest = self.longest.max(suffix.len());
                self.suffix.insert(suffix.clone(), virtual_host);
            }
            HostPattern::Any => self.any = Some(virtual_host),
        }
    }

    /// All patterns with what they lead to, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (HostPattern, u32)> {
        let exact = self.exact.iter();
        let suffix = self.suffix.iter();
        exact
            .map(|(name, to)| (HostPattern::Exact(name.clone()), *to))
            .chain(suffix.map(|(name, to)| (HostPattern::Suffix(name.clone()), *to)))
            .chain(self.any.map(|to| (HostPattern::Any, to)))
    }

    /// The virtual host of a lower-case host without port.
    #[inline]
    pub fn find(&self, host: &str) -> Option<u32> {
        if let Some(found) = self.exact.get(host) {
            return Some(*found);
        }
        if !self.suffix.is_empty()
            && let Some(found) = self.find_suffix(host.as_bytes())
        {
            return Some(found);
        }
        self.any
    }

    fn find_suffix(&self, host: &[u8]) -> Option<u32> {
        // A suffix has at least one byte before it. From the left: the longest comes first.
        let first = host.len().saturating_sub(self.longest).max(1);
        let last = host.len().checked_sub(self.shortest)?;
        (first..=last)
            .filter(|&at| host.get(at) == Some(&b'.'))
            .find_map(|at| {
                self.suffix
                    .get(std::str::from_utf8(host.get(at..)?).ok()?)
                    .copied()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(patterns: &[&str]) -> HostIndex {
        let mut index = HostIndex::default();
        for (number, pattern) in (0..).zip(patterns) {
            index.insert(&HostPattern::parse(pattern).unwrap(), number);
        }
        index
    }

    #[test]
    fn an_exact_host_beats_wildcards_and_a_longer_wildcard_a_shorter_one() {
        let index = index(&["*", "*.com", "*.a.com", "x.a.com"]);
        assert_eq!(index.find("x.a.com"), Some(3));
        assert_eq!(index.find("y.a.com"), Some(2));
        assert_eq!(index.find("y.x.a.com"), Some(2));
        assert_eq!(index.find("b.com"), Some(1));
        assert_eq!(index.find("com"), Some(0));
        assert_eq!(index.find(""), Some(0));
    }

    #[test]
    fn gotcha_13_a_trailing_dot_counts_and_a_wildcard_excludes_its_apex() {
        let index = index(&["a.com", "*.b.com"]);
        assert_eq!(index.find("a.com"), Some(0));
        assert_eq!(index.find("a.com."), None);
        assert_eq!(index.find("b.com"), None);
        assert_eq!(index.find(".b.com"), None);
        assert_eq!(index.find("x.b.com"), Some(1));
        assert_eq!(index.find("x.b.com."), None);
    }

    #[test]
    fn every_host_gets_the_most_specific_pattern_that_matches_it() {
        let patterns = ["a.b", "*.b", "*.a.b", "*.c.a.b", "c.a.b", "*.a", "*"];
        for kept in 0..1_u32 << patterns.len() {
            let kept: Vec<&str> = (0..)
                .zip(patterns)
                .filter(|(bit, _)| kept >> bit & 1 == 1)
                .map(|(_, text)| text)
                .collect();
            let index = index(&kept);
            for host in [
                "a",
                "b",
                "a.b",
                "x.b",
                "c.a.b",
                "x.a.b",
                "x.c.a.b",
                "d.x.c.a.b",
                "x.a",
                "..b",
                "é.b",
            ] {
                let best = (0..)
                    .zip(&kept)
                    .map(|(number, text)| (HostPattern::parse(text).unwrap(), number))
                    .filter(|(pattern, _)| pattern.matches(host))
                    .max_by_key(|(pattern, _)| (!pattern.is_wildcard(), pattern.to_string().len()))
                    .map(|(_, number)| number);
                assert_eq!(index.find(host), best, "{host} among {kept:?}");
            }
        }
    }
}
