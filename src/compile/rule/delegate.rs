//! Rules that hand over to another VirtualService: one level, matches combined root by leaf.
//!
//! Istio decides what happens where the two do not fit: a missing
//! or unexported delegate removes its rule alone; a leaf's match that is wider than every match
//! of the root, or cannot be compared, removes the leaf's rule.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{Code, Finding};
use crate::compile::damage::Fault;
use crate::model::istio::virtual_service::{HttpMatch, HttpRoute, StringMatch, VirtualService};
use crate::model::{At, Object, Slot};
use crate::plan::RuleRef;

use super::{Branch, Rule, Translator};

/// A delegate that a rule names, and the object that was found.
#[derive(Clone, Debug)]
pub(super) struct Handed {
    namespace: Arc<str>,
    name: Box<str>,
    object: Option<Arc<Object>>,
    /// Whether it is exported to the rule.
    is_visible: bool,
}

impl<'a> Translator<'a, '_> {
    /// Whether a delegate's name still leads to the same object.
    pub(super) fn leads_on(&self, handed: &Handed) -> bool {
        let found = self
            .services
            .delegates
            .get(&(&*handed.namespace, &*handed.name));
        match (found, &handed.object) {
            (Some((now, _)), Some(then)) => Arc::ptr_eq(now, then),
            (None, None) => true,
            _ => false,
        }
    }

    /// Notes that a rule hands over to a delegate, if the delegate is there and may be used.
    pub(super) fn use_delegate(&mut self, handed: &Handed) {
        let Some(object) = handed.object.as_ref().filter(|_| handed.is_visible) else {
            return;
        };
        let key = (&*object.key.namespace, &*object.key.name);
        let found = self.services.delegates.get(&key);
        let key = |object: &'a Arc<Object>| (&*object.key.namespace, &*object.key.name);
        self.delegates.extend(found.map(|(object, _)| key(object)));
    }

    /// Adds the branches of a root rule's delegate.
    pub(super) fn delegated(&mut self, root: &Rule<'_>, port: u16, branches: &mut Vec<Branch>) {
        let Some(delegate) = &root.spec.delegate else {
            return;
        };
        let namespace = delegate
            .namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or(&root.object.key.namespace);
        let printed = self.path(root.index);
        let found = self
            .services
            .delegates
            .get(&(namespace, delegate.name.as_str()))
            .copied();
        let visible =
            found.filter(|(object, leaf)| self.exported(object, leaf, &root.object.key.namespace));
        self.handed.push(Handed {
            namespace: namespace.into(),
            name: delegate.name.as_str().into(),
            object: found.map(|(object, _)| object.clone()),
            is_visible: visible.is_some(),
        });
        let Some((object, leaf)) = visible else {
            let message = match found {
                None => format!(
                    "the delegate VirtualService `{namespace}/{}` does not exist; this rule is left out",
                    delegate.name
                ),
                Some(_) => format!(
                    "the delegate VirtualService `{namespace}/{}` is not exported to this namespace; this rule is left out",
                    delegate.name
                ),
            };
            self.findings.push(
                Finding::new(Code::REFERENCED_RESOURCE_NOT_FOUND, message)
                    .at(&root.object.origin.at(root.position))
                    .of(&root.object.key)
                    .path(format!("{printed}.delegate"))
                    .hint("a delegate is a VirtualService without `hosts`"),
            );
            return;
        };
        self.delegates
            .insert((&object.key.namespace, &object.key.name));
        let damage = self.versions.damage(&object.key);
        let whole = damage
            .and_then(|damage| damage.of_whole(&["spec.http"]))
            .map(Fault::fence);
        let root_fault = root
            .damage
            .and_then(|damage| damage.under(&printed).next())
            .map(Fault::fence);
        let fence = root.fence.clone().or(root_fault).or(whole);
        if leaf.http.is_empty()
            && let Some(fence) = &fence
        {
            // Nothing of the delegate can be read: what the root matches is fenced.
            let rule = Rule {
                fence: Some(fence.clone()),
                matches: None,
                inherited: None,
                ..*root
            };
            self.rule(&rule, port, branches);
            return;
        }
        for (index, slot) in leaf.http.iter().enumerate() {
            let Some(spec) = slot.good() else {
                branches.push(self.unreadable(object, index, slot.position, damage));
                continue;
            };
            let root_rule = RuleRef {
                object: root.object.key.clone(),
                path: printed.clone(),
            };
            let Some(merged) = merge(root, root_rule, spec, slot.position) else {
                let message = format!(
                    "no match of this rule fits a match of the rule that delegates to it ({})",
                    root.object.origin.at(root.position)
                );
                let printed = self.path(index);
                self.findings.push(
                    Finding::new(Code::UNREACHABLE_RULE, message)
                        .at(&object.origin.at(slot.position))
                        .of(&object.key)
                        .path(&*printed)
                        .hint("narrow the delegate's matches to what the root rule matches, without regexes"),
                );
                continue;
            };
            let rule = Rule {
                object,
                index,
                position: slot.position,
                spec: &merged.rule,
                matches: Some(merged.places),
                damage,
                fence: fence.clone(),
                inherited: Some(merged.inherited),
            };
            self.rule(&rule, port, branches);
        }
    }

    fn exported(&self, object: &Object, leaf: &VirtualService, viewer: &str) -> bool {
        let export_to = if leaf.export_to.is_empty() {
            &self.options.virtual_service_export_to
        } else {
            &leaf.export_to
        };
        export_to.is_empty()
            || export_to.iter().any(|entry| match entry.as_str() {
                "*" => true,
                "." => *object.key.namespace == *viewer,
                namespace => namespace == viewer,
            })
    }
}

