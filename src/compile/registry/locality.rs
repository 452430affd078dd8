//! `localityLbSetting`: which endpoints are near, and what each locality gets. As
//! istiod's `ApplyLocalityLoadBalancer`.
//!
//! Endpoints are placed while they are looked for, because labels count; what depends on all
//! endpoints of a cluster is settled when they are found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compile::Options;
use crate::model::istio::destination_rule::{Failover, LocalityLb};
use crate::plan::Resolution;
use crate::plan::endpoints::Place;

/// Label of a workload that says where it runs; `.` stands for `/`.
const LOCALITY: &str = "istio-locality";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";

/// Steps of nearness by locality: same subzone, zone, region, the `to` of a failover, others.
const STEPS: u32 = 5;

/// How the endpoints of one cluster are placed.
#[derive(Clone, Debug, Default)]
pub(super) struct Placing<'s> {
    /// The gateway's own.
    locality: &'s str,
    distribute: Option<&'s LocalityLb>,
    /// Failover by locality, with the regions' own settings.
    failover: Option<Option<&'s LocalityLb>>,
    /// `failoverPriority`: labels, each with the value that counts as near.
    labels: Vec<(&'s str, Option<&'s str>)>,
}

impl<'s> Placing<'s> {
    /// For a cluster with this setting; `detects` says whether it has outlier detection.
    pub(super) fn new(
        setting: Option<&'s LocalityLb>,
        detects: bool,
        options: &'s Options,
    ) -> Self {
        let locality = &*options.locality;
        let none = Self {
            locality,
            ..Self::default()
        };
        let enabled = match setting {
            Some(setting) => setting.enabled != Some(false),
            None => options.locality_failover,
        };
        if !enabled {
            return none;
        }
        if let Some(setting) = setting.filter(|setting| !setting.distribute.is_empty()) {
            return Self {
                distribute: Some(setting),
                ..none
            };
        }
        if !detects {
            return none;
        }
        let wanted = setting.map_or(&[][..], |setting| &setting.failover_priority);
        let by_locality = wanted.is_empty() || setting.is_some_and(|it| !it.failover.is_empty());
        Self {
            // Without a place of its own the gateway would find those of unknown place near.
            failover: (by_locality && !locality.is_empty()).then_some(setting),
            labels: wanted.iter().map(|text| near(text, options)).collect(),
            ..none
        }
    }

    /// Whether places matter; looking for them is spared if they do not.
    pub(super) fn matters(&self) -> bool {
        self.distribute.is_some() || self.failover.is_some() || !self.labels.is_empty()
    }

