//! What limits let through of ten times as much, in real time over real sockets: one bucket, and
//! 10,000 keys. And how long requests take while the service that counts them answers, stalls, and
//! is gone. Prints figures; asserts nothing about time.
//!
//! `cargo bench --bench limits [-- SECONDS]`; 20 s for each part unless told otherwise.

mod process;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use process::{BODY, Process, origin};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Of what is let through, how many times as much is asked for.
const EXCESS: f64 = 10.0;
const THREADS: usize = 8;
const KEYS: usize = 10_000;
/// A machine that cannot ask for so much asks so many times as long.
const PATIENCE: f64 = 3.0;
/// How long a check at the service may take.
const TIMEOUT: Duration = Duration::from_millis(50);

/// A limit per key, in tokens.
struct Rate {
    per_second: f64,
    burst: f64,
}

/// What became of the requests with one key.
struct Asked {
    count: usize,
    admitted: usize,
    /// When the first was sent and answered, and the last.
    first: (Instant, Instant),
    last: (Instant, Instant),
}

impl Asked {
    fn add(&mut self, now: (Instant, Instant), is_admitted: bool) {
        self.count += 1;
        self.admitted += usize::from(is_admitted);
        self.first = self.first.min(now);
        self.last = self.last.max(now);
    }

    fn at(now: (Instant, Instant)) -> Self {
        Self {
            count: 0,
            admitted: 0,
            first: now,
            last: now,
        }
    }

    /// What should have been let through, between the two moments that are known best.
    fn expected(&self, rate: &Rate) -> f64 {
        let middle = |(sent, answered): (Instant, Instant)| sent + (answered - sent) / 2;
        let time = middle(self.last) - middle(self.first);
        rate.burst + (rate.per_second * time.as_secs_f64()).floor()
    }
}

fn main() {
    let seconds = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(20);
    let time = Duration::from_secs(seconds);
    let origin = origin();
    accuracy(
        "one bucket",
        origin,
        1,
        time,
        "{requests: 100, unit: second, burst: 200}",
        Rate {
            per_second: 100.0,
            burst: 200.0,
        },
    );
    let limit = "{requests: 3, unit: minute, burst: 1, key: [{header: x-key}]}";
    accuracy(
        "10,000 keys",
        origin,
        KEYS,
        time,
        limit,
        Rate {
            per_second: 0.05,
            burst: 1.0,
        },
    );
    delays(origin, time);
}

fn gateway(origin: u16, limit: &str) -> Process {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n    - port: {{number: 80, name: http, protocol: HTTP}}\n      hosts: [\"*\"]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend}}\nspec:\n  hosts: [backend.internal]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {origin}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: all}}\nspec:\n  hosts: [\"*\"]\n  gateways: [gw]\n  http:\n    - route: [{{destination: {{host: backend.internal}}}}]\n---\napiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: limit}}\nspec:\n  targetRef: {{kind: Gateway, name: gw}}\n{limit}"
    );
    Process::gateway(&[("all.yaml".to_owned(), text)], 80)
}

/// Asks for `EXCESS` times as much as is let through, evenly, as far as the machine can.
fn accuracy(name: &str, origin: u16, keys: usize, time: Duration, limit: &str, rate: Rate) {
    let gateway = gateway(origin, &format!("  limits:\n  - {limit}\n"));
    let addr = gateway.addr;
    let began = Instant::now();
    let per_key = rate.per_second + rate.burst / time.as_secs_f64();
    let per_second = per_key * EXCESS * keys as f64 / THREADS as f64;
    let ask = |thread: usize| {
        let mut client = Client::connect(addr);
        let mut asked: HashMap<usize, Asked> = HashMap::new();
        let own: Vec<usize> = (0..keys.max(THREADS))
            .filter(|key| key % THREADS == thread)
            .map(|key| key % keys)
            .collect();
        for (number, key) in own.iter().cycle().enumerate() {
            let due = began + Duration::from_secs_f64(number as f64 / per_second);
            // Whole rounds, so that all keys are asked for as long.
            if number % own.len() == 0 {
                let passed = (due.max(Instant::now()) - began).as_secs_f64();
                let let_through = (rate.burst + rate.per_second * passed) * keys as f64;
                let is_enough = (number * THREADS) as f64 >= EXCESS * let_through;
                let least = time.as_secs_f64();
                if passed >= least && is_enough || passed >= PATIENCE * least {
                    return asked;
                }
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (status, now) = client.get(&key.to_string());
            assert!(status == 200 || status == 429, "{status}");
            let own = asked.entry(*key).or_insert_with(|| Asked::at(now));
            own.add(now, status == 200);
        }
        asked
    };
    let all = in_threads(&ask);
    let mut of_keys: HashMap<usize, Asked> = HashMap::new();
    for (key, asked) in all.into_iter().flatten() {
        let known = of_keys.entry(key).or_insert_with(|| Asked::at(asked.first));
        known.count += asked.count;
        known.admitted += asked.admitted;
        known.first = known.first.min(asked.first);
        known.last = known.last.max(asked.last);
    }
    let count: usize = of_keys.values().map(|asked| asked.count).sum();
    let admitted: usize = of_keys.values().map(|asked| asked.admitted).sum();
    let expected: f64 = of_keys.values().map(|asked| asked.expected(&rate)).sum();
    let off = |asked: &Asked| asked.admitted as f64 - asked.expected(&rate);
    let least = of_keys.values().map(off).fold(f64::MAX, f64::min);
    let most = of_keys.values().map(off).fold(f64::MIN, f64::max);
    println!(
        "{name}: {count} asked in {:.1} s, {:.1} times as much as the {admitted} let through, of {expected} ({:+.2} %), keys off by {least:+} to {most:+}",
        began.elapsed().as_secs_f64(),
        count as f64 / admitted as f64,
        (admitted as f64 / expected - 1.0) * 100.0
    );
}

fn in_threads<T: Send>(work: &(impl Fn(usize) -> T + Sync)) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.collect()
    })
}