/// A leaf's rule within its root's.
struct Merged<'r> {
    rule: HttpRoute,
    /// Where each of its matches stands in the leaf.
    places: Vec<Option<usize>>,
    inherited: Inherited<'r>,
}

/// Fields of a rule that another object's rule gave it.
pub(super) struct Inherited<'r> {
    pub object: &'r Object,
    /// Of the rule in `spec.http`.
    pub index: usize,
    pub rule: RuleRef,
    pub fields: Vec<&'static str>,
}

/// Puts a leaf's rule into its root's. `None` if their matches do not fit.
fn merge<'r>(
    root: &Rule<'r>,
    rule: RuleRef,
    leaf: &HttpRoute,
    position: crate::base::Position,
) -> Option<Merged<'r>> {
    let mut merged = leaf.clone();
    let own = &root.object.key.namespace;
    let roots: Vec<Cow<'_, HttpMatch>> = root
        .spec
        .matches
        .iter()
        .filter_map(|slot| slot.good())
        .map(|spec| absolute(spec, own))
        .collect();
    let mut indexes = Vec::new();
    if roots.is_empty() {
        indexes.extend((0..leaf.matches.len()).map(Some));
    } else if leaf.matches.is_empty() {
        merged.matches = roots
            .iter()
            .map(|spec| At {
                position,
                value: Slot::Good(spec.clone().into_owned()),
            })
            .collect();
        indexes.extend(roots.iter().map(|_| None));
    } else {
        merged.matches.clear();
        for (index, slot) in leaf.matches.iter().enumerate() {
            let unreadable = HttpMatch::default();
            let leaf = slot.good().unwrap_or(&unreadable);
            let before = merged.matches.len();
            for root in roots.iter().filter(|root| !conflict(root, leaf)) {
                merged.matches.push(At {
                    position: slot.position,
                    value: Slot::Good(combine(root, leaf)),
                });
                indexes.push(Some(index));
            }
            if merged.matches.len() == before {
                return None;
            }
        }
    }
    let mut inherited = Inherited {
        object: root.object,
        index: root.index,
        rule,
        fields: Vec::new(),
    };
    let root = root.spec;
    let given = [
        ("fault", leaf.fault.is_none()),
        ("corsPolicy", leaf.cors_policy.is_none()),
        ("mirror", leaf.mirror.is_none()),
        ("mirrors", leaf.mirrors.is_empty()),
    ];
    let given = given.iter().filter(|(_, is_given)| *is_given);
    inherited.fields.extend(given.map(|(field, _)| *field));
    merged.name = join(root.name.as_deref(), leaf.name.as_deref());
    inherit(&mut merged.rewrite, &root.rewrite);
    inherit(&mut merged.timeout, &root.timeout);
    inherit(&mut merged.retries, &root.retries);
    inherit(&mut merged.fault, &root.fault);
    inherit(&mut merged.mirror, &root.mirror);
    inherit(&mut merged.mirror_percent, &root.mirror_percent);
    inherit(&mut merged.mirror_percentage, &root.mirror_percentage);
    inherit(&mut merged.cors_policy, &root.cors_policy);
    inherit(&mut merged.headers, &root.headers);
    if merged.mirrors.is_empty() {
        merged.mirrors = root.mirrors.clone();
    }
    Some(Merged {
        rule: merged,
        places: indexes,
        inherited,
    })
}

fn inherit<T: Clone>(field: &mut Option<T>, root: &Option<T>) {
    if field.is_none() {
        field.clone_from(root);
    }
}

/// Gateways named by a root's match, made independent of its namespace.
fn absolute<'m>(spec: &'m HttpMatch, own: &str) -> Cow<'m, HttpMatch> {
    if spec.gateways.is_empty() {
        return Cow::Borrowed(spec);
    }
    let mut spec = spec.clone();
    for name in spec.gateways.iter_mut().filter(|name| *name != "mesh") {
        let (namespace, short) = crate::compile::gateway::split_name(name, own);
        *name = format!("{namespace}/{short}");
    }
    Cow::Owned(spec)
}

