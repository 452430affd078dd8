//! Which endpoint of a snapshot is next, by the cluster's balance.
//!
//! Tables are built when endpoints are published; a choice takes no lock and allocates
//! nothing. Endpoints of weight 0 are not offered here at all.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::Balance;

use super::alias::{Alias, below};
use super::schedule;
use super::snapshot::Member;

/// A balance with what it needs for these weights.
#[derive(Debug)]
pub(super) enum Choice {
    /// Every endpoint alike. As in Envoy, whose random balancer does not look at weights.
    Random,
    /// One after the other.
    Cycle,
    /// One after the other, by a table of one weighted turn.
    Schedule(Box<[u32]>),
    /// The less loaded of two different endpoints drawn at random.
    TwoChoices,
    /// Two endpoints drawn by weight; the one with fewer requests per unit of weight, and the
    /// first when they are even. An idle cluster is shared exactly by weight, a busy one evens
    /// out requests in flight by weight. Envoy walks a schedule by `weight / (active + 1)`,
    /// which needs a lock; the shares agree.
    WeightedTwoChoices(Alias),
}

impl Choice {
    /// For endpoints of these weights, all above zero.
    pub(super) fn new(balance: Balance, weights: &[u32]) -> Self {
        let even = weights.windows(2).all(|pair| pair.first() == pair.last());
        match (balance, even) {
            (Balance::Random, _) => Self::Random,
            (Balance::RoundRobin, true) => Self::Cycle,
            (Balance::RoundRobin, false) => Self::Schedule(schedule::turn(weights)),
            (Balance::LeastRequest, true) => Self::TwoChoices,
            (Balance::LeastRequest, false) => Self::WeightedTwoChoices(Alias::new(weights)),
        }
    }

    /// The next of `members`, which are those this was made for. `None` if there are none.
    pub(super) fn next<'a>(
        &self,
        members: &'a [Member],
        cursor: &AtomicUsize,
        mut random: impl FnMut() -> u64,
    ) -> Option<&'a Member> {
        let count = members.len();
        if count < 2 {
            return members.first();
        }
        match self {
            Self::Random => members.get(below(count, random())),
            Self::Cycle => members.get(cursor.fetch_add(1, Ordering::Relaxed) % count),
            Self::Schedule(turn) => {
                let place = cursor.fetch_add(1, Ordering::Relaxed) % turn.len();
                turn.get(place)
                    .and_then(|&index| members.get(index as usize))
            }
            Self::TwoChoices => {
                let bits = random();
                let first = below(count, bits >> 32);
                let distance = 1 + below(count - 1, bits);
                let second = if first + distance < count {
                    first + distance
                } else {
                    first + distance - count
                };
                let (first, second) = (members.get(first)?, members.get(second)?);
                Some(if second.active() < first.active() {
                    second
                } else {
                    first
                })
            }
            Self::WeightedTwoChoices(alias) => {
                let first = members.get(alias.draw(random()))?;
                let second = members.get(alias.draw(random()))?;
                let first_load = first.active() as u64 * u64::from(second.weight);
                let second_load = second.active() as u64 * u64::from(first.weight);
                Some(if second_load < first_load {
                    second
                } else {
                    first
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
