//! Five verbs for end-to-end tests: start a gateway, start an origin, send, write a file, await.
//!
//! The gateway is the real binary with real sockets; origins count what they get.

mod bytes;
mod client;
mod limiter;
mod origin;
mod process;
mod redis;

pub use bytes::{ByteOrigin, Manner, Wire};
pub use client::{Client, Response, exchange};
pub use limiter::{Mood, RateLimitService};
pub use origin::{Behaviour, Origin};
pub use process::{Gateway, Start, install};
pub use redis::RedisServer;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Long enough that only a hang reaches it, on a loaded machine too.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until a condition holds; panics with `what` when it never does.
pub fn await_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A loopback address nobody listens on, from a range of its own per test process: the kernel's
/// ephemeral ports are left alone, so that no outgoing connection takes the port meanwhile.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 180) as u16 * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Ends the clients however the test ends: a scope waits for them also when it fails.
pub struct Ends<'o>(pub &'o std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A loopback socket address.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A Gateway for port 80 and hosts, in namespace `default`.
pub fn gateway_yaml(hosts: &[&str]) -> String {
    let hosts: String = hosts
        .iter()
        .map(|host| format!("      - \"{host}\"\n"))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata:\n  name: gw\nspec:\n  selector:\n    istio: ingressgateway\n  servers:\n    - port:\n        number: 80\n        name: http\n        protocol: HTTP\n      hosts:\n{hosts}"
    )
}

/// A ServiceEntry with one port 80 and endpoints given as (port, version label).
pub fn service_yaml(host: &str, endpoints: &[(u16, &str)]) -> String {
    let name = host.replace('.', "-");
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\nspec:\n  hosts:\n    - {host}\n  ports:\n    - number: 80\n      name: http\n      protocol: HTTP\n  resolution: STATIC\n  endpoints:\n"
    );
    for (port, version) in endpoints {
        text.push_str(&format!(
            "    - address: 127.0.0.1\n      ports:\n        http: {port}\n      labels:\n        version: \"{version}\"\n"
        ));
    }
    text
}

/// A VirtualService on gateway `gw`; `http` is the YAML list, indented by four.
pub fn routes_yaml(name: &str, hosts: &[&str], http: &str) -> String {
    let hosts: String = hosts
        .iter()
        .map(|host| format!("    - \"{host}\"\n"))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: {name}\nspec:\n  hosts:\n{hosts}  gateways:\n    - gw\n  http:\n{http}"
    )
}

/// An http rule list with one rule that sends everything to a host.
pub fn everything_to(host: &str) -> String {
    format!("    - route:\n        - destination:\n            host: {host}\n")
}
