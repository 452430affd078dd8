//! A histogram with Envoy's buckets, in the Prometheus text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Envoy's histogram buckets as printed.
const BUCKETS: [&str; 19] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000",
    "30000", "60000", "300000", "600000", "1800000", "3600000",
];

/// The same in thousandths, so that a duration's microseconds compare without floating point.
const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// Counts of one quantity, by bucket. Observed without a lock.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Not cumulative; the last is `+Inf`.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// `thousandths` chooses the bucket, `sum` is added up in a unit that `render` divides by.
    pub(super) fn observe(&self, thousandths: u64, sum: u64) {
        let index = BOUNDS.partition_point(|bound| *bound < thousandths);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    /// How many were observed.
    pub(super) fn total(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// Appends the metric's lines. `unit`: how much of the sum is one in the metric's unit.
    pub(super) fn render(&self, name: &str, labels: &str, unit: u64, text: &mut String) {
        let mut total = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            total += bucket.load(Ordering::Relaxed);
            let bound = BUCKETS.get(index).copied().unwrap_or("+Inf");
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit as f64;
        let _ = writeln!(
            text,
            "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_counts_below_it_and_a_huge_one_only_in_the_last_bucket() {
        let histogram = Histogram::default();
        histogram.observe(0, 0);
        histogram.observe(500, 0);
        histogram.observe(501, 0);
        histogram.observe(3_600_000_000, 0);
        histogram.observe(u64::MAX, 0);
        let mut text = String::new();
        histogram.render("h", "a=\"b\"", 1, &mut text);
        for line in [
            "h_bucket{a=\"b\",le=\"0.5\"} 2",
            "h_bucket{a=\"b\",le=\"1\"} 3",
            "h_bucket{a=\"b\",le=\"3600000\"} 4",
            "h_bucket{a=\"b\",le=\"+Inf\"} 5",
            "h_count{a=\"b\"} 5",
        ] {
            assert!(
                text.lines().any(|got| got == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
