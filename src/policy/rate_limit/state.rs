//! The buckets of limits while they are in force.
//!
//! `upstream` pairs each plan with the [`Limiters`] of its policies. A limit that a new plan has
//! unchanged, in a policy of the same id, keeps its buckets; everything else begins full.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::key::{self, Asked};
use super::spec::{Limit, RateLimit};
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

/// The policies of the last plan.
#[derive(Debug, Default)]
pub struct Limiters {
    known: HashMap<Arc<str>, Arc<Limiter>>,
}

/// One limit's buckets.
#[derive(Debug)]
pub(super) struct State {
    pub limit: Limit,
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
    /// The limiters of policies, in their order. Policies that are not named are forgotten.
    pub fn of<'s>(
        &mut self,
        specs: impl Iterator<Item = &'s Arc<RateLimit>>,
    ) -> Box<[Arc<Limiter>]> {
        let before = std::mem::take(&mut self.known);
        specs
            .map(|spec| {
                let limiter = match before.get(&spec.id) {
                    Some(known) if known.spec == *spec => known.clone(),
                    known => Arc::new(Limiter::new(spec.clone(), known.map(|known| &**known))),
                };
                self.known.insert(spec.id.clone(), limiter.clone());
                limiter
            })
            .collect()
    }

    /// By id.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Limiter>> {
        let mut all: Vec<_> = self.known.values().cloned().collect();
        all.sort_by(|a, b| a.spec.id.cmp(&b.spec.id));
        all
    }
}

impl Limiter {
    /// A policy in force; limits that `before` had keep their buckets.
    #[must_use]
    pub fn new(spec: Arc<RateLimit>, before: Option<&Limiter>) -> Self {
        let mut before: Vec<Arc<State>> = before
            .map(|before| before.limits.to_vec())
            .unwrap_or_default();
        let limits = spec.limits.iter().map(|limit| {
            // Taken out: two equal limits of one policy have a bucket each.
            let known = before.iter().position(|known| known.limit == *limit);
            match known {
                Some(known) => before.swap_remove(known),
                None => Arc::new(State::new(limit.clone())),
            }
        });
        Self {
            limits: limits.collect(),
            spec,
        }
    }

    #[must_use]
    pub fn spec(&self) -> &RateLimit {
        &self.spec
    }

    /// How many requests had a fate, for each limit.
    pub fn counts(&self, fate: Fate) -> impl Iterator<Item = u64> {
        let read = move |state: &Arc<State>| {
            let counts = state.counts.iter();
            counts
                .map(|counts| counts.of(fate).load(Ordering::Relaxed))
                .sum()
        };
        self.limits.iter().map(read)
    }
}

impl State {
    fn new(limit: Limit) -> Self {
        Self {
            terms: Terms::of(&limit.bucket),
            buckets: match limit.is_single() {
                true => Buckets::Single(Meter::default()),
                false => Buckets::Many(Table::new(limit.keys)),
            },
            limit,
            seed: RandomState::new(),
            epoch: clock::now(),
            counts: Default::default(),
        }
    }

    /// The hash of a request's key; `None` if the limit does not concern it.
    pub(super) fn key(&self, asked: &Asked<'_>) -> Option<u64> {
        key::hash(&self.limit.ways, asked, &self.seed)
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
