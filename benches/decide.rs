//! What a routing decision costs, by number and kind of rules. See `benches/README.md`.

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingress::base::{HostPattern, Kind, ObjectKey, Origin, Position};
use pingress::plan::paths::PathIndex;
use pingress::plan::{
    Action, ClusterId, Decision, Destination, Digest, Forward, Listener, Plan, Predicate, Request,
    Route, StringMatch, Target, UriMatch, VirtualHost,
};
use pingress::policy::path::{PathNormalization, normalize};
use regex::Regex;

const RULES: [usize; 4] = [1, 100, 5_000, 50_000];
/// Fifty thousand regexes take longer to compile than to measure.
const REGEXES: [usize; 3] = [1, 100, 5_000];
/// How many different requests a random series has.
const SERIES: usize = 4_096;

fn main() {
    divan::main();
}

/// The last rule of one host, each kind by itself.
mod last_rule {
    use super::*;

    #[divan::bench(args = RULES)]
    fn exact(bencher: Bencher, rules: usize) {
        hit_last(bencher, rules, exact_rule, path);
    }

    #[divan::bench(args = RULES)]
    fn prefix(bencher: Bencher, rules: usize) {
        hit_last(bencher, rules, prefix_rule, |number| {
            path(number) + "/and/more"
        });
    }

    #[divan::bench(args = RULES)]
    fn mixed_with_a_catch_all_behind(bencher: Bencher, rules: usize) {
        let rule = |number| match number % 2 {
            0 => exact_rule(number),
            _ => prefix_rule(number),
        };
        let uris = (0..rules).map(rule).chain([super::prefix("/")]);
        let listener = one_host(uris.map(|uri| (uri, vec![])).collect());
        decide_one(
            bencher,
            &listener,
            "a.com",
            &path(rules - 1),
            &HeaderMap::new(),
        );
    }

    #[divan::bench(args = REGEXES)]
    fn regex_with_a_literal_beginning(bencher: Bencher, rules: usize) {
        hit_last(
            bencher,
            rules,
            |number| regex(&format!("{}/[a-z]+", path(number))),
            |number| path(number) + "/x",
        );
    }

    #[divan::bench(args = REGEXES)]
    fn regex_without_a_literal_beginning(bencher: Bencher, rules: usize) {
        hit_last(
            bencher,
            rules,
            |number| regex(&format!(".*/item-{number}")),
            |number| format!("/x/item-{number}"),
        );
    }

    #[divan::bench(args = RULES)]
    fn header_only(bencher: Bencher, rules: usize) {
        let listener = one_host(
            (0..rules)
                .map(|number| (UriMatch::Any, vec![tenant(number)]))
                .collect(),
        );
        decide_one(bencher, &listener, "a.com", "/", &tenant_headers(rules - 1));
    }

    #[divan::bench(args = RULES)]
    fn path_and_header(bencher: Bencher, rules: usize) {
        let listener = one_host(
            (0..rules)
                .map(|number| (exact_rule(number), vec![tenant(number)]))
                .collect(),
        );
        decide_one(
            bencher,
            &listener,
            "a.com",
            &path(rules - 1),
            &tenant_headers(rules - 1),
        );
    }

    #[divan::bench(args = RULES)]
    fn one_rule_on_each_of_many_hosts(bencher: Bencher, rules: usize) {
        let listener = many_hosts(rules);
        decide_one(
            bencher,
            &listener,
            &host(rules - 1),
            &path(0),
            &HeaderMap::new(),
        );
    }

    #[divan::bench(args = RULES)]
    fn a_wildcard_host_among_many(bencher: Bencher, rules: usize) {
        let mut listener = many_hosts(rules);
        add(
            &mut listener,
            "*.wild.example.com",
            vec![(exact_rule(0), vec![])],
        );
        decide_one(
            bencher,
            &listener,
            "deep.down.wild.example.com",
            &path(0),
            &HeaderMap::new(),
        );
    }
}

/// A different rule each time, so that little of the table is in the near caches. One item is
/// one decision.
mod random_rule {
    use super::*;

