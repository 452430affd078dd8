//! HealthCheckPolicies by the host they probe.
//!
//! Indexed once per load; every cluster of a host, whatever its subset, has the same check. One
//! policy probes a target: the oldest. One that names a port comes before one that does not.

use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashSet};

use crate::base::quantity::parse_duration;
use crate::base::{Code, Finding, Findings, Kind, ObjectKey};
use crate::compile::Options;
use crate::compile::validate::health_check::statuses;
use crate::compile::version::Versions;
use crate::model::own::HealthCheckPolicy;
use crate::model::{FieldPath, Object, Spec};
use crate::plan::{
    Cluster, HealthCheck, HttpProbe, OriginTls, Probe, ProbeKind, ProbeTls, Protocol,
};

use super::name;
use super::service::{Service, Services};

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);
const HEALTHY: u32 = 1;
const UNHEALTHY: u32 = 3;

/// All policies that have a target.
#[derive(Debug, Default)]
pub(super) struct HealthChecks<'a> {
    by_target: HashMap<(Arc<str>, Option<u16>), Policy<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Policy<'a> {
    object: &'a Object,
    spec: &'a HealthCheckPolicy,
}

impl<'a> HealthChecks<'a> {
    /// Indexes the policies among the objects, which come oldest first. One that has errors and
    /// no earlier version probes nobody.
    pub(super) fn index(
        versions: &'a Versions,
        services: &Services<'_>,
        options: &Options,
        findings: &mut Findings,
    ) -> Self {
        let mut checks = Self::default();
        let sound = |object: &&Arc<Object>| versions.damage(&object.key).is_none();
        let mut by_object: Option<HashMap<&ObjectKey, Vec<&Service<'_>>>> = None;
        for object in versions.others().filter(sound) {
            let Spec::HealthCheckPolicy(spec) = &object.spec else {
                continue;
            };
            let policy = Policy { object, spec };
            let by_object = by_object.get_or_insert_with(|| {
                let mut by_object: HashMap<&ObjectKey, Vec<&Service<'_>>> = HashMap::default();
                for service in services.iter() {
                    by_object
                        .entry(&service.object.key)
                        .or_default()
                        .push(service);
                }
                by_object
            });
            let targets = match spec.target_ref.kind.as_deref() {
                Some("Host") => {
                    let namespace = &object.key.namespace;
                    let host = name::expand(&spec.target_ref.name, namespace, &options.domain);
                    let found = services.find(&host).map(|(_, service)| service);
                    found.into_iter().collect()
                }
                kind => {
                    let key = policy.target(kind);
                    by_object.get(&key).cloned().unwrap_or_default()
                }
            };
            if targets.is_empty() {
                findings.push(policy.no_target());
            }
            for service in targets {
                checks.add(policy, service, findings);
            }
        }
        checks
    }

    /// The check of a cluster for a host and port, whose requests are sent in this way.
    pub(super) fn find(
        &self,
        host: &Arc<str>,
        port: u16,
        spoken: Protocol,
        tls: Option<&Arc<OriginTls>>,
    ) -> Option<HealthCheck> {
        if self.by_target.is_empty() {
            return None;
        }
        let at = |port| self.by_target.get(&(host.clone(), port));
        let policy = at(Some(port)).or_else(|| at(None))?;
        Some(HealthCheck {
            probe: Arc::new(policy.probe(host, spoken, tls)),
            object: policy.object.key.clone(),
            origin: policy.object.origin.clone(),
        })
    }

    /// Says which policies probe nobody because no route leads to their target.
    pub(super) fn report_unused<'c>(
        &self,
        clusters: impl Iterator<Item = &'c Cluster>,
        findings: &mut Findings,
    ) {
        let checks = clusters.filter_map(|cluster| cluster.health_check.as_ref());
        let used: HashSet<&ObjectKey> = checks.map(|check| &check.object).collect();
        let mut said = HashSet::default();
        for policy in self.by_target.values() {
            let key = &policy.object.key;
            if !used.contains(key) && said.insert(key) {
                let message = "no route of this gateway leads to its target; it probes nobody";
                findings.push(
                    Finding::new(Code::UNUSED_OBJECT, message)
                        .at(&policy.object.origin)
                        .of(key),
                );
            }
        }
    }

    fn add(&mut self, policy: Policy<'a>, service: &Service<'_>, findings: &mut Findings) {
        let port = policy.spec.target_ref.port.unwrap_or_default();
        if port != 0 && service.port(port).is_none() {
            let path = FieldPath::spec().field("targetRef").field("port");
            let message = format!("`{}` has no port {port}", service.host);
            findings.push(policy.finding(Code::REFERENCED_RESOURCE_NOT_FOUND, &path, message));
            return;
        }
        let port = u16::try_from(port).ok().filter(|port| *port != 0);
        let target = (service.host.clone(), port);
        match self.by_target.get(&target) {
            None => {
                self.by_target.insert(target, policy);
            }
            Some(first) => {
                let message = format!(
                    "`{}` is probed as {} ({}) says, which is older",
                    service.host, first.object.key, first.object.origin
                );
                let path = FieldPath::spec().field("targetRef");
                let finding = policy.finding(Code::SHADOWED, &path, message);
                findings.push(finding.hint("keep one HealthCheckPolicy for each host and port"));
            }
        }
    }
}

