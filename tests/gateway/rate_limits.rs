//! How exactly limits hold when much more comes, over real sockets and by this test's own clock.

use std::time::{Duration, Instant};

use crate::harness::{Client, Gateway, Origin, Start};

const HOST: &str = "shop.example.com";

/// How many times as much as is let through is asked for.
const EXCESS: usize = 10;

/// A machine that is too slow for so much may take so long to ask for it.
const LONGEST: Duration = Duration::from_secs(120);

/// Threads that ask, each on a connection of its own.
const THREADS: usize = 4;

fn limited(origin: &Origin, limit: &str) -> Gateway {
    let limit = format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: limit}}\nspec:\n  targetRef: {{kind: Gateway, name: gw}}\n  limits:\n  - {limit}\n"
    );
    Start::one_service("shop", HOST, origin.port)
        .file("limit.yaml", limit)
        .ready()
}

/// What became of the requests with one key.
#[derive(Clone, Copy, Debug)]
struct Asked {
    count: usize,
    admitted: usize,
    /// Before the first was sent, and after its answer.
    first: (Instant, Instant),
    /// The same of the last.
    last: (Instant, Instant),
    /// The last was refused: what had come in the bucket is used up.
    is_used_up: bool,
}

impl Asked {
    fn ask(before: Option<Self>, client: &mut Client, key: &str) -> Self {
        let sent = Instant::now();
        let status = client.get(HOST, "/", &[&format!("X-Key: {key}")]).status;
        let (now, is_admitted) = ((sent, Instant::now()), status == 200);
        assert!(is_admitted || status == 429, "{status}");
        let mut asked = before.unwrap_or(Self {
            count: 0,
            admitted: 0,
            first: now,
            last: now,
            is_used_up: false,
        });
        asked.count += 1;
        asked.admitted += usize::from(is_admitted);
        asked.last = now;
        asked.is_used_up = !is_admitted;
        asked
    }

    fn is_enough(&self, time: Duration) -> bool {
        let asked_for = self.last.0 - self.first.1;
        self.is_used_up && self.count >= EXCESS * self.admitted && asked_for >= time
    }
}

/// The fewest and the most that a limit lets through of what was asked: a burst, and what came from
/// the first request that was let through to the last one refused, which lie within their round trips.
fn bounds(asked: &Asked, per_second: f64, burst: usize) -> (f64, f64) {
    let came = |from: Instant, to: Instant| (per_second * (to - from).as_secs_f64()).floor();
    let least = came(asked.first.1, asked.last.0);
    let most = came(asked.first.0, asked.last.1);
    (least + burst as f64, most + burst as f64)
}

fn assert_within(admitted: usize, (least, most): (f64, f64)) {
    let admitted = admitted as f64;
    assert!(
        admitted >= least * 0.98 && admitted <= most * 1.02,
        "{admitted} were let through, of {least} to {most}"
    );
}

#[test]
fn ten_times_as_much_as_a_limit_lets_through_its_burst_and_its_rate_within_2_percent() {
    let origin = Origin::echo("shop");
    // The burst is the time for which a busy machine may stop all who ask.
    let gateway = limited(&origin, "{requests: 20, unit: second, burst: 80}");
    let ask = || {
        let mut client = gateway.client();
        let mut asked = None;
        let started = Instant::now();
        loop {
            let now = Asked::ask(asked, &mut client, "all");
            if now.is_enough(Duration::from_secs(5)) || started.elapsed() > LONGEST {
                return now;
            }
            asked = Some(now);
        }
    };
    let all: Vec<Asked> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let first = all.iter().map(|asked| asked.first).min().unwrap();
    let last = all.iter().map(|asked| asked.last).max().unwrap();
    let together = Asked {
        count: all.iter().map(|asked| asked.count).sum(),
        admitted: all.iter().map(|asked| asked.admitted).sum(),
        first,
        last,
        is_used_up: true,
    };
    assert!(together.count >= EXCESS * together.admitted, "{together:?}");
    assert_within(together.admitted, bounds(&together, 20.0, 80));
    assert_eq!(origin.count(), together.admitted);
}

#[test]
fn each_of_200_keys_gets_its_burst_and_its_rate_and_not_one_request_more() {
    const KEYS: usize = 200;
    let origin = Origin::echo("shop");
    let gateway = limited(
        &origin,
        "{requests: 12, unit: minute, burst: 3, key: [{header: x-key}]}",
    );
    let ask = |thread: usize| {
        let mut client = gateway.client();
        let mine = (0..KEYS).filter(|key| key % THREADS == thread);
        let mut all: Vec<(usize, Option<Asked>)> = mine.map(|key| (key, None)).collect();
        let started = Instant::now();
        while started.elapsed() < LONGEST {
            for (key, asked) in &mut all {
                *asked = Some(Asked::ask(*asked, &mut client, &key.to_string()));
            }
            let is_enough =
                |asked: &Option<Asked>| asked.unwrap().is_enough(Duration::from_secs(6));
            if all.iter().all(|(_, asked)| is_enough(asked)) {
                break;
            }
        }
        all.into_iter().map(|(_, asked)| asked.unwrap()).collect()
    };
    let all: Vec<Asked> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| scope.spawn(move || ask(number)))
            .collect();
        let all = threads
            .into_iter()
            .map(|thread| -> Vec<Asked> { thread.join().unwrap() });
        all.flatten().collect()
    });
    assert_eq!(all.len(), KEYS);
    let (mut admitted, mut fewest, mut most) = (0, 0.0, 0.0);
    for asked in &all {
        assert!(asked.is_enough(Duration::from_secs(6)), "{asked:?}");
        let bounds = bounds(asked, 0.2, 3);
        let own = asked.admitted as f64;
        assert!(own >= bounds.0 && own <= bounds.1, "{asked:?} {bounds:?}");
        admitted += asked.admitted;
        fewest += bounds.0;
        most += bounds.1;
    }
    assert_within(admitted, (fewest, most));
    assert_eq!(origin.count(), admitted);
}

#[test]
fn made_up_keys_take_no_more_memory_and_let_through_no_more_than_a_limit_has_buckets() {
    const KEYS: usize = 512;
    let origin = Origin::echo("shop");
    let gateway = limited(
        &origin,
        "{requests: 1, unit: day, key: [{header: x-key}], maxKeys: 512}",
    );
    let bytes = || {
        let metrics = gateway.metrics();
        let name = "pingress_rate_limit_bytes{policy=\"RateLimit default/limit\",limit=\"0\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the metric").parse::<usize>().unwrap()
    };
    assert_eq!(bytes(), 0);
    let mut client = gateway.client();
    let mut admitted = 0;
    for number in 0..3_000 {
        let key = format!("X-Key: {number}{}", "k".repeat(number % 3 * 300));
        admitted += usize::from(client.get(HOST, "/", &[&key]).status == 200);
    }
    assert_eq!(bytes(), KEYS * 16);
    assert!(admitted <= KEYS, "{admitted}");
    // Neither does whoever was first come again by what the others displaced.
    for number in 0..20 {
        let key = format!("X-Key: {number}{}", "k".repeat(number % 3 * 300));
        assert_eq!(client.get(HOST, "/", &[&key]).status, 429);
    }
}
