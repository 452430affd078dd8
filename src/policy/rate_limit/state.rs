//! The buckets of limits while they are in force.
//!
//! `upstream` pairs each plan with the [`Limiter`]s of its policies. A limit that a new plan has in
//! the same group keeps its buckets; everything else begins full.

use std::collections::{BTreeMap, HashMap};
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::key::{self, Asked};
use super::spec::{Bucket, Counted, Limit, RateLimit};
use super::table::{Meter, Table, Terms};
use crate::base::clock;

/// Counters that threads seldom share.
const STRIPES: usize = 16;

/// A policy with its buckets.
#[derive(Debug)]
pub struct Limiter {
    pub(super) spec: Arc<RateLimit>,
    pub(super) limits: Box<[Arc<State>]>,
    /// Of requests about which somebody else is asked.
    tally: Option<Arc<Tally>>,
}

/// The buckets of the last plan's limits, by their group.
#[derive(Debug, Default)]
pub struct Limiters {
    known: HashMap<Arc<str>, Owned>,
    /// By the id of policies that somebody else counts for.
    tallies: HashMap<Arc<str>, Arc<Tally>>,
}

/// Buckets, and the policy that they are counted under.
#[derive(Clone, Debug)]
struct Owned {
    policy: Arc<str>,
    /// The limit's place in the policy.
    index: usize,
    state: Arc<State>,
}

/// How many requests of a policy's limit had each of [`Fate::ALL`], or, where this process counts,
/// of [`Fate::HERE`].
pub type LimitTotals = BTreeMap<(Arc<str>, usize), Vec<u64>>;

/// One limit's buckets.
#[derive(Debug)]
pub(super) struct State {
    bucket: Bucket,
    pub terms: Terms,
    buckets: Buckets,
    seed: RandomState,
    epoch: Instant,
    tally: Tally,
}

#[derive(Debug)]
enum Buckets {
    Single(Meter),
    Many(Table),
}

/// What became of requests.
#[derive(Debug, Default)]
struct Tally {
    counts: [Counts; STRIPES],
    failures: AtomicU64,
}

/// By [`Fate`].
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counts([AtomicU64; Fate::ALL.len()]);

/// What became of a limit's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Allowed,
    /// Refused.
    Limited,
    /// Over the limit and let through.
    Observed,
    /// Let through because whoever counts could not be asked.
    Unchecked,
    /// Refused because whoever counts could not be asked.
    Denied,
}

impl Fate {
    pub const ALL: [Self; 5] = [
        Self::Allowed,
        Self::Limited,
        Self::Observed,
        Self::Unchecked,
        Self::Denied,
    ];

    /// What may become of requests where this process counts.
    pub const HERE: [Self; 3] = [Self::Allowed, Self::Limited, Self::Observed];

    /// The metric label.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::Observed => "observed",
            Self::Unchecked => "unchecked",
            Self::Denied => "denied",
        }
    }
}