impl Policy<'_> {
    /// The object that is named.
    fn target(&self, kind: Option<&str>) -> ObjectKey {
        let target = &self.spec.target_ref;
        let own = &self.object.key.namespace;
        ObjectKey {
            kind: match kind {
                Some("ServiceEntry") => Kind::ServiceEntry,
                _ => Kind::Service,
            },
            namespace: match target.namespace.as_deref() {
                Some(namespace) if !namespace.is_empty() => namespace.into(),
                _ => own.clone(),
            },
            name: target.name.as_str().into(),
        }
    }

    fn no_target(&self) -> Finding {
        let target = &self.spec.target_ref;
        let message = match target.kind.as_deref() {
            Some("Host") => format!("no Service or ServiceEntry has the host `{}`", target.name),
            kind => format!("there is no {} that this gateway sees", self.target(kind)),
        };
        let path = FieldPath::spec().field("targetRef").field("name");
        self.finding(Code::REFERENCED_RESOURCE_NOT_FOUND, &path, message)
            .hint("nobody is probed; correct the name or the namespace")
    }

    fn finding(&self, code: Code, path: &FieldPath, message: String) -> Finding {
        Finding::new(code, message)
            .at(&self.object.origin_of(path))
            .of(&self.object.key)
            .path(path.to_string())
    }

    fn probe(&self, host: &Arc<str>, spoken: Protocol, tls: Option<&Arc<OriginTls>>) -> Probe {
        let spec = self.spec;
        let asked = spec.http.as_ref().and_then(|http| http.host.as_deref());
        let duration = |text: &Option<String>| {
            let read = text.as_deref().map(|text| parse_duration(text, true));
            read.and_then(Result::ok)
        };
        let port = |port: Option<u32>| port.and_then(|port| u16::try_from(port).ok());
        let interval = duration(&spec.interval).unwrap_or(INTERVAL);
        let kind = if let Some(http) = &spec.http {
            let expected: Vec<_> = http.expected_statuses.iter().collect();
            let expected = expected.iter().filter_map(|slot| statuses(&slot.good()?.0));
            let mut expected: Vec<_> = expected.collect();
            if expected.is_empty() {
                expected.push(200..=299);
            }
            let header =
                |(name, value): (&String, &String)| (name.as_str().into(), value.as_str().into());
            ProbeKind::Http(HttpProbe {
                path: http.path.as_deref().unwrap_or("/").into(),
                host: http.host.as_deref().unwrap_or(host).into(),
                headers: http.headers.iter().map(header).collect(),
                expected,
                port: port(http.port),
                http2: spoken == Protocol::H2c,
            })
        } else if let Some(grpc) = &spec.grpc {
            ProbeKind::Grpc {
                service: grpc.service.as_deref().unwrap_or_default().into(),
                port: port(grpc.port),
            }
        } else {
            ProbeKind::Tcp {
                port: spec.tcp.as_ref().and_then(|tcp| port(tcp.port)),
            }
        };
        Probe {
            kind,
            tls: tls.map(|tls| ProbeTls {
                tls: tls.clone(),
                host: asked.map_or_else(|| host.clone(), |asked| without_port(asked).into()),
            }),
            interval,
            jitter: duration(&spec.jitter).unwrap_or(interval / 10),
            timeout: duration(&spec.timeout).unwrap_or(TIMEOUT),
            healthy_threshold: spec.healthy_threshold.unwrap_or(HEALTHY),
            unhealthy_threshold: spec.unhealthy_threshold.unwrap_or(UNHEALTHY),
        }
    }
}

/// The host of a Host header.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
