//! What clients can and cannot do to the metrics.

use super::harness::*;

/// Of each client, over one connection.
const REQUESTS: usize = 25_000;
const CLIENTS: u64 = 4;
/// Sent before the answers are read.
const BATCH: usize = 100;
/// Of requests, one in four routed.
const KINDS: usize = 32;

/// One request of a kind: routed or not, a method, gRPC or not. Whatever else a client may choose is
/// random.
fn request(random: &mut fastrand::Rng, kind: usize) -> String {
    let word = |random: &mut fastrand::Rng, least: usize, most: usize| -> String {
        let length = random.usize(least..=most);
        std::iter::repeat_with(|| random.lowercase())
            .take(length)
            .collect()
    };
    let domain = ["example.com", "nowhere.test", "example.org", "test"][kind % 4];
    let host = format!("{}.{domain}", word(random, 1, 30));
    let path = format!(
        "/{}/{}?{}={}",
        word(random, 0, 20),
        word(random, 0, 20),
        word(random, 1, 5),
        word(random, 0, 9)
    );
    let method = ["GET", "DELETE", "OPTIONS", "BREW"][kind / 4 % 4];
    let kind = ["text/plain", "application/grpc"][kind / 16 % 2];
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {}\r\nContent-Type: {kind}\r\nX-Request-Id: {}\r\nTraceparent: {}\r\n\r\n",
        word(random, 1, 40),
        word(random, 1, 40),
        word(random, 1, 55),
    )
}

fn series(gateway: &Gateway) -> Vec<String> {
    let metrics = gateway.metrics();
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<String> = lines
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect();
    names.sort();
    names
}

fn count(gateway: &Gateway) -> u64 {
    let metrics = gateway.metrics();
    let lines = metrics.lines();
    let counts = lines.filter(|line| line.starts_with("istio_requests_total{"));
    counts
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn requests_with_random_hosts_and_paths_leave_the_number_of_series_unchanged() {
    let origin = Origin::echo("one");
    let start = Start::one_service("one", "*.example.com", origin.port);
    // What the log costs is not what is to be seen here.
    let gateway = start.settings("  mesh: {accessLogFile: ''}\n").ready();
    // One of each kind, so that what has a series has it.
    let mut random = fastrand::Rng::with_seed(1);
    for kind in 0..KINDS {
        exchange(gateway.addr(), request(&mut random, kind).as_bytes()).expect("an answer");
    }
    await_until("the first requests are counted", || {
        (count(&gateway) == KINDS as u64).then_some(())
    });
    let before = series(&gateway);
    std::thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(100 + seed);
                let mut client = gateway.client();
                for batch in 0..REQUESTS / BATCH {
                    let requests: String = (0..BATCH)
                        .map(|index| request(&mut random, batch + index))
                        .collect();
                    client.write(requests.as_bytes());
                    for _ in 0..BATCH {
                        client.read().expect("an answer");
                    }
                }
            });
        }
    });
    let sent = CLIENTS * REQUESTS as u64;
    await_until("every request is counted", || {
        (count(&gateway) == sent + KINDS as u64).then_some(())
    });
    assert_eq!(series(&gateway), before);
    assert!(origin.count() > REQUESTS, "one in four is routed");
}
