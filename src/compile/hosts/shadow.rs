//! Finds routes of a virtual host that no request reaches, and runs of rules tried one by one.
//!
//! A route is dead behind an earlier one with equal conditions, behind a plain prefix of its own
//! path, or behind a catch-all. Only findings come of it: the order of routes is the user's.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{Code, Finding, Findings, HostPattern};
use crate::plan::Route;
use crate::plan::predicate::{Predicate, StringMatch, UriMatch};

/// From how many rules told apart only by headers or regexes on a report is due.
const LONG_RUN: usize = 200;

/// Up to how many routes of a host are compared one by one.
const FEW: usize = 12;

/// The search, with what it has already hashed by.
#[derive(Default)]
pub(super) struct Shadows {
    state: foldhash::fast::FixedState,
}

/// A route that is never reached, and the one before it.
struct Dead {
    route: usize,
    behind: usize,
}

impl Shadows {
    /// Reports the dead routes of one host.
    pub(super) fn look(&self, host: &HostPattern, routes: &[Arc<Route>], findings: &mut Findings) {
        if routes.len() < 2 {
            return;
        }
        let dead = self.dead(routes);
        if !dead.is_empty() {
            report(routes, &dead, findings);
        }
        let mut linear = routes.iter().filter(|route| is_linear(route));
        let first = linear.next();
        let count = linear.count() + 1;
        if let Some(first) = first.filter(|_| count > LONG_RUN) {
            let message = format!(
                "{count} rules of the host `{host}` differ only in headers or regexes; a request tries them one by one"
            );
            findings.push(
                Finding::new(Code::LINEAR_RULES, message)
                    .at(&first.origin)
                    .of(&first.object)
                    .path(&*first.path)
                    .hint("tell the rules apart by an exact path or a prefix first"),
            );
        }
    }

