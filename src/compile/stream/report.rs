//! What became of each match of each rule for connections, and what is said about it.

use std::collections::BTreeMap;

use crate::base::{Code, Finding, Findings, Origin, Position};
use crate::compile::bind::{Bound, Services};

use super::rule::List;

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
struct Rule {
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
            for rule in tls_rules(bound).chain(tcp_rules(bound)) {
                self.rule(service, &rule, bound, findings);
            }
        }
    }

    fn rule(&self, service: usize, rule: &Rule, bound: &Bound<'_>, findings: &mut Findings) {
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

fn tls_rules(bound: &Bound<'_>) -> impl Iterator<Item = Rule> {
    let rules = bound.spec.tls.iter().enumerate();
    rules.map(|(index, slot)| {
        let matches = slot.good().map(|rule| &rule.matches);
        let matches = matches.into_iter().flatten().map(|slot| {
            let fields = slot.good().map(|matched| {
                [
                    (
                        "destinationSubnets",
                        !matched.destination_subnets.is_empty(),
                    ),
                    ("sourceLabels", !matched.source_labels.is_empty()),
                    ("sourceNamespace", is_set(&matched.source_namespace)),
                ]
            });
            (slot.position, set(fields.into_iter().flatten()))
        });
        Rule {
            list: List::Tls,
            index,
            position: slot.position,
            matches: matches.collect(),
        }
    })
}

fn tcp_rules(bound: &Bound<'_>) -> impl Iterator<Item = Rule> {
    let rules = bound.spec.tcp.iter().enumerate();
    rules.map(|(index, slot)| {
        let matches = slot.good().map(|rule| &rule.matches);
        let matches = matches.into_iter().flatten().map(|slot| {
            let fields = slot.good().map(|matched| {
                [
                    (
                        "destinationSubnets",
                        !matched.destination_subnets.is_empty(),
                    ),
                    ("sourceSubnet", is_set(&matched.source_subnet)),
                    ("sourceLabels", !matched.source_labels.is_empty()),
                    ("sourceNamespace", is_set(&matched.source_namespace)),
                ]
            });
            (slot.position, set(fields.into_iter().flatten()))
        });
        Rule {
            list: List::Tcp,
            index,
            position: slot.position,
            matches: matches.collect(),
        }
    })
}

fn is_set(field: &Option<String>) -> bool {
    field.as_deref().is_some_and(|text| !text.is_empty())
}

/// The names of the fields that are set.
fn set(fields: impl Iterator<Item = (&'static str, bool)>) -> Vec<&'static str> {
    let set = fields.filter(|(_, is_set)| *is_set);
    set.map(|(field, _)| field).collect()
}
