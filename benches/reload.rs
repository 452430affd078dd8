//! Time from a changed file to the live route, and resident memory, with many VirtualServices, one
//! per file. Runs the real binary and prints figures; it asserts nothing about time.
//!
//! `cargo bench --bench reload [-- COUNT]`; 5,000 VirtualServices unless told otherwise.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CHANGES: usize = 60;

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn virtual_service(n: usize, text: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: route-{n}\nspec:\n  hosts:\n    - host-{n}.example.com\n  gateways:\n    - gw\n  http:\n    - match:\n        - uri:\n            prefix: /api\n      route:\n        - destination:\n            host: backend.internal\n    - match:\n        - uri:\n            exact: /exact\n      route:\n        - destination:\n            host: backend.internal\n    - directResponse:\n        status: 200\n        body:\n          string: {text}\n"
    )
}

fn fixed(folder: &Path) {
    std::fs::write(
        folder.join("gateway.yaml"),
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    - port: {number: 80, name: http, protocol: HTTP}\n      hosts: [\"*\"]\n",
    )
    .unwrap();
    std::fs::write(
        folder.join("service.yaml"),
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: backend}\nspec:\n  hosts: [backend.internal]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]\n",
    )
    .unwrap();
}

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

fn resident_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let count = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(5_000);
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    fixed(&manifests);
    for n in 0..count {
        std::fs::write(
            manifests.join(format!("vs-{n}.yaml")),
            virtual_service(n, "first"),
        )
        .unwrap();
    }
    let (port, admin, status, metrics) = (free_port(), free_port(), free_port(), free_port());
    let settings = folder.path().join("settings.yaml");
    std::fs::write(
        &settings,
        format!("gateway:\n  ports: {{80: {port}}}\n  bind: [127.0.0.1]\n  admin: {{bind: \"127.0.0.1:{admin}\"}}\n  status: {{bind: \"127.0.0.1:{status}\"}}\n  metrics: {{bind: \"127.0.0.1:{metrics}\"}}\n"),
    )
    .unwrap();
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pingress"))
        .args(["run", "--settings"])
        .arg(&settings)
        .arg("--config")
        .arg(&manifests)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = loop {
        if let Ok(stream) = TcpStream::connect(addr) {
            break stream;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none()
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    stream.set_nodelay(true).unwrap();
    println!(
        "{count} VirtualServices: serving after {} ms",
        started.elapsed().as_millis()
    );
    println!(
        "{count} VirtualServices: resident {} KiB at first",
        resident_kib(&child)
    );
    let mut times = Vec::new();
    for turn in 0..CHANGES {
        let n = turn * 7919 % count;
        let text = format!("turn{turn}");
        let next = folder.path().join("next");
        std::fs::write(&next, virtual_service(n, &text)).unwrap();
        let changed = Instant::now();
        std::fs::rename(&next, manifests.join(format!("vs-{n}.yaml"))).unwrap();
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
        resident_kib(&child)
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
