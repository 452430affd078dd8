//! The nearest known name to a misspelt one, for hints.
//!
//! Called when a destination names a host or subset that does not exist. Bounded: a load with
//! thousands of wrong names must not become quadratic.

/// How many misspelt names of one load are compared with all known names.
const SEARCHES: u32 = 64;

/// Searches left in this load.
#[derive(Debug)]
pub(super) struct Nearest {
    left: u32,
}

impl Nearest {
    pub(super) fn new() -> Self {
        Self { left: SEARCHES }
    }

    /// The candidate that differs least from `name`, if it is close enough to be a slip.
    pub(super) fn find<'c>(
        &mut self,
        name: &str,
        candidates: impl Iterator<Item = &'c str>,
    ) -> Option<&'c str> {
        self.left = self.left.checked_sub(1)?;
        let limit = (name.len() / 4).clamp(1, 3);
        candidates
            .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
            .filter_map(|candidate| {
                let distance = distance(name.as_bytes(), candidate.as_bytes());
                (distance <= limit).then_some((distance, candidate))
            })
            .min()
            .map(|(_, candidate)| candidate)
    }
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swapped neighbours.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    let mut previous = None;
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(width);
        row.push(i + 1);
        let mut left = i + 1;
        let mut earlier = None;
        let above = last.iter().zip(last.iter().skip(1));
        // `swapped` lags two columns behind the one being filled.
        let swapped = std::iter::once(&usize::MAX).chain(&before);
        for ((&y, (&diagonal, &up)), &swap) in b.iter().zip(above).zip(swapped) {
            let mut best = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
            if previous == Some(y) && earlier == Some(x) {
                best = best.min(swap.saturating_add(1));
            }
            row.push(best);
            left = best;
            earlier = Some(y);
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_single_slips_once() {
        for (a, b, expected) in [
            ("reviews", "reviews", 0),
            ("reviews", "review", 1),
            ("reviews", "reveiws", 1),
            ("reviews", "rewiews", 1),
            ("v1", "v2", 1),
            ("", "ab", 2),
            ("ab", "", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_name_far_from_every_candidate_has_no_neighbour() {
        let known = [
            "reviews.default.svc.cluster.local",
            "ratings.default.svc.cluster.local",
        ];
        let mut nearest = Nearest::new();
        let found = nearest.find("revews.default.svc.cluster.local", known.iter().copied());
        assert_eq!(found, Some("reviews.default.svc.cluster.local"));
        assert_eq!(
            nearest.find("details.prod.svc.cluster.local", known.iter().copied()),
            None
        );
    }

    #[test]
    fn the_number_of_searches_is_bounded() {
        let mut nearest = Nearest::new();
        let found = (0..SEARCHES * 2).filter(|_| nearest.find("v1", ["v2"].into_iter()).is_some());
        assert_eq!(found.count(), SEARCHES as usize);
    }
}