    #[divan::bench(args = RULES)]
    fn exact(bencher: Bencher, rules: usize) {
        let listener = one_host(
            (0..rules)
                .map(|number| (exact_rule(number), vec![]))
                .collect(),
        );
        decide_series(
            bencher,
            &listener,
            series(rules)
                .map(|number| ("a.com".into(), path(number)))
                .collect(),
        );
    }

    #[divan::bench(args = RULES)]
    fn prefix(bencher: Bencher, rules: usize) {
        let listener = one_host(
            (0..rules)
                .map(|number| (prefix_rule(number), vec![]))
                .collect(),
        );
        let requests = series(rules)
            .map(|number| ("a.com".into(), path(number) + "/and/more"))
            .collect();
        decide_series(bencher, &listener, requests);
    }

    #[divan::bench(args = RULES)]
    fn one_rule_on_each_of_many_hosts(bencher: Bencher, rules: usize) {
        let listener = many_hosts(rules);
        decide_series(
            bencher,
            &listener,
            series(rules)
                .map(|number| (host(number), path(0)))
                .collect(),
        );
    }
}

/// What is done once per request beside, and once per reload.
mod beside {
    use super::*;

    #[divan::bench(args = ["/", "/api/v1/items/0000042/details", "/a/%7Euser/../b//c"])]
    fn normalize_path(path: &str) -> usize {
        normalize(black_box(path), PathNormalization::Base).map_or(0, |path| path.len())
    }

    /// Three routes per VirtualService, each VirtualService on its own host.
    #[divan::bench(args = [5_000, 50_000])]
    fn digest_of_virtual_services(bencher: Bencher, services: usize) {
        let plan = Plan {
            listeners: vec![services_of_three_routes(services)],
            ..Plan::default()
        };
        bencher.bench_local(|| Digest::of_plan(black_box(&plan)));
    }

    #[divan::bench(args = RULES)]
    fn build_the_index(bencher: Bencher, rules: usize) {
        let uris: Vec<UriMatch> = (0..rules).map(exact_rule).collect();
        bencher.bench_local(|| PathIndex::build(black_box(&uris).iter()));
    }
}

fn path(number: usize) -> String {
    format!("/api/v1/items/{number:07}/details")
}

fn host(number: usize) -> String {
    format!("shop-{number}.example.com")
}

fn exact_rule(number: usize) -> UriMatch {
    UriMatch::Exact {
        text: path(number).into(),
        ignore_case: false,
    }
}

fn prefix(text: &str) -> UriMatch {
    UriMatch::Prefix {
        text: text.into(),
        ignore_case: false,
    }
}

fn prefix_rule(number: usize) -> UriMatch {
    prefix(&path(number))
}

/// Anchored as `compile` does.
fn regex(pattern: &str) -> UriMatch {
    UriMatch::Regex(Regex::new(&format!("^(?:{pattern})$")).expect("a valid pattern"))
}

fn tenant(number: usize) -> Predicate {
    let matcher = StringMatch::Exact(format!("tenant-{number}").into());
    Predicate::Header {
        name: HeaderName::from_static("x-tenant"),
        matcher,
    }
}

/// A usual number of headers, one of which is tested.
fn tenant_headers(number: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [
        "accept",
        "accept-encoding",
        "accept-language",
        "user-agent",
        "cookie",
        "x-request-id",
    ] {
        headers.insert(name, HeaderValue::from_static("some ordinary value"));
    }
    headers.insert(
        "x-tenant",
        HeaderValue::from_str(&format!("tenant-{number}")).expect("a valid value"),
    );
    headers
}

fn origin() -> Origin {
    Origin::new("bench.yaml".into(), Position { line: 1, column: 1 }, 0)
}

fn route(number: usize, uri: UriMatch, predicates: Vec<Predicate>) -> Route {
    let destination = Destination {
        target: Target::Cluster(ClusterId(0)),
        weight: 1,
        request: Default::default(),
        response: Default::default(),
        authority: None,
        origin: origin(),
    };
    let action = Forward {
        destinations: vec![destination],
        total_weight: 1,
        rewrite: Default::default(),
        timeout: None,
        retry: None,
        policies: Default::default(),
    };
    Route {
        name: "default".into(),
        object: ObjectKey {
            kind: Kind::VirtualService,
            namespace: "default".into(),
            name: format!("service-{number}").into(),
        },
        path: format!("spec.http[{number}]").into(),
        via: None,
        origin: origin(),
        uri,
        predicates: predicates.into(),
        action: Arc::new(Action::Forward(action)),
    }
}

