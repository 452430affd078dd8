//! Findings about services and rules that are known only when all destinations are resolved.
//!
//! Called when the registry is finished.

use foldhash::{HashMap, HashSet};

use crate::base::{Code, Finding, Findings};

use super::discovery::Discovery;
use super::service::Backing;
use super::{Planned, Registry};

impl Registry<'_> {
    /// Says that a service without records is reached by its address or name.
    pub(super) fn report_unrecorded(
        &self,
        planned: &Planned,
        discovery: &Discovery,
        findings: &mut Findings,
    ) {
        let Some(via) = &discovery.reached_as_whole else {
            return;
        };
        let Some(service) = self.services.get(planned.service) else {
            return;
        };
        let message = format!(
            "the input has no EndpointSlice, Endpoints or Pod for `{}`; it is reached as `{via}`",
            service.host
        );
        findings.push(
            Finding::new(Code::NO_ENDPOINT_RECORDS, message)
                .at(&service.object.origin)
                .of(&service.object.key)
                .hint("add the EndpointSlices to balance over Pods and to use labelled subsets"),
        );
    }

    /// Says that a cluster answers 503, and whose labels are to blame.
    pub(super) fn no_endpoints(&self, planned: &Planned, discovery: &Discovery) -> Finding {
        let host = &planned.cluster.host;
        let service = self.services.get(planned.service);
        if let Some(subset) = self.subset_of(planned)
            && discovery.unlabelled > 0
        {
            let name = &subset.spec.name;
            let labels: Vec<String> = subset
                .spec
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let hint = match discovery.reached_as_whole {
                Some(_) => "add the service's EndpointSlices and Pods to the input",
                None => "correct the labels, or add the Pods of the endpoints to the input",
            };
            let message = format!(
                "no endpoint of `{host}` has the labels of the subset `{name}` ({}); its traffic \
                 answers 503",
                labels.join(", ")
            );
            return Finding::new(Code::NO_ENDPOINTS, message)
                .at(&subset.object.origin_of(&subset.path()))
                .of(&subset.object.key)
                .path(subset.path().to_string())
                .hint(hint);
        }
        let resolution = service.and_then(|service| match service.backing {
            Backing::Entry(spec) => Some(spec.resolution.as_deref().unwrap_or("NONE")),
            _ => None,
        });
        let hint = match resolution {
            Some("NONE") => "resolution NONE is for sidecars; use STATIC or DNS",
            Some("DYNAMIC_DNS") => "name the hosts one by one with resolution DNS",
            Some(_) => "add endpoints, or a workload that the selector matches",
            None => "look at the readiness of its Pods and at its selector",
        };
        let message = format!(
            "`{host}` port {} has no usable endpoint; its traffic answers 503",
            planned.cluster.port
        );
        let finding = Finding::new(Code::NO_ENDPOINTS, message).hint(hint);
        match service {
            Some(service) => finding.at(&service.object.origin).of(&service.object.key),
            None => finding,
        }
    }

    /// Says which DestinationRules and subsets no route came to need.
    pub(super) fn report_unused(&self, findings: &mut Findings) {
        let mut asked: HashMap<usize, HashSet<Option<&str>>> = HashMap::default();
        for ((service, _), outcomes) in &self.outcomes {
            let Some(Some(rule)) = self.rule_of.get(*service) else {
                continue;
            };
            let subsets = outcomes.iter().map(|(subset, _)| subset.as_deref());
            asked.entry(*rule).or_default().extend(subsets);
        }
        for (service, subset) in self.passed.values() {
            if let Some(Some(rule)) = self.rule_of.get(*service) {
                asked.entry(*rule).or_default().insert(subset.as_deref());
            }
        }
        let governing: HashSet<usize> = self.rule_of.iter().flatten().copied().collect();
        for (index, rule) in self.rules.visible() {
            let Some(subsets) = asked.get(&index) else {
                let governs = governing.contains(&index);
                for object in rule.objects() {
                    findings.push(
                        self.unused_rule(&rule.host, governs)
                            .at(&object.origin)
                            .of(&object.key),
                    );
                }
                continue;
            };
            for (name, subset) in &rule.subsets {
                if !subsets.contains(&Some(*name)) {
                    let message = format!("no route names the subset `{name}`; it has no effect");
                    findings.push(
                        Finding::new(Code::UNUSED_OBJECT, message)
                            .at(&subset.object.origin_of(&subset.path()))
                            .of(&subset.object.key)
                            .path(subset.path().to_string()),
                    );
                }
            }
        }
    }

    fn unused_rule(&self, host: &str, governs: bool) -> Finding {
        if governs {
            let message = format!("no route of this gateway leads to `{host}`; it has no effect");
            return Finding::new(Code::UNUSED_OBJECT, message);
        }
        if self.services.find(host).is_some() {
            let message = format!("another DestinationRule holds for `{host}`; it has no effect");
            return Finding::new(Code::UNUSED_OBJECT, message).hint(
                "the gateway's namespace, the service's and the root's are consulted in this order",
            );
        }
        if host.starts_with('*') {
            let message = format!("it holds for no service that `{host}` covers");
            return Finding::new(Code::UNUSED_OBJECT, message);
        }
        if let Some(object) = self.services.hidden(host) {
            let message = format!("its host `{host}` is not exported to the gateway");
            let hint = format!("see exportTo of {} ({})", object.key, object.origin);
            return Finding::new(Code::UNUSED_OBJECT, message).hint(hint);
        }
        let message = format!("no Service or ServiceEntry has its host `{host}`");
        Finding::new(Code::UNKNOWN_DESTINATION_RULE_HOST, message)
            .path("spec.host")
            .hint("write the full name of a known service, or its short name within its namespace")
    }
}