impl Limiters {
    /// The limiters of policies, in their order. Groups that none names are forgotten.
    pub fn of<'s>(
        &mut self,
        specs: impl Iterator<Item = &'s Arc<RateLimit>>,
    ) -> Box<[Arc<Limiter>]> {
        let before = std::mem::take(&mut self.known);
        let tallies = std::mem::take(&mut self.tallies);
        specs
            .map(|spec| {
                let limits = spec.limits.iter().enumerate().map(|(index, limit)| {
                    let known = self.known.get(&limit.group);
                    let known = known.or_else(|| before.get(&limit.group));
                    let known = known.filter(|known| known.state.is_of(limit));
                    let state = match known {
                        Some(known) => known.state.clone(),
                        None => Arc::new(State::new(limit)),
                    };
                    let owned = Owned {
                        policy: spec.id.clone(),
                        index,
                        state: state.clone(),
                    };
                    self.known.insert(limit.group.clone(), owned);
                    state
                });
                let limits = limits.collect();
                let is_elsewhere = spec.counted != Counted::Here;
                let tally = is_elsewhere.then(|| {
                    let known = tallies.get(&spec.id).cloned().unwrap_or_default();
                    let owned = self.tallies.entry(spec.id.clone()).or_insert(known);
                    owned.clone()
                });
                Arc::new(Limiter {
                    limits,
                    spec: spec.clone(),
                    tally,
                })
            })
            .collect()
    }

    /// What became of requests, by policy and limit.
    #[must_use]
    pub fn totals(&self) -> LimitTotals {
        let mut totals = LimitTotals::new();
        for owned in self.known.values() {
            let key = (owned.policy.clone(), owned.index);
            let total = totals
                .entry(key)
                .or_insert_with(|| vec![0; Fate::HERE.len()]);
            for (total, fate) in total.iter_mut().zip(Fate::HERE) {
                *total += owned.state.tally.total(fate);
            }
        }
        for (policy, tally) in &self.tallies {
            let total = totals.entry((policy.clone(), 0)).or_default();
            total.resize(Fate::ALL.len(), 0);
            for (total, fate) in total.iter_mut().zip(Fate::ALL) {
                *total += tally.total(fate);
            }
        }
        totals
    }

    /// How often those who count for policies could not be asked.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<Arc<str>, u64> {
        let tallies = self.tallies.iter();
        tallies
            .map(|(policy, tally)| (policy.clone(), tally.failures.load(Ordering::Relaxed)))
            .collect()
    }
}

impl Limiters {
    /// Bytes that buckets take, by policy and limit.
    #[must_use]
    pub fn bytes(&self) -> BTreeMap<(Arc<str>, usize), usize> {
        let owned = self.known.values();
        let bytes = owned.map(|owned| {
            let bytes = match &owned.state.buckets {
                Buckets::Single(meter) => std::mem::size_of_val(meter),
                Buckets::Many(table) => table.bytes(),
            };
            ((owned.policy.clone(), owned.index), bytes)
        });
        bytes.collect()
    }
}

impl Limiter {
    #[must_use]
    pub fn spec(&self) -> &RateLimit {
        &self.spec
    }

    /// Counts that somebody could not be asked.
    pub fn count_failure(&self) {
        if let Some(tally) = &self.tally {
            tally.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request about which somebody was asked. `random` spreads threads' counts.
    pub fn count(&self, random: u64, fate: Fate) {
        if let Some(tally) = &self.tally {
            tally.count(random, fate);
        }
    }
}

impl State {
    fn new(limit: &Limit) -> Self {
        Self {
            bucket: limit.bucket,
            terms: Terms::of(&limit.bucket),
            buckets: match limit.is_single() {
                true => Buckets::Single(Meter::default()),
                false => Buckets::Many(Table::new(limit.keys)),
            },
            seed: RandomState::new(),
            epoch: clock::now(),
            tally: Tally::default(),
        }
    }

    /// Whether a limit may go on with these buckets.
    fn is_of(&self, limit: &Limit) -> bool {
        let fits = match &self.buckets {
            Buckets::Single(_) => limit.is_single(),
            Buckets::Many(table) => !limit.is_single() && table.is_for(limit.keys),
        };
        fits && self.bucket == limit.bucket
    }

    /// The hash of a request's key; `None` if the limit does not concern it.
    pub(super) fn key(&self, limit: &Limit, asked: &Asked<'_>) -> Option<u64> {
        key::hash(&limit.ways, asked, &self.seed)
    }

    pub(super) fn meter(&self, key: u64) -> Option<&Meter> {
        match &self.buckets {
            Buckets::Single(meter) => Some(meter),
            Buckets::Many(table) => table.meter(key),
        }
    }

    /// Nanoseconds of the limit's own clock.
    pub(super) fn time(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn count(&self, key: u64, fate: Fate) {
        // Of the key's bits, others than those that choose its bucket.
        self.tally.count(key >> 32, fate);
    }
}

impl Tally {
    fn count(&self, random: u64, fate: Fate) {
        let counts = self.counts.get(random as usize % STRIPES);
        if let Some(count) = counts.and_then(|counts| counts.0.get(fate as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn total(&self, fate: Fate) -> u64 {
        let counts = self
            .counts
            .iter()
            .filter_map(|counts| counts.0.get(fate as usize));
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}
