//! What choosing an endpoint costs: every balance, even and uneven weights, one locality and ten.
//!
//! The target is 60 ns at any number of endpoints, counting and uncounting the request included,
//! and no allocation (which the tests of `upstream` hold to).

use std::net::SocketAddr;
use std::sync::Arc;

use divan::{Bencher, black_box};
use pingress::plan::endpoints::{Endpoint, Place};
use pingress::plan::{
    Balance, Cluster, ClusterEndpoints, ClusterId, Digest, EndpointTable, HashTable, Plan,
    Protocol, Resolution,
};
use pingress::upstream::{Ask, Caller, DnsOptions, Serving, Upstreams, Wants};

const ENDPOINTS: [u32; 3] = [3, 100, 5000];

fn main() {
    divan::main();
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn least_request(bencher: Bencher, count: u32) {
    pick(bencher, Balance::LeastRequest, &alike(count));
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn least_request_weighted(bencher: Bencher, count: u32) {
    pick(bencher, Balance::LeastRequest, &weighted(count));
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn round_robin(bencher: Bencher, count: u32) {
    pick(bencher, Balance::RoundRobin, &alike(count));
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn round_robin_weighted(bencher: Bencher, count: u32) {
    pick(bencher, Balance::RoundRobin, &weighted(count));
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn random(bencher: Bencher, count: u32) {
    pick(bencher, Balance::Random, &alike(count));
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn ring_hash(bencher: Bencher, count: u32) {
    pick(bencher, Balance::Hash(HashTable::default()), &alike(count));
}

#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn maglev(bencher: Bencher, count: u32) {
    let table = HashTable::Maglev { size: 65_537 };
    pick(bencher, Balance::Hash(table), &alike(count));
}

/// Ten localities with shares of their own (`distribute`).
#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn least_request_distributed(bencher: Bencher, count: u32) {
    let place = |index| Place {
        locality: format!("region/zone-{}/", index % 10).into(),
        share: Some(1 + index % 10),
        ..Place::default()
    };
    pick(bencher, Balance::LeastRequest, &table(count, |_| 1, place));
}

/// Ten localities, the nearest first (`failover`).
#[divan::bench(args = ENDPOINTS, sample_size = 1000)]
fn least_request_failover(bencher: Bencher, count: u32) {
    let place = |index: u32| Place {
        locality: format!("region/zone-{}/", index % 10).into(),
        priority: index % count.min(10),
        share: None,
    };
    pick(bencher, Balance::LeastRequest, &table(count, |_| 1, place));
}

/// The peer that Pingora is handed; once per request as well.
#[divan::bench(sample_size = 1000)]
fn peer(bencher: Bencher) {
    with_cluster(Balance::LeastRequest, &alike(3), |serving| {
        let Some(cluster) = serving.cluster(ClusterId(0)) else {
            return;
        };
        let Ok(pick) = cluster.pick(&Ask::default()) else {
            return;
        };
        bencher.bench_local(|| cluster.peer(black_box(&pick), &Caller::of(Wants::Http1)));
    });
}

/// Publishing a changed membership: slow flow, but it holds up the next one.
#[divan::bench(args = ENDPOINTS, sample_count = 20)]
fn publish(bencher: Bencher, count: u32) {
    let runtime = runtime();
    let upstreams = Upstreams::new(DnsOptions::default(), runtime.handle().clone());
    let _serving = upstreams.serve(Arc::new(plan(Balance::RoundRobin)));
    let tables = [weighted(count), weighted(count - 1)];
    let mut turn = tables.iter().cycle();
    bencher.bench_local(|| upstreams.publish(black_box(turn.next().unwrap_or(&tables[0]))));
}

fn pick(bencher: Bencher, balance: Balance, endpoints: &EndpointTable) {
    with_cluster(balance, endpoints, |serving| {
        let Some(cluster) = serving.cluster(ClusterId(0)) else {
            return;
        };
        // A key of its own for each request, so that no look-up is warm from the last.
        let mut key = 0_u64;
        bencher.bench_local(|| {
            key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
            black_box(cluster).pick(&Ask {
                hash: Some(key),
                ..Ask::default()
            })
        });
    });
}

fn with_cluster(balance: Balance, endpoints: &EndpointTable, run: impl FnOnce(&Serving)) {
    let runtime = runtime();
    let upstreams = Upstreams::new(DnsOptions::default(), runtime.handle().clone());
    upstreams.publish(endpoints);
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

fn alike(count: u32) -> EndpointTable {
    table(count, |_| 1, |_| Place::default())
}

fn weighted(count: u32) -> EndpointTable {
    table(count, |index| 1 + index % 10, |_| Place::default())
}

fn table(count: u32, weight: fn(u32) -> u32, place: impl Fn(u32) -> Place) -> EndpointTable {
    let endpoints = (0..count)
        .map(|index| {
            let [_, high, middle, low] = index.to_be_bytes();
            let addr = SocketAddr::from(([10, high, middle, low], 8080));
            Endpoint {
                addr,
                weight: weight(index),
                place: place(index),
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