    fn dead(&self, routes: &[Arc<Route>]) -> Vec<Dead> {
        let mut earlier = Earlier::new(routes.len());
        let mut dead = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let is_known =
                |predicate: &Predicate| !matches!(predicate, Predicate::Unreadable { .. });
            if !route.predicates.iter().all(is_known) {
                continue;
            }
            // Every path starts with a slash: what the prefix `/` takes, takes any of these.
            let text = match &route.uri {
                UriMatch::Exact {
                    text,
                    ignore_case: false,
                }
                | UriMatch::Prefix {
                    text,
                    ignore_case: false,
                } => text,
                _ => "/",
            };
            let behind = earlier.covering(text);
            if let Some(behind) = behind.or_else(|| earlier.equal(self.signature(route), index)) {
                let route = index;
                dead.push(Dead { route, behind });
                continue;
            }
            let is_prefix = matches!(
                route.uri,
                UriMatch::Any
                    | UriMatch::Prefix {
                        ignore_case: false,
                        ..
                    }
            );
            if is_prefix && route.predicates.is_empty() {
                earlier.prefix(text, index);
            }
        }
        dead
    }

    /// Equal for equal conditions.
    fn signature(&self, route: &Route) -> u64 {
        let mut hasher = self.state.build_hasher();
        match &route.uri {
            UriMatch::Any => 0_u8.hash(&mut hasher),
            UriMatch::Exact { text, ignore_case } => (1_u8, text, ignore_case).hash(&mut hasher),
            UriMatch::Prefix { text, ignore_case } => (2_u8, text, ignore_case).hash(&mut hasher),
            UriMatch::Regex(regex) => (3_u8, regex.as_str()).hash(&mut hasher),
        }
        for predicate in &route.predicates {
            std::mem::discriminant(predicate).hash(&mut hasher);
            let matcher = match predicate {
                Predicate::Method(method) => {
                    method.hash(&mut hasher);
                    continue;
                }
                Predicate::Unreadable { text } => {
                    text.hash(&mut hasher);
                    continue;
                }
                Predicate::MethodMatch(matcher)
                | Predicate::Scheme(matcher)
                | Predicate::Authority(matcher)
                | Predicate::Target(matcher) => matcher,
                Predicate::Header { name, matcher }
                | Predicate::WithoutHeader { name, matcher } => {
                    name.hash(&mut hasher);
                    matcher
                }
                Predicate::Query { name, matcher } => {
                    name.hash(&mut hasher);
                    matcher
                }
            };
            match matcher {
                StringMatch::Exact(text) => (0_u8, text).hash(&mut hasher),
                StringMatch::Prefix(text) => (1_u8, text).hash(&mut hasher),
                StringMatch::Regex(regex) => (2_u8, regex.as_str()).hash(&mut hasher),
                StringMatch::Present => 3_u8.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

/// The routes looked at so far. Most hosts have few, and lists beat maps there: the maps stay
/// empty, which costs nothing.
struct Earlier<'r> {
    is_few: bool,
    few_signatures: SmallVec<[(u64, usize); FEW]>,
    few_prefixes: SmallVec<[(&'r str, usize); FEW]>,
    signatures: HashMap<u64, usize, foldhash::fast::FixedState>,
    prefixes: BTreeMap<&'r str, usize>,
}

impl<'r> Earlier<'r> {
    fn new(count: usize) -> Self {
        Self {
            is_few: count <= FEW,
            few_signatures: SmallVec::new(),
            few_prefixes: SmallVec::new(),
            signatures: HashMap::default(),
            prefixes: BTreeMap::new(),
        }
    }

    /// An earlier route that takes every path beginning with the text.
    fn covering(&self, text: &str) -> Option<usize> {
        if !self.is_few {
            return covering(&self.prefixes, text);
        }
        let mut prefixes = self.few_prefixes.iter();
        let covering = prefixes.find(|(prefix, _)| text.starts_with(prefix));
        covering.map(|(_, index)| *index)
    }

    /// An earlier route with the same signature; remembers this one if there is none.
    fn equal(&mut self, signature: u64, index: usize) -> Option<usize> {
        if !self.is_few {
            return match self.signatures.entry(signature) {
                Entry::Occupied(entry) => Some(*entry.get()),
                Entry::Vacant(entry) => {
                    entry.insert(index);
                    None
                }
            };
        }
        let mut signatures = self.few_signatures.iter();
        let equal = signatures.find(|(known, _)| *known == signature);
        let equal = equal.map(|(_, index)| *index);
        if equal.is_none() {
            self.few_signatures.push((signature, index));
        }
        equal
    }

    fn prefix(&mut self, text: &'r str, index: usize) {
        if self.is_few {
            self.few_prefixes.push((text, index));
        } else {
            self.prefixes.entry(text).or_insert(index);
        }
    }
}

/// An earlier prefix of a text. Looks at the nearest smaller key, then at what both share.
fn covering(prefixes: &BTreeMap<&str, usize>, text: &str) -> Option<usize> {
    let mut upper = text;
    loop {
        let (prefix, index) = prefixes
            .range::<str, _>((Bound::Unbounded, Bound::Included(upper)))
            .next_back()?;
        if text.starts_with(prefix) {
            return Some(*index);
        }
        let shared = prefix
            .bytes()
            .zip(text.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let shared = (0..=shared).rev().find(|end| text.is_char_boundary(*end))?;
        upper = text.get(..shared)?;
    }
}

fn is_linear(route: &Route) -> bool {
    match route.uri {
        UriMatch::Any => !route.predicates.is_empty(),
        UriMatch::Regex(_) => true,
        _ => false,
    }
}

fn report(routes: &[Arc<Route>], dead: &[Dead], findings: &mut Findings) {
    let is_same_rule = |a: &Route, b: &Route| a.object == b.object && a.path == b.path;
    let mut is_dead = vec![false; routes.len()];
    for index in dead {
        if let Some(flag) = is_dead.get_mut(index.route) {
            *flag = true;
        }
    }
    for Dead { route, behind } in dead {
        let (Some(route), Some(behind)) = (routes.get(*route), routes.get(*behind)) else {
            continue;
        };
        if route.origin == behind.origin {
            // One match of a delegate, combined with several of its root's.
            continue;
        }
        let finding = if route.object != behind.object {
            let message = format!(
                "{} of {} ({}) takes every request that this would match",
                behind.path, behind.object, behind.origin
            );
            Finding::new(Code::SHADOWED, message)
        } else if routes
            .iter()
            .zip(&is_dead)
            .filter(|(other, _)| is_same_rule(other, route))
            .all(|(_, dead)| *dead)
        {
            let message = format!(
                "every match of this rule is taken by earlier ones, such as {} ({})",
                behind.path, behind.origin
            );
            Finding::new(Code::UNREACHABLE_RULE, message)
        } else {
            let message = format!(
                "{} ({}) takes every request that this would match",
                behind.path, behind.origin
            );
            Finding::new(Code::INEFFECTIVE_MATCH, message)
        };
        findings.push(
            finding
                .at(&route.origin)
                .of(&route.object)
                .path(&*route.path)
                .hint("put the narrower rule first, or remove this one"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_covering_prefix_is_found_past_nearer_keys_that_do_not_cover() {
        let prefixes = BTreeMap::from([("/a", 0), ("/ab/c", 1), ("/ab/d/e", 2)]);
        assert_eq!(covering(&prefixes, "/ab/d"), Some(0));
        assert_eq!(covering(&prefixes, "/ab/d/e/f"), Some(2));
        assert_eq!(covering(&prefixes, "/b"), None);
        assert_eq!(covering(&prefixes, "/"), None);
    }
}
