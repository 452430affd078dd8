//! What asking a limit about a request costs, at one key and at 100,000.
//!
//! The target is 150 ns at either number, the hash of the key included.

use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingress::base::clock;
use pingress::policy::rate_limit::key::Asked;
use pingress::policy::rate_limit::spec::{Bucket, Limit, Part, RateLimit, Source};
use pingress::policy::rate_limit::state::{Limiter, Limiters};

const KEYS: [u32; 2] = [1, 100_000];

fn main() {
    divan::main();
}

/// All requests in one bucket.
#[divan::bench(sample_size = 1000, sample_count = 1000)]
fn unkeyed(bencher: Bencher) {
    let (limiter, headers) = (limiter(vec![]), [HeaderMap::new()]);
    ask(bencher, &limiter, &headers, 1);
}

#[divan::bench(args = KEYS, sample_size = 1000, sample_count = 1000)]
fn by_client_address(bencher: Bencher, keys: u32) {
    let limiter = limiter(vec![Source::Client { v4: 32, v6: 64 }]);
    ask(bencher, &limiter, &[HeaderMap::new()], keys);
}

#[divan::bench(args = KEYS, sample_size = 1000, sample_count = 1000)]
fn by_header(bencher: Bencher, keys: u32) {
    let name = HeaderName::from_static("x-api-key");
    let limiter = limiter(vec![Source::Header(name.clone())]);
    let headers: Vec<HeaderMap> = (0..keys)
        .map(|key| {
            let value = HeaderValue::try_from(format!("customer-{key:016}"));
            HeaderMap::from_iter([(name.clone(), value.expect("a header value"))])
        })
        .collect();
    ask(bencher, &limiter, &headers, 1);
}

fn limiter(key: Vec<Source>) -> Arc<Limiter> {
    let part = |source| Part::Each {
        source,
        shared: true,
    };
    let limit = Limit {
        group: "bench".into(),
        bucket: Bucket {
            capacity: 1_000_000,
            per_fill: 1_000_000,
            interval: Duration::from_secs(1),
            replicas: 1,
        },
        ways: Box::new([key.into_iter().map(part).collect()]),
        keys: 1 << 18,
        otherwise: false,
    };
    let policy = RateLimit::new("bench", [limit]);
    let limiters = Limiters::default().of([Arc::new(policy)].iter());
    limiters.first().cloned().expect("a limiter")
}

/// Clients and headers come in a scattered order, so that most of the table is not in the near caches.
fn ask(bencher: Bencher, limiter: &Limiter, headers: &[HeaderMap], clients: u32) {
    let now = clock::now();
    let mut turn = 0_u32;
    let mut ask = || {
        turn = turn.wrapping_add(7919);
        let client = std::net::Ipv4Addr::from_bits(0x0a00_0000 + turn % clients);
        let asked = Asked {
            client: Some(client.into()),
            headers: &headers[turn as usize % headers.len()],
            path: "/",
            query: None,
            target: "/",
            method: "GET",
            authority: "a.com",
            scheme: "https",
            cluster: None,
            connection: 0,
        };
        limiter.ask(black_box(&asked), now, |_| 0)
    };
    // Every key has its place: what a new one costs is not what is measured.
    for _ in 0..2 * headers.len().max(clients as usize) {
        black_box(ask());
    }
    bencher.bench_local(ask);
}
