//! When an endpoint that answers badly is kept from traffic: DestinationRule's
//! `outlierDetection`, with Istio's defaults filled in.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Passive ejection of a cluster's endpoints. A cluster without one ejects nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outlier {
    /// `consecutive5xxErrors`: answers of 500 and more in a row; `None` is off (a written 0).
    /// Failures to get an answer count too, unless `local_origin` counts them apart.
    pub consecutive_5xx: Option<NonZeroU32>,
    /// `consecutiveGatewayErrors`: answers of 502, 503 and 504 in a row.
    pub consecutive_gateway: Option<NonZeroU32>,
    /// `consecutiveLocalOriginFailures`, if `splitExternalLocalOriginErrors` is on: connections
    /// that failed, resets and timeouts in a row.
    pub local_origin: Option<NonZeroU32>,
    /// How often it is looked for endpoints whose time is over.
    pub interval: Duration,
    /// How long the first ejection lasts; each one that follows closely lasts this much longer.
    pub base_ejection: Duration,
    /// How much of the cluster may be ejected at once, in percent. Strict: with 10 and fewer
    /// than ten endpoints nobody is ejected.
    pub max_ejection_percent: u32,
    /// With less than this share of healthy endpoints, in percent, all take traffic. 0: never.
    pub min_health_percent: u32,
}

/// Envoy's `max_ejection_time`, which Istio leaves alone.
const LONGEST_EJECTION: Duration = Duration::from_secs(300);

impl Outlier {
    /// The longest ejection; Envoy lengthens its limit for a longer `baseEjectionTime`.
    pub fn longest_ejection(&self) -> Duration {
        LONGEST_EJECTION.max(self.base_ejection)
    }

    /// How long the ejection lasts that follows `streak - 1` others closely.
    pub fn ejection(&self, streak: u32) -> Duration {
        self.base_ejection
            .saturating_mul(streak.max(1))
            .min(self.longest_ejection())
    }

    /// Whether one more may be ejected besides `ejected` of `hosts`.
    pub fn allows(&self, ejected: usize, hosts: usize) -> bool {
        let (ejected, hosts) = (ejected as u128 + 1, hosts as u128);
        ejected * 100 <= hosts * u128::from(self.max_ejection_percent)
    }
}

impl Default for Outlier {
    /// As Istio serves an empty block.
    fn default() -> Self {
        Self {
            consecutive_5xx: NonZeroU32::new(5),
            consecutive_gateway: None,
            local_origin: None,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}

/// In one line, for the operator.
impl fmt::Display for Outlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            (self.consecutive_5xx, "5xx"),
            (self.consecutive_gateway, "gateway errors"),
            (self.local_origin, "local failures"),
        ];
        let mut separator = "ejected after ";
        for (limit, what) in limits {
            if let Some(limit) = limit {
                write!(f, "{separator}{limit} {what}")?;
                separator = " or ";
            }
        }
        if separator != " or " {
            write!(f, "never ejected")?;
        }
        write!(
            f,
            " for {:?}, at most {}%, looked at every {:?}",
            self.base_ejection, self.max_ejection_percent, self.interval
        )?;
        match self.min_health_percent {
            0 => Ok(()),
            percent => write!(f, ", ignored below {percent}% healthy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gotcha_33_ten_percent_of_fewer_than_ten_endpoints_is_nobody() {
        let outlier = Outlier::default();
        assert!(!outlier.allows(0, 0));
        assert!(!outlier.allows(0, 9));
        assert!(outlier.allows(0, 10));
        assert!(!outlier.allows(1, 19));
        assert!(outlier.allows(1, 20));
    }

    #[test]
    fn an_ejection_grows_with_its_streak_up_to_envoys_limit() {
        let outlier = Outlier::default();
        let seconds = |streak| outlier.ejection(streak).as_secs();
        assert_eq!([0, 1, 2, 10, 11].map(seconds), [30, 30, 60, 300, 300]);
        let long = Outlier {
            base_ejection: Duration::from_secs(600),
            ..outlier
        };
        assert_eq!(long.ejection(3).as_secs(), 600);
    }
}
