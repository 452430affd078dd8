//! The radix tree of [`PathIndex`](super::PathIndex): flat arrays, breadth first.
//!
//! Because nodes are numbered breadth first, the children of a node, its label and its lists all
//! end where the next node's begin, so a node is four numbers and a walk touches little memory.

use std::collections::VecDeque;

/// One text with the route it belongs to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry<'a> {
    text: std::borrow::Cow<'a, [u8]>,
    /// After prefixes of the same text.
    exact: bool,
    route: u32,
}

impl<'a> Entry<'a> {
    pub fn exact(text: &'a str, route: u32) -> Self {
        Self {
            text: text.as_bytes().into(),
            exact: true,
            route,
        }
    }

    pub fn prefix(text: impl Into<Text<'a>>, route: u32) -> Self {
        Self {
            text: text.into().0,
            exact: false,
            route,
        }
    }
}

/// Bytes that need not be UTF-8: a regex's literal beginning may end within a character.
pub struct Text<'a>(std::borrow::Cow<'a, [u8]>);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl<'a> From<&'a Box<str>> for Text<'a> {
    fn from(text: &'a Box<str>) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<Vec<u8>> for Text<'_> {
    fn from(text: Vec<u8>) -> Self {
        Self(text.into())
    }
}

/// Where the parts of a node begin; each ends where the following node's begins.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Text after the node's first byte, in `labels`.
    label: u32,
    /// In `nodes` and `firsts`.
    children: u32,
    /// Routes whose prefix ends here, in `routes`.
    prefixes: u32,
    /// Routes whose exact text ends here, in `routes`; ends where the next node's prefixes begin.
    exacts: u32,
}

/// Texts to ascending route numbers.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The root first; a sentinel last.
    nodes: Box<[Node]>,
    /// The first byte of each node, sorted among siblings. The root's is unused.
    firsts: Box<[u8]>,
    labels: Box<[u8]>,
    routes: Box<[u32]>,
}

impl Tree {
    pub fn build(mut entries: Vec<Entry<'_>>) -> Self {
        if entries.is_empty() {
            return Self::default();
        }
        entries.sort_unstable();
        let mut tree = Builder {
            nodes: Vec::new(),
            firsts: vec![0],
            labels: Vec::new(),
            routes: Vec::new(),
        };
        // What is left to do: the entries below a node, and how much of their text is spelled.
        let mut queue = VecDeque::from([(entries.as_slice(), 0)]);
        while let Some((below, spelled)) = queue.pop_front() {
            let end = tree.node(below, spelled);
            let inner = below
                .iter()
                .position(|entry| entry.text.len() > end)
                .unwrap_or(below.len());
            let Some(inner) = below.get(inner..) else {
                break;
            };
            for siblings in inner.chunk_by(|a, b| a.text.get(end) == b.text.get(end)) {
                let first = siblings.first().and_then(|entry| entry.text.get(end));
                tree.firsts.push(first.copied().unwrap_or_default());
                queue.push_back((siblings, end + 1));
            }
        }
        tree.finish()
    }

    /// Gives `found` the list of every node whose text fits `path`, shortest text first.
    /// With `FOLD`, ASCII case in `path` does not count; the tree's texts are lower case.
    #[inline]
    pub fn walk<'a, const FOLD: bool>(&'a self, path: &[u8], mut found: impl FnMut(&'a [u32])) {
        let mut at = 0;
        let mut rest = path;
        while let Some(&[node, next]) = self.nodes.get(at..at + 2) {
            let label = span(&self.labels, node.label, next.label);
            let Some((begin, after)) = rest.split_at_checked(label.len()) else {
                return;
            };
            if !(if FOLD {
                begin.eq_ignore_ascii_case(label)
            } else {
                begin == label
            }) {
                return;
            }
            if node.prefixes != node.exacts {
                found(span(&self.routes, node.prefixes, node.exacts));
            }
            let Some((first, after)) = after.split_first() else {
                if node.exacts != next.prefixes {
                    found(span(&self.routes, node.exacts, next.prefixes));
                }
                return;
            };
            let first = if FOLD {
                first.to_ascii_lowercase()
            } else {
                *first
            };
            let Some(child) = position(span(&self.firsts, node.children, next.children), first)
            else {
                return;
            };
            at = node.children as usize + child;
            rest = after;
        }
    }
}

/// `all[from..to]`; empty if out of bounds, which a built tree never is.
#[inline(always)]
fn span<T>(all: &[T], from: u32, to: u32) -> &[T] {
    all.get(from as usize..to as usize).unwrap_or_default()
}

/// Where `byte` is among sorted siblings. Most nodes have few: a scan beats a bisection there.
#[inline(always)]
fn position(siblings: &[u8], byte: u8) -> Option<usize> {
    if siblings.len() <= 16 {
        siblings.iter().position(|&first| first == byte)
    } else {
        siblings.binary_search(&byte).ok()
    }
}

struct Builder {
    nodes: Vec<Node>,
    firsts: Vec<u8>,
    labels: Vec<u8>,
    routes: Vec<u32>,
}

impl Builder {
    /// Adds the node under which all of `below` stand; they agree on the first `spelled` bytes.
    /// Gives the length of text spelled at the node's end.
    fn node(&mut self, below: &[Entry<'_>], spelled: usize) -> usize {
        let (Some(first), Some(last)) = (below.first(), below.last()) else {
            return spelled;
        };
        // Sorted: what the first and the last share, all share. The root's label stays empty, so
        // that every tree has a node for the conditions that hold for all paths.
        let shared = if self.nodes.is_empty() {
            0
        } else {
            shared(&first.text, &last.text, spelled)
        };
        let end = spelled + shared;
        let node = Node {
            label: length(&self.labels),
            children: length(&self.firsts),
            prefixes: length(&self.routes),
            exacts: 0,
        };
        self.labels
            .extend(first.text.get(spelled..end).unwrap_or_default());
        let here = || below.iter().take_while(|entry| entry.text.len() == end);
        self.routes
            .extend(here().filter(|entry| !entry.exact).map(|entry| entry.route));
        let exacts = length(&self.routes);
        self.routes
            .extend(here().filter(|entry| entry.exact).map(|entry| entry.route));
        self.nodes.push(Node { exacts, ..node });
        end
    }

    fn finish(mut self) -> Tree {
        let routes = length(&self.routes);
        self.nodes.push(Node {
            label: length(&self.labels),
            children: length(&self.firsts),
            prefixes: routes,
            exacts: routes,
        });
        Tree {
            nodes: self.nodes.into(),
            firsts: self.firsts.into(),
            labels: self.labels.into(),
            routes: self.routes.into(),
        }
    }
}

/// How many bytes from `from` on two texts have in common.
fn shared(a: &[u8], b: &[u8], from: usize) -> usize {
    let rest = |text| <[u8]>::get(text, from..).unwrap_or_default();
    rest(a)
        .iter()
        .zip(rest(b))
        .take_while(|(a, b)| a == b)
        .count()
}

/// A length as the arrays index. Configuration is limited to far less than 4 GiB.
fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
