//! Finds the routes whose path condition can hold, without looking at the others.
//!
//! Exact paths and textual prefixes are spelled out in a radix tree; one walk along the request's
//! path meets every route whose text fits. What it meets are lists of route numbers, and
//! [`PathIndex::find`] tries these in ascending order over all lists, so that the answer is the
//! one a scan of the routes in order would give. A regex stands in the tree at the
//! literal text every match of it begins with; one that has none is a candidate of every path.

mod literal;
mod tree;

use self::tree::{Entry, Tree};
use super::predicate::UriMatch;

/// How many candidate lists one walk can hold. Beyond it, the lists met so far are tried early,
/// which is as right and a little slower.
const LISTS: usize = 8;

/// Built once per virtual host from its routes' path conditions, in order.
#[derive(Clone, Debug, Default)]
pub struct PathIndex {
    tree: Tree,
    /// The routes with `ignoreUriCase`; most plans have none.
    folded: Option<Box<Tree>>,
}

impl PathIndex {
    /// Indexes the conditions of routes 0, 1, 2, …
    pub fn build<'a>(uris: impl Iterator<Item = &'a UriMatch>) -> Self {
        let mut plain = Vec::new();
        let mut folded = Vec::new();
        for (number, uri) in (0..).zip(uris) {
            match uri {
                UriMatch::Any => plain.push(Entry::prefix("", number)),
                UriMatch::Exact {
                    text,
                    ignore_case: false,
                } => plain.push(Entry::exact(text, number)),
                UriMatch::Exact {
                    text,
                    ignore_case: true,
                } => folded.push(Entry::exact(text, number)),
                UriMatch::Prefix {
                    text,
                    ignore_case: false,
                } => plain.push(Entry::prefix(text, number)),
                UriMatch::Prefix {
                    text,
                    ignore_case: true,
                } => folded.push(Entry::prefix(text, number)),
                UriMatch::Regex(regex) => {
                    plain.push(Entry::prefix(literal::beginning(regex), number))
                }
            }
        }
        Self {
            tree: Tree::build(plain),
            folded: (!folded.is_empty()).then(|| Box::new(Tree::build(folded))),
        }
    }

    /// The smallest route number whose path text fits and for which `holds` is true.
    ///
    /// `holds` is asked in ascending order and not after its first yes. It must test what the
    /// index cannot: regexes, and everything beside the path.
    #[inline]
    pub fn find(&self, path: &str, mut holds: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut candidates = Candidates::default();
        self.tree
            .walk::<false>(path.as_bytes(), |list| candidates.add(list, &mut holds));
        if let Some(folded) = &self.folded {
            folded.walk::<true>(path.as_bytes(), |list| candidates.add(list, &mut holds));
        }
        candidates.settle(&mut holds);
        (candidates.best != u32::MAX).then_some(candidates.best)
    }
}

/// Lists of route numbers, each ascending, of which the smallest that holds is wanted.
struct Candidates<'a> {
    lists: [&'a [u32]; LISTS],
    len: usize,
    /// The smallest number known to hold.
    best: u32,
}

impl Default for Candidates<'_> {
    fn default() -> Self {
        Self {
            lists: [&[]; LISTS],
            len: 0,
            best: u32::MAX,
        }
    }
}

impl<'a> Candidates<'a> {
    #[inline]
    fn add(&mut self, list: &'a [u32], holds: &mut impl FnMut(u32) -> bool) {
        if self.len == LISTS {
            self.settle(holds);
            self.len = 0;
        }
        if let Some(slot) = self.lists.get_mut(self.len) {
            *slot = list;
            self.len += 1;
        }
    }

    /// Merges the lists up to the first number that holds.
    #[inline]
    fn settle(&mut self, holds: &mut impl FnMut(u32) -> bool) {
        let Some(lists) = self.lists.get_mut(..self.len) else {
            return;
        };
        loop {
            // The list with the smallest head, and where another list has to be looked at again.
            let (mut smallest, mut head, mut next) = (usize::MAX, self.best, self.best);
            for (index, list) in lists.iter().enumerate() {
                if let Some(&number) = list.first() {
                    if number < head {
                        (smallest, next, head) = (index, head, number);
                    } else if number < next {
                        next = number;
                    }
                }
            }
            let Some(list) = lists.get_mut(smallest) else {
                return;
            };
            while let Some((&number, rest)) = list.split_first() {
                if number >= next {
                    break;
                }
                if holds(number) {
                    self.best = number;
                    return;
                }
                *list = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests;
