//! The `loadBalancer` block: how endpoints are chosen.

use crate::model::istio::destination_rule::LoadBalancer;
use crate::plan::{Balance, Balancing};

/// What a block asks for.
pub(super) fn read(block: &LoadBalancer) -> Balancing {
    Balancing::from(match block.simple.as_deref() {
        Some("ROUND_ROBIN") => Balance::RoundRobin,
        Some("RANDOM") => Balance::Random,
        _ => Balance::LeastRequest,
    })
}

/// Fields of a block, and whether they ask for something that is not done.
pub(super) fn unsupported(balancer: &LoadBalancer) -> [(&'static str, bool); 5] {
    let locality = balancer.locality_lb_setting.as_ref();
    [
        ("simple", balancer.simple.as_deref() == Some("PASSTHROUGH")),
        ("consistentHash", balancer.consistent_hash.is_some()),
        (
            "localityLbSetting",
            locality.is_some_and(|setting| setting.enabled != Some(false)),
        ),
        (
            "warmupDurationSecs",
            balancer.warmup_duration_secs.is_some(),
        ),
        ("warmup", balancer.warmup.is_some()),
    ]
}
