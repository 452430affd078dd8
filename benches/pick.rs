//! What choosing an endpoint costs: 3 and 5,000 endpoints, every balance, even and uneven weights.
//!
//! The promise is 60 ns at either size, counting and uncounting the request included.

use std::net::SocketAddr;
use std::sync::Arc;

use divan::{Bencher, black_box};
use pingress::plan::endpoints::Endpoint;
use pingress::plan::{
    Balance, Cluster, ClusterEndpoints, ClusterId, Digest, EndpointTable, Plan, Protocol,
    Resolution,
};
use pingress::upstream::{Ask, Caller, DnsOptions, Serving, Upstreams, Wants};

const ENDPOINTS: [u32; 2] = [3, 5000];

fn main() {
    divan::main();
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn least_request(bencher: Bencher, count: u32) {
    pick(bencher, Balance::LeastRequest, count, |_| 1);
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn least_request_weighted(bencher: Bencher, count: u32) {
    pick(bencher, Balance::LeastRequest, count, |index| {
        1 + index % 10
    });
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn round_robin(bencher: Bencher, count: u32) {
    pick(bencher, Balance::RoundRobin, count, |_| 1);
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn round_robin_weighted(bencher: Bencher, count: u32) {
    pick(bencher, Balance::RoundRobin, count, |index| 1 + index % 10);
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn random(bencher: Bencher, count: u32) {
    pick(bencher, Balance::Random, count, |_| 1);
}

/// The peer that Pingora is handed; once per request as well.
#[divan::bench(sample_size = 1000)]
fn peer(bencher: Bencher) {
    with_cluster(
        Balance::LeastRequest,
        3,
        |_| 1,
        |serving| {
            let Some(cluster) = serving.cluster(ClusterId(0)) else {
                return;
            };
            let Ok(pick) = cluster.pick(&Ask::default()) else {
                return;
            };
            bencher.bench_local(|| cluster.peer(black_box(&pick), &Caller::of(Wants::Http1)));
        },
    );
}

/// Publishing a changed membership: slow flow, but it holds up the next one.
#[divan::bench(args = ENDPOINTS, sample_count = 20)]
fn publish(bencher: Bencher, count: u32) {
    let runtime = runtime();
    let upstreams = Upstreams::new(DnsOptions::default(), runtime.handle().clone());
    let _serving = upstreams.serve(Arc::new(plan(Balance::RoundRobin)));
    let tables = [
        table(count, |index| 1 + index % 10),
        table(count - 1, |index| 1 + index % 10),
    ];
    let mut turn = tables.iter().cycle();
    bencher.bench_local(|| upstreams.publish(black_box(turn.next().unwrap_or(&tables[0]))));
}

fn pick(bencher: Bencher, balance: Balance, count: u32, weight: fn(u32) -> u32) {
    with_cluster(balance, count, weight, |serving| {
        let Some(cluster) = serving.cluster(ClusterId(0)) else {
            return;
        };
        bencher.bench_local(|| black_box(cluster).pick(&Ask::default()));
    });
}

fn with_cluster(balance: Balance, count: u32, weight: fn(u32) -> u32, run: impl FnOnce(&Serving)) {
    let runtime = runtime();
    let upstreams = Upstreams::new(DnsOptions::default(), runtime.handle().clone());
    upstreams.publish(&table(count, weight));
    run(&upstreams.serve(Arc::new(plan(balance))));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn plan(balance: Balance) -> Plan {
    let cluster = Cluster {
        name: "outbound|80||bench".into(),
        host: "bench".into(),
        port: 80,
        subset: None,
        service_name: "bench".into(),
        service_namespace: "default".into(),
        protocol: Protocol::Http1,
        balancing: balance.into(),
        pool: Default::default(),
        tls: None,
        proxy_protocol: None,
        outlier: None,
        health_check: None,
        origin: None,
        policy_origin: None,
    };
    Plan {
        clusters: [Arc::new(cluster)].into_iter().collect(),
        ..Plan::default()
    }
}

fn table(count: u32, weight: fn(u32) -> u32) -> EndpointTable {
    let endpoints = (0..count)
        .map(|index| {
            let [_, high, middle, low] = index.to_be_bytes();
            let addr = SocketAddr::from(([10, high, middle, low], 8080));
            Endpoint {
                addr,
                weight: weight(index),
                place: Default::default(),
                origin: None,
            }
        })
        .collect();
    let digest = Digest(u128::from(count));
    let entry = ClusterEndpoints {
        resolution: Resolution::Static(endpoints),
        digest,
    };
    EndpointTable {
        clusters: [("outbound|80||bench".into(), Arc::new(entry))].into(),
        digest,
    }
}
