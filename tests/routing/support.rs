//! Manifests in, decisions out.

pub mod envoy_filter;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingress::base::{Code, Finding};
use pingress::compile::{Compiled, Memory, Options, compile};
use pingress::plan::{Action, Decision, Forward, Guards, LimitId, Request, Route, Target};
use pingress::source::{LoadOptions, Loader};

/// A Gateway `default/edge` with one plaintext server for every host on port 80.
pub const EDGE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*']
";

/// A ServiceEntry with one HTTP port 80 and one endpoint.
pub fn service(host: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {}}}
spec:
  hosts: [{host}]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 10.0.0.1}}]
",
        host.replace('.', "-")
    )
}

/// A VirtualService for hosts on the Gateway `edge`; `rules` is the list of `spec.http`.
pub fn routes(name: &str, hosts: &str, rules: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{hosts}]
  gateways: [edge]
  http:
{rules}
"
    )
}

/// A rule that answers with a text, for telling rules apart.
pub fn answers(matches: &str, text: &str) -> String {
    let matches = if matches.is_empty() {
        String::new()
    } else {
        format!("match: [{matches}], ")
    };
    format!("  - {{{matches}directResponse: {{status: 200, body: {{string: {text}}}}}}}\n")
}

/// Compiled manifests.
pub struct World {
    pub compiled: Compiled,
}

/// A request about to be asked.
#[derive(Clone)]
pub struct Ask {
    host: String,
    authority: String,
    path: String,
    method: Method,
    scheme: &'static str,
    headers: HeaderMap,
    port: u16,
}

pub fn load(documents: &[&str], options: &Options) -> World {
    load_after(documents, options, &mut Memory::default())
}

pub fn load_after(documents: &[&str], options: &Options, memory: &mut Memory) -> World {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), documents.join("\n---\n")).unwrap();
    let inventory = Loader::new(vec![folder.path().to_owned()], LoadOptions::default()).load();
    World {
        compiled: compile(&inventory, memory, options),
    }
}

pub fn world(documents: &[&str]) -> World {
    load(documents, &Options::default())
}

pub fn get(host: &str, path: &str) -> Ask {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    Ask {
        host: name.to_ascii_lowercase(),
        authority: host.to_owned(),
        path: path.to_owned(),
        method: Method::GET,
        scheme: "http",
        headers: HeaderMap::new(),
        port: 80,
    }
}

impl Ask {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
        self
    }

    pub fn method(mut self, method: &str) -> Self {
        self.method = Method::from_bytes(method.as_bytes()).unwrap();
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }
}

impl World {
    /// The decision in a few words: destinations, answer, redirect, `fenced: …` or `404`.
    pub fn ask(&self, ask: &Ask) -> String {
        self.decide(ask, |decision| match decision {
            Decision::Route { route, .. } => self.show(route),
            Decision::Fenced(fence) => format!("fenced: {}", fence.reason),
            Decision::HttpsRedirect { .. } => "https".to_owned(),
            Decision::NoRoute { .. } => "404 no route".to_owned(),
            Decision::NoHost => "404 no host".to_owned(),
        })
    }

    /// The decision for a plain GET.
    pub fn get(&self, host: &str, path: &str) -> String {
        self.ask(&get(host, path))
    }

