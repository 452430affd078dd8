//! CPU time of the whole gateway process per request, with 1 rule and with many on one host, the
//! last rule hit, in interleaved rounds. Prints medians and spread; asserts nothing about time.
//!
//! `cargo bench --bench request_cpu [-- COUNT]`; 50,000 rules unless told otherwise.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const ROUNDS: usize = 9;
const REQUESTS: usize = 20_000;
const BODY: [u8; 1024] = [b'x'; 1024];

struct Gateway {
    child: Child,
    addr: SocketAddr,
    path: String,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Answers every request with 1 KiB on connections that stay open.
fn origin() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                stream.set_nodelay(true).ok()?;
                let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n".to_vec();
                answer.extend_from_slice(&BODY);
                let mut buffer = [0; 8192];
                let mut held = 0;
                loop {
                    let got = stream
                        .read(&mut buffer[held..])
                        .ok()
                        .filter(|got| *got > 0)?;
                    held += got;
                    if buffer[..held].ends_with(b"\r\n\r\n") {
                        held = 0;
                        stream.write_all(&answer).ok()?;
                    }
                }
                #[allow(unreachable_code)]
                Some(())
            });
        }
    });
    port
}

fn start(rules: usize, exact: bool, origin: u16) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n    - port: {{number: 80, name: http, protocol: HTTP}}\n      hosts: [\"*\"]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend}}\nspec:\n  hosts: [backend.internal]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {origin}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: many}}\nspec:\n  hosts: [\"*\"]\n  gateways: [gw]\n  http:\n"
    );
    let kind = if exact { "exact" } else { "prefix" };
    for n in 0..rules {
        text.push_str(&format!(
            "    - match: [{{uri: {{{kind}: /service-{n:05}/}}}}]\n      route: [{{destination: {{host: backend.internal}}}}]\n"
        ));
    }
    std::fs::write(manifests.join("all.yaml"), text).unwrap();
    let (port, admin, status, metrics) = (free_port(), free_port(), free_port(), free_port());
    let settings = folder.path().join("settings.yaml");
    std::fs::write(
        &settings,
        format!("threads: 1\ngateway:\n  ports: {{80: {port}}}\n  bind: [127.0.0.1]\n  mesh: {{accessLogFile: /dev/null}}\n  admin: {{bind: \"127.0.0.1:{admin}\"}}\n  status: {{bind: \"127.0.0.1:{status}\"}}\n  metrics: {{bind: \"127.0.0.1:{metrics}\"}}\n"),
    )
    .unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_pingress"))
        .args(["run", "--settings"])
        .arg(&settings)
        .arg("--config")
        .arg(&manifests)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    while TcpStream::connect(addr).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Gateway {
        child,
        addr,
        path: format!("/service-{:05}/", rules - 1),
        _folder: folder,
    }
}

/// User and system time of a process in clock ticks.
fn ticks(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Microseconds of CPU per request over one round.
fn round(gateway: &Gateway) -> f64 {
    let mut stream = TcpStream::connect(gateway.addr).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: bench.example.com\r\n\r\n",
        gateway.path
    );
    let mut buffer = vec![0; 65536];
    let before = ticks(&gateway.child);
    for _ in 0..REQUESTS {
        stream.write_all(request.as_bytes()).unwrap();
        let mut got = 0;
        while !(got > BODY.len() && buffer[..got].ends_with(&BODY)) {
            let more = stream.read(&mut buffer[got..]).unwrap();
            assert!(more > 0, "{}", String::from_utf8_lossy(&buffer[..got]));
            got += more;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"));
    }
    // A tick is 10 ms on Linux; 20,000 requests are tens of ticks at the least.
    (ticks(&gateway.child) - before) as f64 * 10_000.0 / REQUESTS as f64
}

fn main() {
    let many = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(50_000);
    let origin = origin();
    let mut gateways = [
        ("1 rule", start(1, false, origin)),
        ("many prefixes", start(many, false, origin)),
        ("many exact", start(many, true, origin)),
    ];
    let mut costs = [const { Vec::new() }; 3];
    for turn in 0..=ROUNDS {
        for ((_, gateway), costs) in gateways.iter().zip(&mut costs) {
            let cost = round(gateway);
            if turn > 0 {
                costs.push(cost);
            }
        }
    }
    let mut base = 0.0;
    for ((name, gateway), costs) in gateways.iter_mut().zip(&mut costs) {
        costs.sort_by(f64::total_cmp);
        let median = costs[costs.len() / 2];
        if base == 0.0 {
            base = median;
        }
        println!(
            "{name} ({many} rules where many): {median:.1} us CPU per request (min {:.1}, max {:.1}), {:.2} x one rule",
            costs[0],
            costs[costs.len() - 1],
            median / base
        );
        gateway.child.kill().unwrap();
        gateway.child.wait().unwrap();
    }
}
