//! Time from a changed file to the live route, and resident memory, with many VirtualServices, one
//! per file. Runs the real binary and prints figures; it asserts nothing about time.
//!
//! `cargo bench --bench reload [-- COUNT]`; 5,000 VirtualServices unless told otherwise.

mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use process::Process;

const CHANGES: usize = 60;

fn virtual_service(n: usize, text: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: route-{n}\nspec:\n  hosts:\n    - host-{n}.example.com\n  gateways:\n    - gw\n  http:\n    - match:\n        - uri:\n            prefix: /api\n      route:\n        - destination:\n            host: backend.internal\n    - match:\n        - uri:\n            exact: /exact\n      route:\n        - destination:\n            host: backend.internal\n    - directResponse:\n        status: 200\n        body:\n          string: {text}\n"
    )
}

const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    - port: {number: 80, name: http, protocol: HTTP}\n      hosts: [\"*\"]\n";

const SERVICE: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: backend}\nspec:\n  hosts: [backend.internal]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]\n";

fn body(stream: &mut TcpStream, host: &str) -> String {
    stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
        .unwrap();
    let mut buffer = [0; 4096];
    let got = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..got])
        .rsplit("\r\n")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn main() {
    let count = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(5_000);
    let mut files = vec![
        ("gateway.yaml".to_owned(), GATEWAY.to_owned()),
        ("service.yaml".to_owned(), SERVICE.to_owned()),
    ];
    files.extend((0..count).map(|n| (format!("vs-{n}.yaml"), virtual_service(n, "first"))));
    let started = Instant::now();
    let gateway = Process::gateway(&files, 80);
    println!(
        "{count} VirtualServices: written and serving after {} ms",
        started.elapsed().as_millis()
    );
    let mut stream = TcpStream::connect(gateway.addr).unwrap();
    stream.set_nodelay(true).unwrap();
    println!(
        "{count} VirtualServices: resident {} KiB at first",
        gateway.resident_kib()
    );
    let mut times = Vec::new();
    for turn in 0..CHANGES {
        let n = turn * 7919 % count;
        let text = format!("turn{turn}");
        let next = gateway.folder().join("next");
        std::fs::write(&next, virtual_service(n, &text)).unwrap();
        let changed = Instant::now();
        std::fs::rename(&next, gateway.manifests().join(format!("vs-{n}.yaml"))).unwrap();
        while body(&mut stream, &format!("host-{n}.example.com")) != text {
            assert!(
                changed.elapsed() < Duration::from_secs(30),
                "the change never came"
            );
        }
        times.push(changed.elapsed());
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros() as f64 / 1000.0;
    println!(
        "{count} VirtualServices: change to live route, {CHANGES} changes: min {:.1} median {:.1} p90 {:.1} max {:.1} ms",
        at(0),
        at(50),
        at(90),
        at(100)
    );
    println!(
        "{count} VirtualServices: resident {} KiB after {CHANGES} changes",
        gateway.resident_kib()
    );
}
