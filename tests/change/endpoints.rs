//! Endpoints that come and go under load.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::*;

const GROUP: u8 = 20;
const STEPS: usize = 50;
const CLIENTS: usize = 4;

/// An origin that can be taken down: its port is closed, and so is every connection.
struct Pod {
    down: Arc<AtomicBool>,
    accepting: std::thread::JoinHandle<()>,
    address: (Ipv4Addr, u16),
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Pod {
    fn start(address: (Ipv4Addr, u16)) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let down = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (is_down, kept) = (down.clone(), streams.clone());
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_down.load(Ordering::SeqCst) {
                    return;
                }
                kept.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || serve(stream));
            }
        });
        Self {
            down,
            accepting,
            address,
            streams,
        }
    }

    fn stop(self) {
        self.down.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.accepting.join().unwrap();
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.get_mut().write_all(answer).ok()?;
    }
}

/// Each group has its own: a port that was closed stays taken for as long as a process that another
/// test starts still has its parent's descriptors.
fn addresses(group: usize) -> impl Iterator<Item = Ipv4Addr> {
    (1..=GROUP).map(move |last| Ipv4Addr::new(127, 0, 1 + group as u8, last))
}

fn slice_yaml(port: u16, group: usize) -> String {
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: shop-1\n  namespace: default\n  labels:\n    kubernetes.io/service-name: shop\naddressType: IPv4\nports:\n  - name: http\n    port: {port}\nendpoints:\n"
    );
    for address in addresses(group) {
        text.push_str(&format!(
            "  - addresses: [{address}]\n    conditions: {{ready: true}}\n"
        ));
    }
    text
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: shop\n  namespace: default\nspec:\n  ports:\n    - name: http\n      port: 80\n";

#[test]
fn twenty_endpoints_that_come_and_go_fifty_times_under_load_fail_no_request() {
    let port = free_port();
    let start = |group| -> Vec<Pod> {
        addresses(group)
            .map(|address| Pod::start((address, port)))
            .collect()
    };
    let mut serving = start(0);
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("service.yaml", SERVICE.to_owned()),
        ("slice.yaml", slice_yaml(port, 0)),
        (
            "routes.yaml",
            routes_yaml(
                "shop",
                &["*"],
                &everything_to("shop.default.svc.cluster.local"),
            ),
        ),
    ])
    .ready();
    let swaps = |gateway: &Gateway| {
        let metrics = gateway.metrics();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("pingress_plan_swaps_total"));
        line.map(ToOwned::to_owned)
    };
    let before = swaps(&gateway);
    let over = AtomicBool::new(false);
    let answered: [AtomicUsize; CLIENTS] = Default::default();
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for answered in &answered {
            let (gateway, over) = (&gateway, &over);
            scope.spawn(move || {
                // The others learn of a failure by their counts standing still.
                let mut client = gateway.client();
                while !over.load(Ordering::SeqCst) {
                    let response = client.get("a.example.com", "/", &[]);
                    assert_eq!(response.status, 200, "{}", response.body);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for step in 1..=STEPS {
            let next = start(step);
            gateway.write("slice.yaml", &slice_yaml(port, step));
            let wanted: HashSet<String> = addresses(step)
                .map(|address| format!("{address}:{port}"))
                .collect();
            await_until("the endpoints have changed", || {
                let page = gateway.admin("/clusters").body;
                let shown = |address: &String| page.contains(&format!("{address} "));
                let gone = addresses(step - 1).map(|address| format!("{address}:{port}"));
                (wanted.iter().all(shown) && !gone.into_iter().any(|address| shown(&address)))
                    .then_some(())
            });
            // The drain: whatever was sent to a removed endpoint is answered by then.
            let seen = answered
                .each_ref()
                .map(|count| count.load(Ordering::SeqCst));
            await_until("the requests in flight are answered", || {
                let mut pairs = answered.iter().zip(seen);
                let later =
                    |(count, seen): (&AtomicUsize, usize)| count.load(Ordering::SeqCst) >= seen + 2;
                pairs.all(later).then_some(())
            });
            for pod in std::mem::replace(&mut serving, next) {
                pod.stop();
            }
        }
    });
    assert_eq!(swaps(&gateway), before, "endpoints need no new plan");
    let total: usize = answered
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .sum();
    assert!(total >= STEPS * CLIENTS * 2, "{total}");
    for pod in serving {
        pod.stop();
    }
}

#[test]
fn a_request_in_flight_to_a_removed_endpoint_finishes() {
    let (old, new) = (Origin::start("old", Behaviour::Hold), Origin::echo("new"));
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("one.internal", &[(old.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml("a", &["*"], &everything_to("one.internal")),
        ),
    ])
    .ready();
    let mut held = gateway.client();
    held.write(b"GET /held HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    await_until("the old endpoint has the request", || {
        (old.count() == 1).then_some(())
    });
    gateway.write(
        "service.yaml",
        &service_yaml("one.internal", &[(new.port, "v1")]),
    );
    await_until("the old endpoint is gone", || {
        let page = gateway.admin("/clusters").body;
        (!page.contains(&format!(":{} ", old.port))).then_some(())
    });
    for _ in 0..10 {
        assert!(gateway.get("a.example.com", "/").body.starts_with("new"));
    }
    old.release();
    let answer = held.read().unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("old\n"), "{}", answer.body);
    // Its connection is idle now and the client's is open, yet it is not used again.
    held.write(b"GET /next HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    assert!(held.read().unwrap().body.starts_with("new"));
    assert_eq!(old.count(), 1);
}
