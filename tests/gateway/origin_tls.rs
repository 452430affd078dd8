//! TLS to origins, with real handshakes: what they see of the gateway, and which of them are
//! spoken to.

mod clients;
mod grpc;
mod matrix;
pub mod origin;
mod pools;
mod probes;
mod rotation;

use crate::harness::*;
use crate::tls::material::{Authority, Issued, secret_yaml};

use origin::{Shows, TlsOrigin};

/// The host of the origins' certificates.
const HOST: &str = "api.example.com";

/// One destination: its name, its origin's port, the protocol it is asked in, the policy.
struct To<'t> {
    name: &'t str,
    port: u16,
    protocol: &'t str,
    policy: &'t str,
    /// Further lines of the ServiceEntry's spec, indented by two.
    more: &'t str,
}

impl<'t> To<'t> {
    fn new(name: &'t str, port: u16, policy: &'t str) -> Self {
        Self {
            name,
            port,
            protocol: "HTTP",
            policy,
            more: "",
        }
    }

    fn over(self, protocol: &'t str) -> Self {
        Self { protocol, ..self }
    }

    fn service(&self) -> String {
        let Self {
            name,
            port,
            protocol,
            more,
            ..
        } = self;
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{name}.internal]\n  ports: [{{number: 443, name: p, protocol: {protocol}, targetPort: {port}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n{more}"
        )
    }

    fn rule(&self) -> String {
        let Self { name, policy, .. } = self;
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec:\n  host: {name}.internal\n  trafficPolicy: {{{policy}}}\n"
        )
    }

    fn route(&self) -> String {
        let name = self.name;
        format!(
            "    - match: [{{uri: {{exact: /{name}}}}}]\n      route: [{{destination: {{host: {name}.internal}}}}]\n      retries: {{attempts: 0}}\n"
        )
    }
}

/// `/name` of every host goes to the destination of that name, once.
fn prepare(to: &[To<'_>], secrets: &[String]) -> Start {
    let routes: String = to.iter().map(To::route).collect();
    let services: Vec<String> = to.iter().map(To::service).collect();
    let rules: Vec<String> = to.iter().map(To::rule).collect();
    Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("routes.yaml", routes_yaml("vs", &["*.com"], &routes)),
        ("services.yaml", services.join("---\n")),
        ("rules.yaml", rules.join("---\n")),
        ("secrets.yaml", secrets.join("---\n")),
    ])
}

fn start(to: &[To<'_>], secrets: &[String]) -> Gateway {
    prepare(to, secrets).ready()
}

/// Asks for [`HOST`] at a destination.
fn get(gateway: &Gateway, name: &str) -> Response {
    gateway.client().get(HOST, &format!("/{name}"), &[])
}

/// A Secret `ca` with the CA of an authority.
fn ca(authority: &Authority) -> String {
    secret_yaml("ca", None, &[("ca.crt", &authority.pem)])
}
