//! What a log that nobody takes costs requests: their time and the gateway's CPU with a log that is
//! written, beside a pipe nobody reads, a pipe whose reader is gone, and a full disk, in interleaved
//! rounds. Prints medians and spread, and what was dropped; asserts nothing about time.
//!
//! `cargo bench --bench log_overload [-- ROUNDS]`; 31 rounds unless told otherwise.

mod process;

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use process::{Process, ask_timed, free_port, origin, spread};

const REQUESTS: usize = 4_000;
/// Rounds that fill pipes and buffers, and are not counted.
const WARM: usize = 3;

struct Case {
    name: &'static str,
    gateway: Process,
    metrics: u16,
    /// Has the pipe open and does not read it.
    _reader: Option<File>,
    p99: Vec<f64>,
    median: Vec<f64>,
    cpu: Vec<f64>,
}

impl Case {
    /// `log` is the log's file, or empty for a pipe at standard output that is closed.
    fn new(name: &'static str, log: &str, origin: u16) -> Self {
        let [port, admin, status, metrics] = [(); 4].map(|()| free_port());
        let folder = tempfile::tempdir().unwrap();
        let manifests = folder.path().join("manifests.yaml");
        std::fs::write(
            &manifests,
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n    - port: {{number: 80, name: http, protocol: HTTP}}\n      hosts: [\"*\"]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend}}\nspec:\n  hosts: [backend.internal]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {origin}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: all}}\nspec:\n  hosts: [\"*\"]\n  gateways: [gw]\n  http:\n    - route: [{{destination: {{host: backend.internal}}}}]\n"
            ),
        )
        .unwrap();
        let mut reader = None;
        let file = match log {
            "" => "/dev/stdout".to_owned(),
            "pipe" => {
                let pipe = folder.path().join("log");
                let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
                assert!(made.success());
                let mut both = OpenOptions::new();
                reader = Some(both.read(true).write(true).open(&pipe).unwrap());
                pipe.display().to_string()
            }
            "file" => folder.path().join("log").display().to_string(),
            other => other.to_owned(),
        };
        let settings = folder.path().join("settings.yaml");
        let text = format!(
            "threads: 1\ngateway:\n  ports: {{80: {port}}}\n  bind: [127.0.0.1]\n  mesh: {{accessLogFile: \"{file}\"}}\n  admin: {{bind: \"127.0.0.1:{admin}\"}}\n  status: {{bind: \"127.0.0.1:{status}\"}}\n  metrics: {{bind: \"127.0.0.1:{metrics}\"}}\n"
        );
        std::fs::write(&settings, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pingress"));
        command.args(["run", "--settings"]).arg(&settings);
        command.arg("--config").arg(&manifests);
        let output = match log {
            // The reader is gone before the first line.
            "" => Stdio::from(std::io::pipe().unwrap().1),
            _ => Stdio::null(),
        };
        Self {
            name,
            gateway: Process::spawn_with(command, output, port, folder),
            metrics,
            _reader: reader,
            p99: Vec::new(),
            median: Vec::new(),
            cpu: Vec::new(),
        }
    }

    fn round(&mut self, counts: bool) {
        let before = self.gateway.ticks();
        let mut times = ask_timed(self.gateway.addr, "/", REQUESTS);
        let ticks = self.gateway.ticks() - before;
        times.sort_unstable();
        if counts {
            let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
            self.p99.push(at(99));
            self.median.push(at(50));
            self.cpu.push(ticks as f64 * 10_000.0 / REQUESTS as f64);
        }
    }

    fn dropped(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        let request =
            "GET /stats/prometheus HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let name = "pingress_access_log_lines_dropped_total ";
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.unwrap_or("?").to_owned()
    }
}

fn main() {
    let rounds: usize = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(31);
    // Without it, every case would fail in the same way.
    OpenOptions::new().write(true).open("/dev/full").unwrap();
    let origin = origin();
    let mut cases = [
        Case::new("written to a file", "file", origin),
        Case::new("a pipe nobody reads", "pipe", origin),
        Case::new("a closed pipe", "", origin),
        Case::new("a full disk", "/dev/full", origin),
    ];
    let started = Instant::now();
    for turn in 0..rounds + WARM {
        // Whoever comes first in a round may find the machine in another state.
        let count = cases.len();
        for offset in 0..count {
            cases[(turn + offset) % count].round(turn >= WARM);
        }
    }
    println!(
        "{rounds} rounds of {REQUESTS} requests in {:?}",
        started.elapsed()
    );
    let base = cases
        .first()
        .map(|case| (case.p99.clone(), case.median.clone()));
    let (base_p99, base_median) = base.unwrap_or_default();
    for case in &mut cases {
        let ratio = |own: &[f64], base: &[f64]| {
            let mut all: Vec<f64> = own.iter().zip(base).map(|(own, base)| own / base).collect();
            spread(&mut all).0
        };
        let ratios = (
            ratio(&case.median, &base_median),
            ratio(&case.p99, &base_p99),
        );
        let (p50, _, _) = spread(&mut case.median);
        let (p99, least, most) = spread(&mut case.p99);
        let (cpu, _, _) = spread(&mut case.cpu);
        println!(
            "{}: median {p50:.0} us ({:.3} x), p99 {p99:.0} us (min {least:.0}, max {most:.0}; {:.3} x in the same round), {cpu:.1} us CPU, {} lines dropped",
            case.name,
            ratios.0,
            ratios.1,
            case.dropped()
        );
    }
}
