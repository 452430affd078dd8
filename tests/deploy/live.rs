//! A running gateway in every state the dashboard shows, and a real Prometheus that scrapes it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::run;

const PATIENCE: Duration = Duration::from_secs(45);

/// Two services, one of which fails and is ejected; limits, probes, a mirror, a certificate.
const MANIFESTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: ["*"]
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [shop.example.com]
      tls: {mode: SIMPLE, serverCertificate: CERTIFICATE, privateKey: KEY}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
    - match: [{uri: {prefix: /bad}}]
      retries: {attempts: 0}
      route: [{destination: {host: bad.internal}}]
    - match: [{uri: {prefix: /good}}]
      mirror: {host: good.internal}
      route: [{destination: {host: good.internal}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: good}
spec:
  hosts: [good.internal]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: GOOD}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bad}
spec:
  hosts: [bad.internal]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: BAD}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: good}
spec:
  host: good.internal
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 100}
      http: {http1MaxPendingRequests: 100, http2MaxRequests: 100}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bad}
spec:
  host: bad.internal
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 600s, maxEjectionPercent: 100}
---
apiVersion: gateway.pingress.io/v1alpha1
kind: HealthCheckPolicy
metadata: {name: good}
spec:
  targetRef: {kind: ServiceEntry, name: good}
  interval: 1s
  http: {path: /healthz}
"#;

/// The gateway and the Prometheus; both end with this.
pub struct Live {
    processes: Vec<Child>,
    http: u16,
    metrics: u16,
    prometheus: u16,
    _folder: tempfile::TempDir,
}

impl Live {
    /// Starts both, sends what leaves a trace in every metric, and waits for two scrapes of it.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let issued = rcgen::generate_simple_self_signed(["shop.example.com".to_owned()]).unwrap();
        std::fs::write(path("tls.crt"), issued.cert.pem()).unwrap();
        std::fs::write(path("tls.key"), issued.signing_key.serialize_pem()).unwrap();
        let manifests = MANIFESTS
            .replace("CERTIFICATE", path("tls.crt").to_str().unwrap())
            .replace("KEY", path("tls.key").to_str().unwrap())
            .replace("GOOD", &origin("200 OK").to_string())
            .replace("BAD", &origin("500 Internal Server Error").to_string());
        std::fs::write(path("manifests.yaml"), manifests).unwrap();
        let [http, https, admin, status, metrics, prometheus] = [(); 6].map(|()| free_port());
        std::fs::write(
            path("settings.yaml"),
            format!(
                "threads: 1\ngateway:\n  ports: {{80: {http}, 443: {https}}}\n  bind: [127.0.0.1]\n  admin: {{bind: \"127.0.0.1:{admin}\"}}\n  status: {{bind: \"127.0.0.1:{status}\"}}\n  metrics: {{bind: \"127.0.0.1:{metrics}\"}}\n  upgrade: {{folder: \"{}\"}}\n",
                path("upgrade").display()
            ),
        )
        .unwrap();
        std::fs::write(
            path("prometheus.yaml"),
            format!(
                "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n  - job_name: pingress\n    metrics_path: /stats/prometheus\n    static_configs:\n      - targets: ['127.0.0.1:{metrics}']\n        labels: {{namespace: pingress}}\n"
            ),
        )
        .unwrap();
        let gateway = Command::new(env!("CARGO_BIN_EXE_pingress"))
            .arg("run")
            .arg("--settings")
            .arg(path("settings.yaml"))
            .arg("--config")
            .arg(path("manifests.yaml"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut live = Self {
            processes: vec![gateway],
            http,
            metrics,
            prometheus,
            _folder: folder,
        };
        await_that("the gateway is ready", || {
            get(status, "/healthz/ready")?
                .starts_with("HTTP/1.1 200")
                .then_some(())
        });
        live.processes.push(
            Command::new("prometheus")
                .arg(format!(
                    "--config.file={}",
                    live._folder.path().join("prometheus.yaml").display()
                ))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    live._folder.path().join("data").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{prometheus}"))
                .arg("--log.level=error")
                .spawn()
                .expect("the prometheus program; `make test` installs it"),
        );
        live.leave_traces(https);
        live
    }

    fn leave_traces(&self, https: u16) {
        await_that("a request succeeds", || {
            get(self.http, "/good")?
                .starts_with("HTTP/1.1 200")
                .then_some(())
        });
        // The first is answered by the origin, and then the gateway knows of no healthy one.
        await_that("the failing endpoint is ejected", || {
            get(self.http, "/bad")?
                .starts_with("HTTP/1.1 503")
                .then_some(())
        });
        assert!(
            get(self.http, "/nowhere")
                .unwrap()
                .starts_with("HTTP/1.1 404")
        );
        let malformed = exchange(self.http, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
        assert!(malformed.unwrap().starts_with("HTTP/1.1 400"));
        let answer = run(Command::new("curl")
            .args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", "--resolve"])
            .arg(format!("shop.example.com:{https}:127.0.0.1"))
            .arg(format!("https://shop.example.com:{https}/good")));
        assert_eq!(answer, "200");
        let scraped = |query: &str, least: f64| {
            await_that(query, || {
                let result = self.try_query(query)?.ok()?;
                let value = result.first()?["value"][1].as_str()?;
                (value.parse::<f64>().ok()? >= least).then_some(())
            });
        };
        scraped("sum(istio_requests_total{response_code=\"503\"})", 1.0);
        scraped("sum(pingress_tls_handshakes_total)", 1.0);
        scraped("sum(pingress_early_refusals_total)", 1.0);
        // Rates need two samples of every series.
        scraped(
            "min(count_over_time(pingress_early_refusals_total[1h]))",
            2.0,
        );
        scraped(
            "min(count_over_time(istio_requests_total{response_code=\"503\"}[1h]))",
            2.0,
        );
    }

    /// The gateway's own exposition.
    pub fn exposition(&self) -> String {
        get(self.metrics, "/stats/prometheus").unwrap()
    }

    /// What Prometheus makes of an expression: the elements of the result, or what is wrong.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        self.try_query(expression).expect("Prometheus answers")
    }

    fn try_query(&self, expression: &str) -> Option<Result<Vec<Value>, String>> {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let answer = get(self.prometheus, &format!("/api/v1/query?query={query}"))?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).ok()?;
        Some(match body["data"]["result"].as_array() {
            Some(result) => Ok(result.clone()),
            None => Err(body["error"].to_string()),
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Answers every request with a status, one to a connection.
fn origin(status: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, status));
        }
    });
    port
}

fn answer(mut stream: TcpStream, status: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let mut text = format!("HTTP/1.1 {status}\r\n");
    let _ = write!(text, "Content-Length: 2\r\nConnection: close\r\n\r\nok");
    stream.write_all(text.as_bytes())
}

/// The whole answer to a GET; `None` if there is none. In HTTP/1.1 for the gateway's port.
fn get(port: u16, path: &str) -> Option<String> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = exchange(port, &head)?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        return Some(answer);
    }
    let mut whole = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).ok()?;
        whole.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
    Some(format!("{head}\r\n\r\n{whole}"))
}

fn exchange(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn await_that<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Below the ports that the kernel gives to outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 28_000 + (std::process::id() % 40) as u16 * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