/// How long requests take whose checks are answered, stalled, or go to nobody.
fn delays(origin: u16, time: Duration) {
    let mut service = Service::start();
    let limit = format!(
        "  global: {{service: 'ratelimit.internal:80', domain: d, timeout: {}s, onError: deny}}\n  limits: [{{}}]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: ratelimit}}\nspec:\n  hosts: [ratelimit.internal]\n  ports: [{{number: 80, name: grpc, protocol: GRPC, targetPort: {}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n",
        TIMEOUT.as_secs_f64(),
        service.port
    );
    let gateway = gateway(origin, &limit);
    let addr = gateway.addr;
    Client::connect(addr).get("first");
    for name in ["answers", "stalls", "is gone"] {
        match name {
            "answers" => {}
            "stalls" => service.stall(),
            _ => service.kill(),
        }
        let began = Instant::now();
        let ask = |_| {
            let mut client = Client::connect(addr);
            let (mut took, mut refused) = (Vec::new(), 0);
            while began.elapsed() < time {
                let (status, (sent, answered)) = client.get("all");
                assert!(status == 200 || status == 500, "{status}");
                refused += usize::from(status == 500);
                took.push((answered - sent).as_secs_f64() * 1000.0);
            }
            (took, refused)
        };
        let (took, refused): (Vec<_>, Vec<usize>) = in_threads(&ask).into_iter().unzip();
        let mut took: Vec<f64> = took.into_iter().flatten().collect();
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        println!(
            "a service that {name}, timeout {TIMEOUT:?}: {} requests, {} refused, median {:.1} ms, p99 {:.1}, p99.9 {:.1}, most {:.1}",
            took.len(),
            refused.iter().sum::<usize>(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Status, and when the request was sent and answered.
    fn get(&mut self, key: &str) -> (u16, (Instant, Instant)) {
        let request = format!("GET / HTTP/1.1\r\nHost: bench.example.com\r\nX-Key: {key}\r\n\r\n");
        let sent = Instant::now();
        self.0.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let got = self.0.read(&mut buffer).unwrap();
            assert!(got > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..got]);
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.split_once("content-length: ").expect("a length").1;
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            assert!(length <= BODY.len());
            if body.len() >= length {
                let status = head[9..12].parse().unwrap();
                return (status, (sent, Instant::now()));
            }
        }
    }
}

/// A rate limit service that lets everything through, until it stalls or is killed.
struct Service {
    port: u16,
    stalls: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Service {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bound = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(bound).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stalls, stalled) = watch::channel(false);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, stalled.clone()));
            }
        });
        Self {
            port,
            stalls,
            runtime: Some(runtime),
        }
    }

    fn stall(&self) {
        self.stalls.send_replace(true);
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers every call on a connection with "OK", or takes it and says nothing.
async fn serve(stream: tokio::net::TcpStream, stalled: watch::Receiver<bool>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut held = Vec::new();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        if *stalled.borrow() {
            held.push(respond);
            continue;
        }
        let mut response = Response::new(());
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
        let Ok(mut body) = respond.send_response(response, false) else {
            continue;
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        // A failure is the gateway's going.
        let _ = body.send_data(Bytes::from_static(b"\0\0\0\0\x02\x08\x01"), false);
        let _ = body.send_trailers(trailers);
    }
}
