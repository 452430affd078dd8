//! How much of a cluster's traffic each priority and each locality gets, by how many of its
//! endpoints are fit.
//!
//! Envoy's arithmetic: a level counts as whole while 1 / 1.4 of it is fit, so that losing a few
//! endpoints spills nothing over, and losing more spills over gradually.

/// Envoy's overprovisioning factor, in percent. Istio leaves it alone.
const OVERPROVISIONING: u64 = 140;

/// The endpoints of a priority or a locality, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fitness {
    pub(super) usable: usize,
    pub(super) total: usize,
}

/// What a priority gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Of the traffic; all together are 100, or 0 if nothing is fit.
    pub(super) percent: u32,
    /// Too few are fit: all get traffic, fit or not.
    pub(super) panics: bool,
}

impl Fitness {
    /// Of 100 parts, how many can be served here.
    pub(super) fn availability(self) -> u32 {
        let (usable, total) = (self.usable as u64, self.total as u64);
        match (OVERPROVISIONING * usable).checked_div(total) {
            Some(percent) => percent.min(100) as u32,
            None => 0,
        }
    }

    /// As `availability`, not rounded, as a part of 1.
    pub(super) fn effective(self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        let part = self.usable as f64 / self.total as f64;
        (part * OVERPROVISIONING as f64 / 100.0).min(1.0)
    }

    fn panics(self, threshold: u32) -> bool {
        (self.usable as u64) * 100 < u64::from(threshold) * (self.total as u64)
    }
}

/// The loads of priorities, most wanted first. A `panic_threshold` in percent of 0 means that
/// nothing ever panics (Istio's default).
pub(super) fn loads(priorities: &[Fitness], panic_threshold: u32) -> Vec<Load> {
    let availability = priorities.iter().map(|fitness| fitness.availability());
    let normal = availability.clone().sum::<u32>().min(100);
    let panics = |fitness: &Fitness| normal < 100 && fitness.panics(panic_threshold);
    if panic_threshold > 0 && priorities.iter().all(panics) {
        return in_total_panic(priorities);
    }
    let mut left = 100;
    let mut loads: Vec<Load> = availability
        .zip(priorities)
        .map(|(availability, fitness)| {
            let percent = (availability * 100)
                .checked_div(normal)
                .unwrap_or(0)
                .min(left);
            left -= percent;
            let panics = panics(fitness);
            Load { percent, panics }
        })
        .collect();
    // What rounding left over; all of it where one of hundreds is fit.
    let fit = loads.iter_mut().zip(priorities);
    if let Some((load, _)) = fit.into_iter().find(|(_, fitness)| fitness.usable > 0) {
        load.percent += left;
    }
    loads
}

/// Traffic by the number of endpoints, whatever their health.
fn in_total_panic(priorities: &[Fitness]) -> Vec<Load> {
    let all: usize = priorities.iter().map(|fitness| fitness.total).sum();
    let mut left = if all == 0 { 0 } else { 100 };
    let mut loads: Vec<Load> = priorities
        .iter()
        .map(|fitness| {
            let percent = (100 * fitness.total).checked_div(all).unwrap_or(0) as u32;
            left -= percent;
            let panics = true;
            Load { percent, panics }
        })
        .collect();
    if let Some(load) = loads.iter_mut().find(|load| load.percent > 0) {
        load.percent += left;
    }
    loads
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percents(priorities: &[(usize, usize)], threshold: u32) -> Vec<u32> {
        loaded(priorities, threshold)
            .iter()
            .map(|load| load.percent)
            .collect()
    }

    fn loaded(priorities: &[(usize, usize)], threshold: u32) -> Vec<Load> {
        let fitness: Vec<Fitness> = priorities
            .iter()
            .map(|&(usable, total)| Fitness { usable, total })
            .collect();
        loads(&fitness, threshold)
    }

    #[test]
    fn a_priority_spills_over_only_when_less_than_five_sevenths_of_it_are_fit() {
        // The table of Envoy's documentation on priority levels.
        for (usable, expected) in [
            (100, [100, 0]),
            (72, [100, 0]),
            (71, [99, 1]),
            (50, [70, 30]),
            (25, [35, 65]),
            (0, [0, 100]),
        ] {
            assert_eq!(percents(&[(usable, 100), (100, 100)], 0), expected);
        }
        assert_eq!(percents(&[(25, 100), (25, 100)], 0), [50, 50]);
        assert_eq!(percents(&[(0, 100), (0, 100), (20, 100)], 0), [0, 0, 100]);
    }

    #[test]
    fn nothing_fit_means_no_traffic_and_no_panic_by_default() {
        let none = Load::default();
        assert_eq!(loaded(&[(0, 5), (0, 3)], 0), [none, none]);
        assert_eq!(loaded(&[], 0), []);
    }

    #[test]
    fn the_only_fit_one_of_hundreds_takes_all() {
        assert_eq!(percents(&[(0, 10), (1, 200)], 0), [0, 100]);
    }

    #[test]
    fn with_a_threshold_a_thin_cluster_panics_and_shares_by_size() {
        let panic = |percent| Load {
            percent,
            panics: true,
        };
        assert_eq!(loaded(&[(0, 5), (0, 15)], 50), [panic(25), panic(75)]);
        assert_eq!(loaded(&[(4, 10)], 50), [panic(100)]);
        assert!(!loaded(&[(5, 10)], 50)[0].panics);
        // A level that others stand in for does not panic.
        assert!(!loaded(&[(0, 10), (10, 10)], 50)[0].panics);
    }

    proptest! {
        #[test]
        fn loads_are_a_hundred_percent_of_what_is_fit(
            sizes in prop::collection::vec((0_usize..20, 0_usize..20), 1..6), threshold in 0_u32..100
        ) {
            let priorities: Vec<Fitness> = sizes
                .iter()
                .map(|&(usable, more)| Fitness { usable, total: usable + more })
                .collect();
            let loads = loads(&priorities, threshold);
            let sum: u32 = loads.iter().map(|load| load.percent).sum();
            let fit = priorities.iter().any(|fitness| fitness.usable > 0);
            prop_assert!(sum == 100 || (sum == 0 && !fit));
            for (load, fitness) in loads.iter().zip(&priorities) {
                prop_assert!(load.percent == 0 || load.panics || fitness.usable > 0);
            }
        }
    }
}
