//! The `outlierDetection` block: which endpoints are ejected, and for how long.
//!
//! Defaults and zeros are those of Istio's translation to Envoy: 0 turns
//! `consecutive5xxErrors` and `consecutiveGatewayErrors` off, and leaves the other numbers at
//! their defaults. `consecutiveErrors` is accepted by Istio and has no effect.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::quantity::parse_duration;
use crate::model::istio::destination_rule::OutlierDetection;
use crate::plan::Outlier;

/// What a block asks for.
pub(super) fn read(block: &OutlierDetection) -> Outlier {
    let defaults = Outlier::default();
    let duration = |text: &Option<String>, default: Duration| {
        let read = text.as_deref().map(|text| parse_duration(text, false));
        read.and_then(Result::ok).unwrap_or(default)
    };
    let splits = block.split_external_local_origin_errors == Some(true);
    let local = block.consecutive_local_origin_failures;
    Outlier {
        consecutive_5xx: match block.consecutive_5xx_errors {
            Some(limit) => NonZeroU32::new(limit),
            None => defaults.consecutive_5xx,
        },
        consecutive_gateway: block.consecutive_gateway_errors.and_then(NonZeroU32::new),
        local_origin: splits
            .then(|| local.and_then(NonZeroU32::new).or(NonZeroU32::new(5)))
            .flatten(),
        interval: duration(&block.interval, defaults.interval),
        base_ejection: duration(&block.base_ejection_time, defaults.base_ejection),
        max_ejection_percent: match percent(block.max_ejection_percent) {
            0 => defaults.max_ejection_percent,
            percent => percent,
        },
        min_health_percent: percent(block.min_health_percent),
    }
}

/// Fields that are set and change nothing, each with why.
pub(super) fn inert(block: &OutlierDetection) -> Vec<(&'static str, &'static str)> {
    let mut inert = Vec::new();
    if block.consecutive_errors.is_some() {
        inert.push((
            "consecutiveErrors",
            "Istio ignores it; write consecutive5xxErrors or consecutiveGatewayErrors",
        ));
    }
    let read = read(block);
    if block.consecutive_local_origin_failures.is_some() && read.local_origin.is_none() {
        inert.push((
            "consecutiveLocalOriginFailures",
            "it counts only with splitExternalLocalOriginErrors: true",
        ));
    }
    if let (Some(gateway), Some(all)) = (read.consecutive_gateway, read.consecutive_5xx)
        && gateway >= all
    {
        inert.push((
            "consecutiveGatewayErrors",
            "consecutive5xxErrors counts the same answers and is reached first",
        ));
    }
    if block.max_ejection_percent == Some(0) {
        inert.push((
            "maxEjectionPercent",
            "0 is unset to Istio, so 10 holds; to eject nobody, leave the block out",
        ));
    }
    inert
}

fn percent(percent: Option<i32>) -> u32 {
    u32::try_from(percent.unwrap_or_default())
        .unwrap_or_default()
        .min(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_block_has_istios_defaults() {
        assert_eq!(read(&OutlierDetection::default()), Outlier::default());
    }

    #[test]
    fn zero_turns_the_error_counts_off_and_leaves_the_percentage_at_ten() {
        let outlier = read(&OutlierDetection {
            consecutive_5xx_errors: Some(0),
            consecutive_gateway_errors: Some(0),
            max_ejection_percent: Some(0),
            ..OutlierDetection::default()
        });
        assert_eq!(outlier.consecutive_5xx, None);
        assert_eq!(outlier.consecutive_gateway, None);
        assert_eq!(outlier.max_ejection_percent, 10);
    }

    #[test]
    fn local_failures_are_counted_apart_only_when_asked_five_of_them_by_default() {
        let local = |splits, limit| {
            read(&OutlierDetection {
                split_external_local_origin_errors: splits,
                consecutive_local_origin_failures: limit,
                ..OutlierDetection::default()
            })
            .local_origin
        };
        assert_eq!(local(None, Some(3)), None);
        assert_eq!(local(Some(true), None), NonZeroU32::new(5));
        assert_eq!(local(Some(true), Some(0)), NonZeroU32::new(5));
        assert_eq!(local(Some(true), Some(3)), NonZeroU32::new(3));
    }

    #[test]
    fn fields_without_effect_are_named() {
        let block = OutlierDetection {
            consecutive_errors: Some(7),
            consecutive_local_origin_failures: Some(7),
            consecutive_gateway_errors: Some(5),
            max_ejection_percent: Some(0),
            ..OutlierDetection::default()
        };
        let names: Vec<&str> = inert(&block).iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "consecutiveErrors",
                "consecutiveLocalOriginFailures",
                "consecutiveGatewayErrors",
                "maxEjectionPercent"
            ]
        );
        assert!(inert(&OutlierDetection::default()).is_empty());
    }
}
