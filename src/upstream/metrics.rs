//! What is counted per cluster, as metrics. Written when it is asked for.

use crate::observe::Exposition;

use super::Upstreams;

impl Upstreams {
    /// The clusters' metrics in the Prometheus text format. A cluster without outlier
    /// detection has none.
    pub fn metrics(&self) -> String {
        let mut clusters = self.clusters();
        clusters.sort_by(|a, b| a.detector.cluster.cmp(&b.detector.cluster));
        let counts: Vec<_> = clusters
            .iter()
            .map(|cluster| (&*cluster.detector.cluster, cluster.ejections()))
            .filter(|(_, counts)| counts.on)
            .collect();
        let mut out = Exposition::default();
        if counts.is_empty() {
            return out.into_text();
        }
        out.family(
            "pingress_upstream_ejections_total",
            "counter",
            "Endpoints that outlier detection took out of traffic, by reason.",
        );
        for (cluster, counts) in &counts {
            for (reason, total) in &counts.total {
                let labels = [("cluster", *cluster), ("reason", reason.code())];
                out.sample(&labels, total);
            }
        }
        out.family(
            "pingress_upstream_ejections_overflow_total",
            "counter",
            "Ejections that maxEjectionPercent did not allow.",
        );
        for (cluster, counts) in &counts {
            out.sample(&[("cluster", *cluster)], counts.overflows);
        }
        out.family(
            "pingress_upstream_ejected",
            "gauge",
            "Endpoints that are ejected now.",
        );
        for (cluster, counts) in &counts {
            out.sample(&[("cluster", *cluster)], counts.ejected);
        }
        out.into_text()
    }
}
