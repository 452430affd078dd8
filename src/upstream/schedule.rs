//! Smooth weighted round robin as a table: who is next, for one whole turn.
//!
//! Built when endpoints are published, read with one atomic step per pick: no lock, no heap
//! to keep in order. An endpoint of weight `w` stands at `w` evenly spaced places of the turn
//! and each endpoint starts at a place of its own, so that equal ones do not come in a block
//! (the textbook methods put all endpoints of the lowest weight side by side).

/// Longest table; a turn that needs more is scaled down to about this many places.
const LONGEST: u64 = 1 << 16;

/// One turn: indices in the order in which they are picked. Weights must be above zero.
///
/// Shares are exact while the weights, divided by their greatest common divisor, add up to
/// at most 65,536. Beyond that they are rounded to that many places, and never below one.
pub(super) fn turn(weights: &[u32]) -> Box<[u32]> {
    let mut places: Vec<(u64, u32)> = Vec::new();
    for (index, count) in (0u32..).zip(reduced(weights)) {
        // Fractions of the golden ratio are the most even spread of starting places.
        let start = u64::from(index.wrapping_mul(0x9E37_79B9));
        places.extend((0..count).map(|nth| {
            let place = (u128::from(nth) << 32 | u128::from(start)) << 32;
            (
                u64::try_from(place / u128::from(count)).unwrap_or(u64::MAX),
                index,
            )
        }));
    }
    places.sort_unstable();
    places.into_iter().map(|(_, index)| index).collect()
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
        assert_eq!(turn(&[5, 1, 1])[..], [0, 0, 2, 0, 0, 1, 0]);
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
        assert!((45..=55).contains(&distance), "{places:?}");
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

        #[test]
        fn no_endpoint_runs_far_ahead_or_behind(weights in prop::collection::vec(1u32..50, 1..12)) {
            let turn = turn(&weights);
            let total = f64::from(weights.iter().sum::<u32>());
            let mut picked = vec![0.0; weights.len()];
            for (place, &index) in turn.iter().enumerate() {
                picked[index as usize] += 1.0;
                for (have, &weight) in picked.iter().zip(&weights) {
                    let due = (place + 1) as f64 * f64::from(weight) / total;
                    // Off by one of its own, and by at most one of each of the others before it.
                    let bound = 1.0 + weights.len() as f64 * f64::from(weight) / total;
                    prop_assert!((have - due).abs() < bound, "{weights:?} {turn:?}");
                }
            }
        }
    }
}
