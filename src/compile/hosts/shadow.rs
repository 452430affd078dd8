//! Finds routes of a virtual host that no request reaches, and runs of rules tried one by one.
//!
//! A route is dead behind an earlier one with equal conditions, behind a plain prefix of its own
//! path, or behind a catch-all. Only findings come of it: the order of routes is the user's.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Bound;

use crate::base::{Code, Finding, Findings, HostPattern};
use crate::plan::Route;
use crate::plan::predicate::{Predicate, StringMatch, UriMatch};

/// From how many rules told apart only by headers or regexes on a report is due.
const LONG_RUN: usize = 200;

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
    pub(super) fn look(&self, host: &HostPattern, routes: &[Route], findings: &mut Findings) {
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

    fn dead(&self, routes: &[Route]) -> Vec<Dead> {
        let mut seen: HashMap<u64, usize, foldhash::fast::FixedState> = HashMap::default();
        let mut prefixes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut dead = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            if route
                .predicates
                .iter()
                .any(|predicate| matches!(predicate, Predicate::Unreadable { .. }))
            {
                continue;
            }
            let behind = match &route.uri {
                UriMatch::Any => prefixes.get("/").copied(),
                UriMatch::Exact {
                    text,
                    ignore_case: false,
                }
                | UriMatch::Prefix {
                    text,
                    ignore_case: false,
                } => covering(&prefixes, text),
                _ => None,
            };
            let behind = behind.or_else(|| match seen.entry(self.signature(route)) {
                std::collections::hash_map::Entry::Occupied(entry) => Some(*entry.get()),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(index);
                    None
                }
            });
            if let Some(behind) = behind {
                dead.push(Dead {
                    route: index,
                    behind,
                });
                continue;
            }
            if route.predicates.is_empty() {
                match &route.uri {
                    UriMatch::Any => {
                        prefixes.entry("/").or_insert(index);
                    }
                    UriMatch::Prefix {
                        text,
                        ignore_case: false,
                    } => {
                        prefixes.entry(text).or_insert(index);
                    }
                    _ => {}
                }
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

fn report(routes: &[Route], dead: &[Dead], findings: &mut Findings) {
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
