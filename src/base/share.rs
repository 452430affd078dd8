//! A part of all requests, as finely as Envoy resolves it: in millionths.

use std::fmt;

/// Parts per million, at most all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// How many parts there are.
    pub const WHOLE: u32 = 1_000_000;
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(Self::WHOLE);

    /// From a percentage; what is finer than a millionth is cut off, as Istio does.
    #[must_use]
    pub fn of_percent(percent: f64) -> Self {
        // A cast from a float saturates; NaN is none.
        Self(((percent * 10_000.0) as u32).min(Self::WHOLE))
    }

    /// From Envoy's `FractionalPercent`: a numerator over 100, 10,000 or 1,000,000.
    #[must_use]
    pub fn of_fraction(numerator: u32, denominator: u32) -> Self {
        let parts = u64::from(numerator) * u64::from(Self::WHOLE) / u64::from(denominator.max(1));
        Self(u32::try_from(parts).unwrap_or(Self::WHOLE).min(Self::WHOLE))
    }

    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// Whether a uniformly random number below [`Self::WHOLE`] falls into the share.
    #[must_use]
    pub fn takes(self, random: u32) -> bool {
        random < self.0
    }

    /// Whether a throw falls into the share; `below` gives uniformly random numbers below its
    /// argument. Not asked where the outcome is sure.
    pub fn is_thrown(self, below: impl FnOnce(u32) -> u32) -> bool {
        self.is_all() || (!self.is_none() && self.takes(below(Self::WHOLE)))
    }

    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_exactly_its_part_of_all_numbers() {
        for (share, expected) in [
            (Share::of_percent(0.0), 0),
            (Share::of_percent(0.0001), 1),
            (Share::of_percent(12.5), 125_000),
            (Share::of_percent(100.0), 1_000_000),
            (Share::of_percent(1e9), 1_000_000),
            (Share::of_percent(-1.0), 0),
            (Share::of_percent(f64::NAN), 0),
            (Share::of_fraction(50, 100), 500_000),
            (Share::of_fraction(1, 1_000_000), 1),
            (Share::of_fraction(7, 0), 1_000_000),
            (Share::of_fraction(u32::MAX, 100), 1_000_000),
        ] {
            let taken = (0..Share::WHOLE).filter(|random| share.takes(*random));
            assert_eq!(taken.count(), expected, "{share}");
        }
    }

    #[test]
    fn a_share_prints_as_a_percentage() {
        let shown = [0.0001, 12.5, 100.0].map(|percent| Share::of_percent(percent).to_string());
        assert_eq!(shown, ["0.0001%", "12.5%", "100%"]);
    }
}