    /// The place of an endpoint with this locality, as far as it can be told now.
    pub(super) fn place<'l>(
        &self,
        locality: Option<&str>,
        label: impl Fn(&str) -> Option<&'l str>,
    ) -> Place {
        if !self.matters() {
            return Place::default();
        }
        let locality = match locality.filter(|locality| !locality.is_empty()) {
            Some(locality) => locality.to_owned(),
            None => of_labels(&label),
        };
        let [region, zone, subzone] = parts(&locality);
        let value = |name: &str| match name {
            REGION if !region.is_empty() => Some(region),
            ZONE if !zone.is_empty() => Some(zone),
            SUBZONE if !subzone.is_empty() => Some(subzone),
            _ => label(name),
        };
        let same = |(name, near): &(&str, Option<&str>)| {
            value(name).unwrap_or_default() == near.unwrap_or_default()
        };
        // Of the labels in order, the first that differs and all behind it count.
        let matched = self.labels.iter().take_while(|label| same(label)).count();
        Place {
            priority: u32::try_from(self.labels.len() - matched).unwrap_or(u32::MAX),
            share: None,
            locality: locality.into(),
        }
    }

    /// The zone of an endpoint as a locality: in the gateway's region if in its zone.
    pub(super) fn of_zone(&self, zone: &str) -> String {
        match parts(self.locality) {
            [region, own, _] if own == zone => format!("{region}/{zone}"),
            _ => format!("/{zone}"),
        }
    }

    /// Settles the priorities and shares of all endpoints of the cluster.
    pub(super) fn settle(&self, resolution: &mut Resolution) {
        if !self.matters() {
            return;
        }
        let mut endpoints: Vec<(&mut Place, &mut u32)> = match resolution {
            Resolution::Static(endpoints) => endpoints
                .iter_mut()
                .map(|endpoint| (&mut endpoint.place, &mut endpoint.weight))
                .collect(),
            Resolution::Dns { names, .. } => names
                .iter_mut()
                .map(|name| (&mut name.place, &mut name.weight))
                .collect(),
        };
        if let Some(setting) = self.distribute {
            self.share_out(setting, &mut endpoints);
        }
        if let Some(setting) = self.failover {
            for (place, _) in &mut endpoints {
                let near = self.nearness(&place.locality, setting);
                place.priority = place.priority.saturating_mul(STEPS).saturating_add(near);
            }
        }
        let present: BTreeSet<u32> = endpoints.iter().map(|(place, _)| place.priority).collect();
        let rank: BTreeMap<u32, u32> = present.into_iter().zip(0..).collect();
        for (place, _) in &mut endpoints {
            place.priority = rank.get(&place.priority).copied().unwrap_or_default();
        }
    }

    fn nearness(&self, locality: &str, setting: Option<&LocalityLb>) -> u32 {
        let ([region, zone, subzone], own) = (parts(locality), parts(self.locality));
        match [region, zone, subzone] {
            all if all == own => 0,
            [_, _, _] if [region, zone] == own[..2] => 1,
            [_, _, _] if region == own[0] => 2,
            _ => {
                let rules = setting.map(|setting| setting.failover.iter());
                let mut rules = rules.into_iter().flatten().filter_map(|slot| slot.good());
                let own_rule = rules.find(|rule: &&Failover| rule.from == own[0]);
                3 + u32::from(own_rule.is_some_and(|rule| rule.to != region))
            }
        }
    }

    /// The shares of the first rule that is meant for this gateway.
    fn share_out(&self, setting: &LocalityLb, endpoints: &mut [(&mut Place, &mut u32)]) {
        let mut rules = setting.distribute.iter().filter_map(|slot| slot.good());
        let Some(rule) = rules.find(|rule| matches(&rule.from, self.locality)) else {
            return;
        };
        let mut weights: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (place, weight) in endpoints.iter() {
            *weights.entry(place.locality.clone()).or_default() += u64::from(**weight);
        }
        // The most exact first: a wildcard is for what nothing else names.
        let mut targets: Vec<(&String, &u32)> = rule.to.iter().collect();
        targets.sort_by_key(|(to, _)| std::cmp::Reverse(exactness(to)));
        let mut shares: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for (to, share) in targets {
            let meant =
                |locality: &Arc<str>| matches(to, locality) && !shares.contains_key(locality);
            let meant: Vec<_> = weights
                .iter()
                .filter(|(locality, _)| meant(locality))
                .map(|(locality, weight)| (locality.clone(), *weight))
                .collect();
            let total: u64 = meant.iter().map(|(_, weight)| weight).sum();
            for (locality, weight) in meant {
                let part = (weight * u64::from(*share)).div_ceil(total.max(1));
                shares.insert(locality, u32::try_from(part).unwrap_or(u32::MAX));
            }
        }
        for (place, weight) in endpoints.iter_mut() {
            place.share = shares
                .get(&place.locality)
                .copied()
                .filter(|share| *share > 0);
            if place.share.is_none() {
                // Localities that are not listed get nothing.
                **weight = 0;
            }
        }
    }
}

/// A `failoverPriority` entry: the label, and its value near the gateway.
fn near<'s>(text: &'s str, options: &'s Options) -> (&'s str, Option<&'s str>) {
    if let Some((name, value)) = text.split_once('=') {
        return (name, Some(value));
    }
    let [region, zone, subzone] = parts(&options.locality);
    let own = match text {
        REGION if !region.is_empty() => Some(region),
        ZONE if !zone.is_empty() => Some(zone),
        SUBZONE if !subzone.is_empty() => Some(subzone),
        _ => options.labels.get(text).map(String::as_str),
    };
    (text, own)
}

/// Where the labels of a workload say that it runs.
fn of_labels<'l>(label: impl Fn(&str) -> Option<&'l str>) -> String {
    if let Some(text) = label(LOCALITY).filter(|text| !text.is_empty()) {
        return match text.contains('/') {
            true => text.to_owned(),
            false => text.replace('.', "/"),
        };
    }
    let value = |name| label(name).unwrap_or_default();
    match [value(REGION), value(ZONE), value(SUBZONE)] {
        ["", "", ""] => String::new(),
        [region, zone, ""] => format!("{region}/{zone}"),
        [region, zone, subzone] => format!("{region}/{zone}/{subzone}"),
    }
}

/// Region, zone and subzone; empty where nothing is said.
fn parts(locality: &str) -> [&str; 3] {
    let mut parts = locality.splitn(3, '/');
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

/// Whether `region/zone/subzone` with `*`, or a beginning of it, covers a locality.
fn matches(pattern: &str, locality: &str) -> bool {
    let [region, zone, subzone] = parts(pattern);
    let own = parts(locality);
    (region == "*" || region == own[0])
        && (matches!(zone, "" | "*") || zone == own[1])
        && (matches!(subzone, "" | "*") || subzone == own[2])
}

fn exactness(pattern: &str) -> usize {
    let parts = parts(pattern).into_iter();
    parts.filter(|part| !matches!(*part, "" | "*")).count()
}

#[cfg(test)]
mod tests;
