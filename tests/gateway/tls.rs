//! TLS that ends at the gateway, with real handshakes: BoringSSL's client, curl and openssl.

pub mod client;
mod clients;
mod credentials;
mod forwarded;
mod hosts;
mod http2;
mod interop;
mod log;
pub mod material;
mod modes;
mod rotation;

use crate::harness::*;

use client::{Asking, Outcome};
use material::{Authority, Issued, secret_yaml};

/// A Gateway with one HTTPS server per entry: name of its port, hosts, the `tls` block.
fn gateway(servers: &[(&str, &[&str], &str)]) -> String {
    let servers: String = servers
        .iter()
        .map(|(name, hosts, tls)| {
            format!(
                "    - port: {{number: 443, name: {name}, protocol: HTTPS}}\n      hosts: {hosts:?}\n      tls: {{{tls}}}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata:\n  name: gw\nspec:\n  selector:\n    istio: ingressgateway\n  servers:\n{servers}"
    )
}

/// Answers `/` of each host with the host's own name.
fn routes(hosts: &[&str]) -> String {
    let each = hosts.iter().map(|host| {
        let name = host.replace(['.', '*'], "-");
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: \"r{name}\"}}\nspec:\n  hosts: [\"{host}\"]\n  gateways: [gw]\n  http:\n    - directResponse: {{status: 200, body: {{string: \"{host}\"}}}}\n"
        )
    });
    each.collect::<Vec<_>>().join("---\n")
}

/// A gateway for these servers, with a Secret per credential.
fn start(servers: &[(&str, &[&str], &str)], secrets: &[String], hosts: &[&str]) -> Gateway {
    Start::with(&[
        ("gateway.yaml", gateway(servers)),
        ("routes.yaml", routes(hosts)),
        ("secrets.yaml", secrets.join("---\n")),
    ])
    .port(443)
    .ready()
}

/// One HTTPS server for `a.example.com` that knows clients' certificates but asks for none, in front
/// of an origin.
fn start_optional(own: &Issued, clients: &Authority, origin: &Origin) -> Start {
    let tls = "mode: OPTIONAL_MUTUAL, credentialName: own";
    Start::with(&[
        (
            "gateway.yaml",
            gateway(&[("https", &["a.example.com"], tls)]),
        ),
        (
            "routes.yaml",
            routes_yaml("r", &["a.example.com"], &everything_to("origin.test")),
        ),
        (
            "origin.yaml",
            service_yaml("origin.test", &[(origin.port, "")]),
        ),
        (
            "secrets.yaml",
            secret_yaml("own", Some(own), &[("ca.crt", &clients.pem)]),
        ),
    ])
    .port(443)
}
