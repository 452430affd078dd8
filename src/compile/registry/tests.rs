//! Destinations asked of a registry that was built from manifests.

mod endpoints;
mod entries;
mod health_checks;
mod origin_tls;
mod outliers;
mod policies;
mod rules;
mod services;
mod speed;

use std::net::SocketAddr;

use crate::base::{Finding, Findings, Kind, ObjectKey, Origin, Position};
use crate::compile::pattern::Patterns;
use crate::compile::version::{self, Versions};
use crate::compile::{Memory, Options};
use crate::model::FieldPath;
use crate::plan::{Cluster, Clusters, EndpointTable, Fence, Resolution};
use crate::source::{LoadOptions, Loader};

use super::slots::Slots;
use super::{DestinationRef, Registry, Resolved};

/// The objects of a manifest, as they are chosen when there is no earlier version of any.
fn versions(yaml: &str) -> Versions {
    versions_with(LoadOptions::default(), yaml)
}

fn versions_with(loading: LoadOptions, yaml: &str) -> Versions {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yaml");
    std::fs::write(&file, yaml).unwrap();
    let inventory = Loader::new(vec![file], loading).load();
    assert_eq!(
        inventory.findings,
        [],
        "the manifest of the test itself is wrong"
    );
    let patterns = Patterns::default();
    version::choose(
        &inventory,
        &mut Memory::default(),
        &patterns,
        &mut Findings::new(),
    )
    .0
}

/// A destination in a VirtualService of namespace `default`, at a server with port 80.
#[derive(Clone, Copy)]
struct Ask<'a> {
    host: &'a str,
    subset: Option<&'a str>,
    port: Option<u32>,
    namespace: &'a str,
    gateway_port: u16,
}

fn ask(host: &str) -> Ask<'_> {
    Ask {
        host,
        subset: None,
        port: None,
        namespace: "default",
        gateway_port: 80,
    }
}

impl<'a> Ask<'a> {
    fn subset(self, subset: &'a str) -> Self {
        Self {
            subset: Some(subset),
            ..self
        }
    }

    fn port(self, port: u32) -> Self {
        Self {
            port: Some(port),
            ..self
        }
    }

    fn from(self, namespace: &'a str) -> Self {
        Self { namespace, ..self }
    }

    fn gateway_port(self, gateway_port: u16) -> Self {
        Self {
            gateway_port,
            ..self
        }
    }
}

/// What came of some questions.
struct Answers {
    resolved: Vec<Resolved>,
    clusters: Clusters,
    table: EndpointTable,
    findings: Findings,
}

fn answer_with(options: &Options, yaml: &str, asks: &[Ask<'_>]) -> Answers {
    let loading = LoadOptions {
        workload: options.workload.clone(),
        ..LoadOptions::default()
    };
    let versions = versions_with(loading, yaml);
    let mut findings = Findings::new();
    let mut registry = Registry::build(&versions, options, Slots::default(), &mut findings);
    let origin = Origin::new("vs.yaml".into(), Position { line: 7, column: 1 }, 0);
    let object = ObjectKey {
        kind: Kind::VirtualService,
        namespace: "default".into(),
        name: "asks".into(),
    };
    let resolved = asks.iter().enumerate().map(|(index, ask)| {
        let path = FieldPath::spec().field("http").index(index);
        let reference = DestinationRef {
            host: ask.host,
            subset: ask.subset,
            port: ask.port,
            gateway_port: ask.gateway_port,
            namespace: ask.namespace,
            origin: &origin,
            object: &object,
            path: &path,
            consequence: "its traffic answers 503",
        };
        registry.resolve(&reference, &mut findings)
    });
    let resolved = resolved.collect();
    let (clusters, table, _) = registry.finish(&mut findings);
    Answers {
        resolved,
        clusters,
        table,
        findings,
    }
}

fn answer(yaml: &str, asks: &[Ask<'_>]) -> Answers {
    answer_with(&Options::default(), yaml, asks)
}

impl Answers {
    /// The cluster of a question.
    fn cluster(&self, index: usize) -> &Cluster {
        match &self.resolved[index] {
            Resolved::Cluster(id) => self.clusters.get(*id).unwrap(),
            other => panic!("question {index} came to {other:?}"),
        }
    }

    fn fence(&self, index: usize) -> &Fence {
        match &self.resolved[index] {
            Resolved::Fenced(fence) => fence,
            other => panic!("question {index} came to {other:?}"),
        }
    }

    /// The name that is missing.
    fn missing(&self, index: usize) -> &str {
        match &self.resolved[index] {
            Resolved::Missing { name, .. } => name,
            other => panic!("question {index} came to {other:?}"),
        }
    }

    fn resolution(&self, index: usize) -> &Resolution {
        &self.table.clusters[&self.cluster(index).name].resolution
    }

    /// Static addresses of a question's cluster, as text.
    fn addresses(&self, index: usize) -> Vec<String> {
        match self.resolution(index) {
            Resolution::Static(endpoints) => {
                let addresses = endpoints.iter().map(|endpoint| endpoint.addr);
                addresses.map(|addr: SocketAddr| addr.to_string()).collect()
            }
            other => panic!("question {index} is found by {other:?}"),
        }
    }

    /// Names to resolve for a question's cluster, as `name:port`.
    fn names(&self, index: usize) -> Vec<String> {
        match self.resolution(index) {
            Resolution::Dns { names, .. } => names
                .iter()
                .map(|name| format!("{}:{}", name.name, name.port))
                .collect(),
            other => panic!("question {index} is found by {other:?}"),
        }
    }

    /// The only finding with a code.
    fn finding(&self, code: &str) -> &Finding {
        let found = self.with(code);
        assert_eq!(found.len(), 1, "{code} in {:#?}", self.findings);
        found[0]
    }

    fn with(&self, code: &str) -> Vec<&Finding> {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.code.id == code).collect()
    }

    fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<_> = self
            .findings
            .iter()
            .map(|finding| finding.code.id)
            .collect();
        codes.sort_unstable();
        codes
    }
}

/// A Service with one port 80 named `http`, whose slice has a ready endpoint for every version,
/// at 10.0.0.1, 10.0.0.2 and so on, port 8080.
fn service(name: &str, namespace: &str, versions: &[&str]) -> String {
    let mut yaml = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  clusterIP: 10.96.0.1
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-abc
  namespace: {namespace}
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
"
    );
    for (index, version) in versions.iter().enumerate() {
        let at = index + 1;
        yaml += &format!(
            "- addresses: [10.0.0.{at}]
  conditions: {{ready: true}}
  targetRef: {{kind: Pod, name: {name}-{version}, namespace: {namespace}}}
"
        );
    }
    yaml += "---\n";
    for (index, version) in versions.iter().enumerate() {
        let at = index + 1;
        yaml += &pod(
            &format!("{name}-{version}"),
            namespace,
            &format!("10.0.0.{at}"),
            name,
            version,
        );
    }
    yaml
}

fn pod(name: &str, namespace: &str, ip: &str, app: &str, version: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}, version: {version}}}}}
spec: {{containers: [{{name: main, ports: [{{name: web, containerPort: 9080}}]}}]}}
status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: \"True\"}}]}}
---
"
    )
}

/// A DestinationRule whose spec is given, indented by two.
fn rule(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
{spec}
---
"
    )
}

/// A ServiceEntry whose spec is given, indented by two.
fn entry(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
{spec}
---
"
    )
}

const V1_AND_V2: &str = "
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}";
