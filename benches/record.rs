//! What recording a finished request costs its thread: metrics alone, and with a line of the
//! access log (budget: 600 ns together).

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use pingress::observe::{
    AccessLogOptions, LogEncoding, LogFormat, Observe, ObserveOptions, Record,
};
use pingress::plan::{Balance, Cluster, Protocol};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn clusters(count: usize) -> Vec<Cluster> {
    (0..count)
        .map(|number| {
            let host = format!("reviews-{number}.default.svc.cluster.local");
            Cluster {
                name: format!("outbound|9080||{host}").into(),
                host: host.into(),
                port: 9080,
                subset: None,
                service_name: "reviews".into(),
                service_namespace: "default".into(),
                protocol: Protocol::Http1,
                balancing: Balance::LeastRequest.into(),
                pool: Default::default(),
                tls: None,
                proxy_protocol: None,
                outlier: None,
                health_check: None,
                origin: None,
                policy_origin: None,
            }
        })
        .collect()
}

fn record(cluster: &Cluster) -> Record<'_> {
    Record {
        start: Duration::from_millis(1_606_343_186_418),
        method: Some("GET"),
        path: Some("/productpage/reviews/0?a=b"),
        protocol: Some("HTTP/1.1"),
        status: 200,
        details: "via_upstream",
        bytes_sent: 1_024,
        duration: Duration::from_micros(4_900),
        upstream_service_time: Some(Duration::from_millis(3)),
        forwarded_for: Some("10.0.0.9"),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0"),
        request_id: Some("84961386-6d84-929d-98bd-c5aee93b5c88"),
        authority: Some("bookinfo.example.com"),
        upstream_host: Some(([10, 44, 1, 27], 9_080).into()),
        cluster: Some(cluster),
        upstream_local_address: Some(([10, 44, 1, 23], 37_652).into()),
        downstream_local_address: Some(([10, 0, 45, 184], 8_080).into()),
        downstream_remote_address: Some(([10, 44, 1, 23], 46_520).into()),
        route_name: Some("default"),
        ..Record::default()
    }
}

fn observe(encoding: Option<LogEncoding>) -> Arc<Observe> {
    let access_log = encoding.map(|encoding| {
        AccessLogOptions::new(
            "/dev/null",
            LogFormat::new(encoding, "").expect("the default format"),
        )
    });
    Observe::new(ObserveOptions {
        access_log,
        ..ObserveOptions::default()
    })
    .expect("/dev/null opens")
}

fn finished(bencher: Bencher<'_, '_>, encoding: Option<LogEncoding>, count: usize) {
    let observe = observe(encoding);
    let clusters = clusters(count);
    let mut next = clusters.iter().cycle();
    bencher
        .with_inputs(|| next.next().map(record))
        .bench_local_values(|record| {
            if let Some(record) = &record {
                observe.finished(black_box(record));
            }
        });
}

#[divan::bench(args = [1, 5_000])]
fn metrics(bencher: Bencher<'_, '_>, clusters: usize) {
    finished(bencher, None, clusters);
}

#[divan::bench(args = [1, 5_000])]
fn metrics_and_text_line(bencher: Bencher<'_, '_>, clusters: usize) {
    finished(bencher, Some(LogEncoding::Text), clusters);
}

#[divan::bench(args = [1, 5_000])]
fn metrics_and_json_line(bencher: Bencher<'_, '_>, clusters: usize) {
    finished(bencher, Some(LogEncoding::Json), clusters);
}
