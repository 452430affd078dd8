//! Connections that are not HTTP: TCP, TLS that ends here, TLS passed through.

mod change;
mod failures;
mod proxy_protocol;
mod shared_port;
mod sni;
mod tcp;

use crate::harness::*;

/// A Gateway `gw` with the given servers, each one line of YAML.
fn gateway(servers: &[&str]) -> String {
    let servers: String = servers
        .iter()
        .map(|server| format!("    - {{{server}}}\n"))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata:\n  name: gw\nspec:\n  selector:\n    istio: ingressgateway\n  servers:\n{servers}"
    )
}

/// A server for every host on TCP port 9000.
const TCP: &str = "port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']";

/// A VirtualService on `gw`; `rules` has its lists, in flow style.
fn routes(name: &str, hosts: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{hosts}]\n  gateways: [gw]\n  {rules}\n"
    )
}

/// A ServiceEntry with TCP port 1 and an endpoint on each of these ports.
fn service(host: &str, ports: &[u16]) -> String {
    let name = host.replace('.', "-");
    let endpoints: String = ports
        .iter()
        .map(|port| format!("{{address: 127.0.0.1, ports: {{tcp: {port}}}}}, "))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{host}]\n  location: MESH_INTERNAL\n  ports: [{{number: 1, name: tcp, protocol: TCP}}]\n  resolution: STATIC\n  endpoints: [{endpoints}]\n"
    )
}

/// Rules that send all connections to one host.
fn all_to(host: &str) -> String {
    format!("tcp: [{{route: [{{destination: {{host: {host}}}}}]}}]")
}

/// A gateway whose TCP port leads to `origin.test` on these ports; `policy` is the traffic policy
/// of its DestinationRule, if any.
fn start(ports: &[u16], policy: &str) -> Start {
    let mut files = vec![
        ("gateway.yaml", gateway(&[TCP])),
        ("routes.yaml", routes("r", "'*'", &all_to("origin.test"))),
        ("origin.yaml", service("origin.test", ports)),
    ];
    if !policy.is_empty() {
        files.push(("rule.yaml", rule("origin.test", policy)));
    }
    Start::with(&files).port(9000)
}

fn rule(host: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: rule}}\nspec:\n  host: {host}\n  trafficPolicy: {{{policy}}}\n"
    )
}

/// The value of a metric whose line has all these texts.
fn metric(gateway: &Gateway, texts: &[&str]) -> Option<u64> {
    let text = gateway.metrics();
    let mut lines = text.lines();
    let line = lines.find(|line| texts.iter().all(|text| line.contains(text)))?;
    line.rsplit(' ').next()?.parse().ok()
}
