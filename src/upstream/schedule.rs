//! Smooth weighted round robin as a table: who is next, for one whole turn.
//!
//! Built when endpoints are published, read with one atomic step per pick: no lock, no heap
//! to keep in order. At no place of the turn is an endpoint a whole pick ahead of its share or
//! behind it: of `n` picks it has `n * share` rounded down or up.
//!
//! This is the chairman assignment (Tijdeman 1980; P-fairness in Baruah, Cohen, Plaxton and
//! Varvel 1996). The `j`th pick of an endpoint with `w` of a turn's `t` places may stand from
//! place `floor((j - 1) * t / w)` on and must stand before `ceil(j * t / w)`. Such a turn always
//! exists, and to take the earliest deadline among those that may stand finds it, as for all
//! jobs of length one (Horn 1974). By deadlines alone, a heavy endpoint would come many times in
//! a row before lighter ones are due.
//!
//! Endpoints of one weight share a place in that order and take it by turns, which keeps the
//! bound: the class has its share rounded, and each of its members that, divided and rounded the
//! same way. So many light endpoints do not come in a block, as they do where all of them have
//! the same deadline.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Longest table; a turn that needs more is scaled down to about this many places.
const LONGEST: u64 = 1 << 16;

/// Endpoints of one weight.
#[derive(Debug, Default)]
struct Class {
    members: Vec<u32>,
    /// Places of all members in a turn.
    share: u64,
    /// Those that were given.
    taken: u64,
}

/// One turn: indices in the order in which they are picked. Weights must be above zero.
///
/// Shares are exact while the weights, divided by their greatest common divisor, add up to
/// at most 65,536. Beyond that they are rounded to that many places, and never below one.
pub(super) fn turn(weights: &[u32]) -> Box<[u32]> {
    let mut classes: BTreeMap<u64, Class> = BTreeMap::new();
    for (index, count) in (0u32..).zip(reduced(weights)) {
        let class = classes.entry(count).or_default();
        class.members.push(index);
        class.share += count;
    }
    let length = classes.values().map(|class| class.share).sum();
    // By the first place they may stand at; by the place they must stand before.
    let mut waiting: BinaryHeap<_> = classes.keys().map(|&count| Reverse((0, count))).collect();
    let mut due = BinaryHeap::new();
    let mut turn = Vec::new();
    for place in 0..length {
        while let Some(&Reverse((release, count))) = waiting.peek()
            && release <= place
        {
            waiting.pop();
            if let Some(class) = classes.get(&count) {
                due.push(Reverse((class.deadline(length), release, count)));
            }
        }
        let Some(Reverse((_, _, count))) = due.pop() else {
            continue;
        };
        if let Some(class) = classes.get_mut(&count) {
            turn.extend(class.take());
            if class.taken < class.share {
                waiting.push(Reverse((class.release(length), count)));
            }
        }
    }
    turn.into()
}

impl Class {
    /// The first place at which the next pick may stand.
    fn release(&self, length: u64) -> u64 {
        self.taken * length / self.share
    }

    /// The place before which it must stand.
    fn deadline(&self, length: u64) -> u64 {
        ((self.taken + 1) * length).div_ceil(self.share)
    }

    fn take(&mut self) -> Option<u32> {
        let count = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        let member = usize::try_from(self.taken % count.max(1)).ok()?;
        self.taken += 1;
        self.members.get(member).copied()
    }
}

/// The number of places of each endpoint in a turn.
fn reduced(weights: &[u32]) -> Vec<u64> {
    let divisor = u64::from(weights.iter().copied().fold(0, greatest_common_divisor)).max(1);
    let counts = weights.iter().map(|&weight| u64::from(weight) / divisor);
    let total: u64 = counts.clone().sum();
    if total <= LONGEST {
        return counts.collect();
    }
    counts
        .map(|count| ((count * LONGEST + total / 2) / total).max(1))
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(turn: &[u32], index: usize) -> usize {
        turn.iter().filter(|&&one| one as usize == index).count()
    }

    #[test]
    fn a_turn_interleaves_the_heavy_endpoint_with_the_light_ones() {
        assert_eq!(turn(&[5, 1, 1])[..], [0, 0, 1, 0, 0, 2, 0]);
        assert_eq!(turn(&[2, 2, 4])[..], [0, 2, 1, 2]);
    }

    #[test]
    fn a_heavy_endpoint_among_many_light_ones_is_not_picked_twice_in_a_row() {
        let mut weights = vec![1; 100];
        weights[40] = 2;
        let turn = turn(&weights);
        let places: Vec<usize> = turn
            .iter()
            .enumerate()
            .filter(|(_, index)| **index == 40)
            .map(|(place, _)| place)
            .collect();
        let distance = places[1] - places[0];
        assert!((50..=52).contains(&distance), "{places:?}");
    }

    #[test]
    fn weights_that_would_need_a_huge_table_are_scaled_and_nobody_is_lost() {
        let turn = turn(&[u32::MAX, 1, u32::MAX - 1]);
        assert!(turn.len() as u64 <= LONGEST + 3);
        assert_eq!(count(&turn, 1), 1);
        assert!(count(&turn, 0).abs_diff(count(&turn, 2)) <= 1);
    }

    proptest! {
        #[test]
        fn a_turn_gives_every_endpoint_exactly_its_share(weights in prop::collection::vec(1u32..200, 1..40)) {
            let turn = turn(&weights);
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            for (index, &weight) in weights.iter().enumerate() {
                prop_assert_eq!(count(&turn, index) as u64 * total, u64::from(weight) * turn.len() as u64);
            }
        }

        /// The bound of the module's doc: the quota rule, which Tijdeman proved to be possible.
        #[test]
        fn no_endpoint_is_ever_a_whole_pick_ahead_or_behind(
            weights in prop::collection::vec(prop_oneof![1u32..4, 1u32..50, 1u32..2000], 1..16),
        ) {
            let turn = turn(&weights);
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let mut picked = vec![0; weights.len()];
            for (place, &index) in (1..).zip(&turn) {
                picked[index as usize] += 1;
                for (have, &weight) in picked.iter().zip(&weights) {
                    // In units of a pick's `total`th part, to be exact.
                    let (have, share) = (have * total, place * u64::from(weight));
                    prop_assert!(have.abs_diff(share) < total, "{weights:?} {turn:?}");
                }
            }
        }
    }
}