fn empty_listener() -> Listener {
    Listener {
        addr: ([127, 0, 0, 1], 8080).into(),
        declared_port: 80,
        is_tls: false,
        grpc_web: false,
        origins: vec![origin()],
        hosts: Arc::default(),
        virtual_hosts: Vec::new(),
        fence: None,
        guarding: None,
    }
}

fn add(listener: &mut Listener, pattern: &str, conditions: Vec<(UriMatch, Vec<Predicate>)>) {
    let pattern = HostPattern::parse(pattern).expect("a valid host");
    let number = u32::try_from(listener.virtual_hosts.len()).expect("few hosts");
    Arc::make_mut(&mut listener.hosts).insert(&pattern, number);
    let routes: Vec<Route> = conditions
        .into_iter()
        .enumerate()
        .map(|(number, (uri, predicates))| route(number, uri, predicates))
        .collect();
    listener.virtual_hosts.push(Arc::new(VirtualHost {
        name: format!("{pattern}:80").into(),
        host: pattern,
        paths: PathIndex::build(routes.iter().map(|route| &route.uri)),
        routes: routes.into_iter().map(Arc::new).collect(),
        https_redirect: None,
        fence: None,
    }));
}

fn one_host(conditions: Vec<(UriMatch, Vec<Predicate>)>) -> Listener {
    let mut listener = empty_listener();
    add(&mut listener, "a.com", conditions);
    listener
}

fn many_hosts(hosts: usize) -> Listener {
    let mut listener = empty_listener();
    for number in 0..hosts {
        add(&mut listener, &host(number), vec![(exact_rule(0), vec![])]);
    }
    listener
}

fn services_of_three_routes(services: usize) -> Listener {
    let mut listener = empty_listener();
    for number in 0..services {
        let rules = vec![
            (exact_rule(number), vec![tenant(number)]),
            (prefix_rule(number), vec![]),
            (prefix("/"), vec![]),
        ];
        add(&mut listener, &host(number), rules);
    }
    listener
}

/// Rule numbers that look random and are the same in every run.
fn series(rules: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % rules
    })
    .take(SERIES)
}

fn request<'a>(host: &'a str, path: &'a str, headers: &'a HeaderMap) -> Request<'a> {
    Request {
        host,
        authority: host,
        path,
        query: None,
        method: &Method::GET,
        scheme: "http",
        headers,
        forwarded_https: false,
    }
}

fn hit_last(
    bencher: Bencher,
    rules: usize,
    rule: impl Fn(usize) -> UriMatch,
    path: impl Fn(usize) -> String,
) {
    let listener = one_host((0..rules).map(|number| (rule(number), vec![])).collect());
    decide_one(
        bencher,
        &listener,
        "a.com",
        &path(rules - 1),
        &HeaderMap::new(),
    );
}

/// Measures one request again and again. It must hit the last rule that can be hit.
fn decide_one(bencher: Bencher, listener: &Listener, host: &str, path: &str, headers: &HeaderMap) {
    let request = request(host, path, headers);
    assert!(
        matches!(listener.decide(&request), Decision::Route { .. }),
        "{host}{path} hits no rule"
    );
    bencher.bench_local(|| hit(listener, black_box(&request)));
}

fn decide_series(bencher: Bencher, listener: &Listener, requests: Vec<(String, String)>) {
    let headers = HeaderMap::new();
    bencher
        .counter(ItemsCount::new(requests.len()))
        .bench_local(|| {
            requests
                .iter()
                .filter(|(host, path)| hit(listener, black_box(&request(host, path, &headers))))
                .count()
        });
}

#[inline(never)]
fn hit(listener: &Listener, request: &Request<'_>) -> bool {
    matches!(listener.decide(request), Decision::Route { .. })
}
