//! Which endpoint of a snapshot is next, by the cluster's balance.
//!
//! Tables are built when endpoints are published; a choice takes no lock and allocates
//! nothing. Endpoints of weight 0 are not offered here at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::Balance;

use super::EndpointState;
use super::alias::{Alias, below};
use super::keys::Keys;
use super::schedule;

/// Weights with fractions are counted in parts of this; a whole one is taken as it is.
const FRACTIONS: f64 = 1000.0;

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
    WeightedTwoChoices { draws: Alias, weights: Box<[u32]> },
    /// By the request's key, and by chance without one.
    Keyed(Keys),
}

impl Choice {
    /// For endpoints of these weights, all above zero.
    pub(super) fn new(balance: Balance, endpoints: &[Arc<EndpointState>], weights: &[f64]) -> Self {
        let even = weights.windows(2).all(|pair| pair.first() == pair.last());
        match (balance, even) {
            (Balance::Random, _) => Self::Random,
            (Balance::RoundRobin, true) => Self::Cycle,
            (Balance::RoundRobin, false) => Self::Schedule(schedule::turn(&whole(weights))),
            (Balance::LeastRequest, true) => Self::TwoChoices,
            (Balance::LeastRequest, false) => {
                let weights = whole(weights);
                Self::WeightedTwoChoices {
                    draws: Alias::new(&weights),
                    weights,
                }
            }
            (Balance::Hash(table), _) => {
                let addresses = endpoints.iter().map(|endpoint| endpoint.addr);
                let weighted: Vec<_> = addresses.zip(weights.iter().copied()).collect();
                Self::Keyed(Keys::new(table, &weighted))
            }
        }
    }

    /// The next of `endpoints`, which are those this was made for. `None` if there are none.
    pub(super) fn next<'a>(
        &self,
        endpoints: &'a [Arc<EndpointState>],
        cursor: &AtomicUsize,
        mut random: impl FnMut() -> u64,
    ) -> Option<&'a Arc<EndpointState>> {
        let count = endpoints.len();
        if count < 2 {
            return endpoints.first();
        }
        match self {
            Self::Keyed(keys) => endpoints.get(keys.find(random(), 0)?),
            Self::Random => endpoints.get(below(count, random())),
            Self::Cycle => endpoints.get(cursor.fetch_add(1, Ordering::Relaxed) % count),
            Self::Schedule(turn) => {
                let place = cursor.fetch_add(1, Ordering::Relaxed) % turn.len();
                turn.get(place)
                    .and_then(|&index| endpoints.get(index as usize))
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
                let (first, second) = (endpoints.get(first)?, endpoints.get(second)?);
                Some(if active(second) < active(first) {
                    second
                } else {
                    first
                })
            }
            Self::WeightedTwoChoices { draws, weights } => {
                let (first, second) = (draws.draw(random()), draws.draw(random()));
                let (first_weight, second_weight) = (*weights.get(first)?, *weights.get(second)?);
                let (first, second) = (endpoints.get(first)?, endpoints.get(second)?);
                let first_load = active(first) * u64::from(second_weight);
                let second_load = active(second) * u64::from(first_weight);
                Some(if second_load < first_load {
                    second
                } else {
                    first
                })
            }
        }
    }
}

/// The weights in whole numbers of at least 1.
fn whole(weights: &[f64]) -> Box<[u32]> {
    let fractions = weights.iter().any(|weight| weight.fract() != 0.0);
    let scale = if fractions { FRACTIONS } else { 1.0 };
    // A cast of a float saturates.
    let scaled = weights.iter().map(|weight| (weight * scale).round() as u32);
    scaled.map(|weight| weight.max(1)).collect()
}

fn active(endpoint: &EndpointState) -> u64 {
    endpoint.active.load(Ordering::Relaxed) as u64
}

#[cfg(test)]
mod tests;