fn join(root: Option<&str>, leaf: Option<&str>) -> Option<String> {
    let set = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    match (set(root), set(leaf)) {
        (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}")),
        (root, leaf) => leaf.or(root),
    }
}

fn combine(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    let either = |leaf: &Option<StringMatch>, root: &Option<StringMatch>| {
        leaf.clone().or_else(|| root.clone())
    };
    HttpMatch {
        name: join(root.name.as_deref(), leaf.name.as_deref()),
        uri: either(&leaf.uri, &root.uri),
        scheme: either(&leaf.scheme, &root.scheme),
        method: either(&leaf.method, &root.method),
        authority: either(&leaf.authority, &root.authority),
        headers: both(&root.headers, &leaf.headers),
        without_headers: both(&root.without_headers, &leaf.without_headers),
        query_params: both(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case.or(root.ignore_uri_case),
        port: leaf.port.filter(|port| *port != 0).or(root.port),
        gateways: if leaf.gateways.is_empty() {
            root.gateways.clone()
        } else {
            leaf.gateways.clone()
        },
        source_labels: both(&root.source_labels, &leaf.source_labels),
        source_namespace: leaf
            .source_namespace
            .clone()
            .or_else(|| root.source_namespace.clone()),
        stat_prefix: leaf
            .stat_prefix
            .clone()
            .or_else(|| root.stat_prefix.clone()),
    }
}

/// Both maps; the leaf's entry wins, having been found narrower.
fn both<T: Clone>(root: &BTreeMap<String, T>, leaf: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut merged = root.clone();
    merged.extend(
        leaf.iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    merged
}

/// Whether a leaf's match is not contained in a root's.
fn conflict(root: &HttpMatch, leaf: &HttpMatch) -> bool {
    let pairs = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let port = |spec: &HttpMatch| spec.port.filter(|port| *port != 0);
    let differ = |a: Option<u32>, b: Option<u32>| matches!((a, b), (Some(a), Some(b)) if a != b);
    pairs.iter().any(
        |(root, leaf)| matches!((root, leaf), (Some(root), Some(leaf)) if is_wider(root, leaf)),
    ) || maps.iter().any(|(root, leaf)| {
        leaf.iter()
            .any(|(name, leaf)| root.get(name).is_some_and(|root| is_wider(root, leaf)))
    }) || root.ignore_uri_case.unwrap_or(false) != leaf.ignore_uri_case.unwrap_or(false)
        || differ(port(root), port(leaf))
        || leaf.source_labels.iter().any(|(name, value)| {
            root.source_labels
                .get(name)
                .is_some_and(|other| other != value)
        })
        || matches!((&root.source_namespace, &leaf.source_namespace), (Some(root), Some(leaf)) if root != leaf)
        || (!root.gateways.is_empty()
            && leaf
                .gateways
                .iter()
                .any(|name| !root.gateways.contains(name)))
}

/// Whether a leaf's condition is not contained in the root's; regexes cannot be compared.
fn is_wider(root: &StringMatch, leaf: &StringMatch) -> bool {
    if root.regex.is_some() || leaf.regex.is_some() {
        return true;
    }
    match (&root.exact, &root.prefix) {
        (Some(root), _) => leaf.exact.as_ref() != Some(root),
        (None, Some(root)) => leaf
            .prefix
            .as_ref()
            .or(leaf.exact.as_ref())
            .is_none_or(|leaf| !leaf.starts_with(root.as_str())),
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> StringMatch {
        StringMatch {
            exact: Some(text.into()),
            ..StringMatch::default()
        }
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch {
            prefix: Some(text.into()),
            ..StringMatch::default()
        }
    }

    #[test]
    fn a_leaf_may_narrow_a_root_but_not_widen_it() {
        assert!(!is_wider(&prefix("/a"), &prefix("/a/b")));
        assert!(!is_wider(&prefix("/a"), &exact("/a/b")));
        assert!(!is_wider(&exact("/a"), &exact("/a")));
        assert!(is_wider(&prefix("/a/b"), &prefix("/a")));
        assert!(is_wider(&exact("/a"), &prefix("/a")));
        assert!(is_wider(&exact("/a"), &exact("/b")));
        let regex = StringMatch {
            regex: Some(".*".into()),
            ..StringMatch::default()
        };
        assert!(is_wider(&prefix("/a"), &regex));
    }

    #[test]
    fn names_of_root_and_leaf_join_with_a_hyphen() {
        assert_eq!(
            join(Some("root"), Some("leaf")).as_deref(),
            Some("root-leaf")
        );
        assert_eq!(join(Some("root"), None).as_deref(), Some("root"));
        assert_eq!(join(None, Some("")).as_deref(), None);
    }
}
