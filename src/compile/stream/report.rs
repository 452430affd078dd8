//! What became of each match of each rule for connections, and what is said about it.

use std::collections::BTreeMap;

use crate::base::{Code, Finding, Findings, Origin, Position};
use crate::compile::bind::{Bound, Services};
use crate::model::istio::Items;

use super::list::{Condition, List, Rule};

/// The VirtualService, its list, the rule and the match.
pub(super) type Place = (usize, List, usize, usize);

/// What became of a match.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It holds, but what stands here takes its connections.
    Behind(Origin),
    Served,
}

/// The best fate of each match that holds for a server. Others hold for none.
#[derive(Default)]
pub(super) struct Book {
    fates: BTreeMap<Place, Fate>,
}

/// One rule with where its matches are written, and the conditions in each that do not count.
struct Written {
    list: List,
    index: usize,
    position: Position,
    matches: Vec<(Position, Vec<&'static str>)>,
}

impl Book {
    pub(super) fn note(&mut self, place: Place, fate: Fate) {
        match self.fates.get(&place) {
            Some(Fate::Served) => {}
            Some(Fate::Behind(_)) if matches!(fate, Fate::Behind(_)) => {}
            _ => {
                self.fates.insert(place, fate);
            }
        }
    }

    /// Says what serves nothing, and which conditions do not count.
    pub(super) fn report(&self, services: &Services<'_>, findings: &mut Findings) {
        for (service, bound) in services.bound.iter().enumerate() {
            for rule in rules(&bound.spec.tls).chain(rules(&bound.spec.tcp)) {
                self.rule(service, &rule, bound, findings);
            }
        }
    }

    fn rule(&self, service: usize, rule: &Written, bound: &Bound<'_>, findings: &mut Findings) {
        let printed = format!("spec.{}[{}]", rule.list.name(), rule.index);
        let at = |finding: Finding, position: Position| {
            finding
                .at(&bound.object.origin.at(position))
                .of(&bound.object.key)
        };
        if rule.matches.is_empty()
            && let Some(finding) = self.of_match((service, rule.list, rule.index, 0))
        {
            findings.push(at(finding, rule.position).path(printed.clone()));
        }
        for (number, (position, inert)) in rule.matches.iter().enumerate() {
            let path = format!("{printed}.match[{number}]");
            if let Some(finding) = self.of_match((service, rule.list, rule.index, number)) {
                findings.push(at(finding, *position).path(path.clone()));
            }
            for field in inert {
                let message = format!(
                    "`{field}` does not count at a gateway, as in Istio; the match holds whatever \
                     it says"
                );
                let finding = Finding::new(Code::INERT_FIELD, message).hint("remove it");
                findings.push(at(finding, *position).path(format!("{path}.{field}")));
            }
        }
    }

    /// Why a match serves nothing, if so.
    fn of_match(&self, place: Place) -> Option<Finding> {
        let (_, list, ..) = place;
        match self.fates.get(&place) {
            Some(Fate::Served) => None,
            Some(Fate::Behind(origin)) => {
                let message = match list {
                    List::Tcp => format!(
                        "the rule at {origin} takes all connections of the server; this one serves \
                         nothing"
                    ),
                    List::Tls => format!(
                        "a server name of it belongs to {origin} on the same port; this match \
                         serves nothing"
                    ),
                };
                let finding = Finding::new(Code::SHADOWED, message);
                Some(finding.hint("give each its own port or name"))
            }
            None => {
                let (message, hint) = match list {
                    List::Tcp => (
                        "it holds for no TCP server, and for no server that ends TLS with protocol \
                         TLS, that carries a host of this object",
                        "look at its `port` and `gateways` and at the Gateway's servers",
                    ),
                    List::Tls => (
                        "it holds for no server with mode PASSTHROUGH that carries a host of this \
                         object",
                        "where TLS ends at the gateway, connections are routed by `tcp`, requests \
                         by `http`",
                    ),
                };
                Some(Finding::new(Code::NOT_FOR_THIS_GATEWAY, message).hint(hint))
            }
        }
    }
}

/// The rules of a list, as far as they are reported.
fn rules<R: Rule>(rules: &Items<R>) -> impl Iterator<Item = Written> {
    rules.iter().enumerate().map(|(index, slot)| {
        let matches = slot.good().map(Rule::matches).into_iter().flatten();
        let matches = matches.map(|slot| {
            let inert = slot.good().map(Condition::inert);
            (slot.position, inert.unwrap_or_default())
        });
        Written {
            list: R::LIST,
            index,
            position: slot.position,
            matches: matches.collect(),
        }
    })
}