    /// What the winning rule forwards.
    pub fn forward<R>(&self, ask: &Ask, look: impl FnOnce(&Forward) -> R) -> R {
        self.decide(ask, |decision| match decision {
            Decision::Route { route, .. } => match &*route.action {
                Action::Forward(forward) => look(forward),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
    }

    pub fn route_name(&self, ask: &Ask) -> String {
        self.decide(ask, |decision| match decision {
            Decision::Route { route, .. } => route.name.to_string(),
            other => panic!("{other:?}"),
        })
    }

    pub fn decide<R>(&self, ask: &Ask, look: impl FnOnce(Decision<'_>) -> R) -> R {
        let addr = SocketAddr::from(([0, 0, 0, 0], ask.port));
        let listener = self
            .compiled
            .plan
            .listener(addr)
            .expect("no listener on this port");
        let (path, query) = ask
            .path
            .split_once('?')
            .map_or((ask.path.as_str(), None), |(p, q)| (p, Some(q)));
        look(listener.decide(&Request {
            host: &ask.host,
            authority: &ask.authority,
            path,
            query,
            method: &ask.method,
            scheme: ask.scheme,
            headers: &ask.headers,
            forwarded_https: false,
        }))
    }

    /// The policies that a request passes, in order.
    pub fn passes(&self, ask: &Ask) -> Vec<String> {
        let limits = &self.compiled.plan.limits;
        let name = |id: &LimitId| limits[id.0 as usize].policy.id.to_string();
        self.guards(ask, |guards| {
            let front = guards.front.iter().map(|id| format!("first {}", name(id)));
            front.chain(guards.back.iter().map(name)).collect()
        })
    }

    /// Their numbers.
    pub fn limits(&self, ask: &Ask) -> Vec<LimitId> {
        self.guards(ask, |guards| {
            guards.front.iter().chain(&guards.back).copied().collect()
        })
    }

    /// The policy that its response is compressed by.
    pub fn compressed(&self, host: &str, path: &str) -> String {
        let policies = &self.compiled.plan.checks.compression;
        self.guards(&get(host, path), |guards| {
            let id = guards.compression;
            id.map_or(String::new(), |id| policies[id.0].id.to_string())
        })
    }

    fn guards<R: Default>(&self, ask: &Ask, look: impl FnOnce(&Guards) -> R) -> R {
        let addr = SocketAddr::from(([0, 0, 0, 0], ask.port));
        let listener = self.compiled.plan.listener(addr);
        let listener = listener.expect("no listener on this port");
        let Some(guarding) = listener.guarding.as_deref() else {
            return R::default();
        };
        let guards = self.decide(ask, |decision| match decision {
            Decision::Route { index, .. } => {
                let host = listener.hosts.find(&ask.host).unwrap();
                guarding.of(host as usize, index as usize)
            }
            _ => guarding.unrouted(),
        });
        look(guards.unwrap())
    }

    pub fn listens(&self, port: u16) -> bool {
        self.compiled
            .plan
            .listener(SocketAddr::from(([0, 0, 0, 0], port)))
            .is_some()
    }

    /// Findings with a code, as `path: message`.
    pub fn found(&self, code: Code) -> Vec<String> {
        self.all(|finding| finding.code == code)
    }

    /// The field paths of the findings with a code.
    pub fn paths(&self, code: Code) -> Vec<String> {
        let findings = self.compiled.findings.iter();
        findings
            .filter(|finding| finding.code == code)
            .map(|finding| finding.path.clone())
            .collect()
    }

    /// Findings that are not only information.
    pub fn troubles(&self) -> Vec<String> {
        self.all(|finding| finding.severity > pingress::base::Severity::Info)
    }

    fn all(&self, wanted: impl Fn(&Finding) -> bool) -> Vec<String> {
        let findings = self
            .compiled
            .findings
            .iter()
            .filter(|finding| wanted(finding));
        findings
            .map(|finding| format!("{}: {}", finding.path, finding.message))
            .collect()
    }

    fn show(&self, route: &Route) -> String {
        match &*route.action {
            Action::Forward(forward) => {
                let shown =
                    forward
                        .destinations
                        .iter()
                        .map(|destination| match &destination.target {
                            Target::Cluster(id) => {
                                self.compiled.plan.cluster(*id).unwrap().name.to_string()
                            }
                            Target::Missing { name, .. } => format!("missing {name}"),
                        });
                shown.collect::<Vec<_>>().join(", ")
            }
            Action::Redirect { redirect, .. } => format!("redirect {}", redirect.status),
            Action::Direct { response, .. } => String::from_utf8_lossy(&response.body).into_owned(),
            Action::Fenced(fence) => format!("fenced: {}", fence.reason),
        }
    }
}
