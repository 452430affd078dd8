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
use super::spec::{Bucket, Limit, RateLimit};
use super::table::{Meter, Table, Terms};
use crate::base::clock;

/// Counters that threads seldom share.
const STRIPES: usize = 16;

/// A policy with its buckets.
#[derive(Debug)]
pub struct Limiter {
    pub(super) spec: Arc<RateLimit>,
    pub(super) limits: Box<[Arc<State>]>,
}

/// The buckets of the last plan's limits, by their group.
#[derive(Debug, Default)]
pub struct Limiters {
    known: HashMap<Arc<str>, Owned>,
}

/// Buckets, and the policy that they are counted under.
#[derive(Clone, Debug)]
struct Owned {
    policy: Arc<str>,
    /// The limit's place in the policy.
    index: usize,
    state: Arc<State>,
}

/// How many requests of a policy's limit had each of [`Fate::ALL`].
pub type LimitTotals = BTreeMap<(Arc<str>, usize), [u64; 3]>;

/// One limit's buckets.
#[derive(Debug)]
pub(super) struct State {
    bucket: Bucket,
    pub terms: Terms,
    buckets: Buckets,
    seed: RandomState,
    epoch: Instant,
    counts: [Counts; STRIPES],
}

#[derive(Debug)]
enum Buckets {
    Single(Meter),
    Many(Table),
}

/// What became of requests.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counts {
    allowed: AtomicU64,
    limited: AtomicU64,
    observed: AtomicU64,
}

/// What became of a limit's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Allowed,
    /// Refused.
    Limited,
    /// Over the limit and let through.
    Observed,
}

impl Fate {
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Limited, Self::Observed];

    /// The metric label.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::Observed => "observed",
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
                Arc::new(Limiter {
                    limits: limits.collect(),
                    spec: spec.clone(),
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
            let total = totals.entry(key).or_default();
            for (total, fate) in total.iter_mut().zip(Fate::ALL) {
                *total += owned.state.total(fate);
            }
        }
        totals
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
            counts: Default::default(),
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

    fn total(&self, fate: Fate) -> u64 {
        let read = |counts: &Counts| counts.of(fate).load(Ordering::Relaxed);
        self.counts.iter().map(read).sum()
    }

    pub(super) fn count(&self, key: u64, fate: Fate) {
        // Of the key's bits, others than those that choose its bucket.
        let stripe = (key >> 32) as usize % STRIPES;
        if let Some(counts) = self.counts.get(stripe) {
            counts.of(fate).fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counts {
    fn of(&self, fate: Fate) -> &AtomicU64 {
        match fate {
            Fate::Allowed => &self.allowed,
            Fate::Limited => &self.limited,
            Fate::Observed => &self.observed,
        }
    }
}
