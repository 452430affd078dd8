//! Istio's public samples route as their documentation says. Runs where the samples are.

use std::path::{Path, PathBuf};

use pingress::compile::{Memory, Options, compile};
use pingress::plan::Resolution;
use pingress::source::{LoadOptions, Loader};

use crate::support::{World, get};

/// Samples together with the EndpointSlice of one service, as a cluster's export would have it.
fn sample(files: &[&str], service: &str, port: u16) -> Option<World> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !corpus.is_dir() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let slice = format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints:
- {{addresses: [10.1.0.1], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {service}-v1}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {service}-v1, labels: {{app: {service}, version: v1}}}}
"
    );
    std::fs::write(folder.path().join("slice.yaml"), slice).unwrap();
    let mut paths: Vec<PathBuf> = files.iter().map(|file| corpus.join(file)).collect();
    paths.push(folder.path().to_owned());
    let inventory = Loader::new(paths, LoadOptions::default()).load();
    Some(World {
        compiled: compile(&inventory, &mut Memory::default(), &Options::default()),
    })
}

fn endpoints(world: &World, cluster: &str) -> usize {
    match &world.compiled.endpoints.clusters[cluster].resolution {
        Resolution::Static(endpoints) => endpoints.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bookinfo_routes_its_pages_and_nothing_else() {
    let files = [
        "bookinfo/platform/bookinfo.yaml",
        "bookinfo/networking/bookinfo-gateway.yaml",
    ];
    let Some(world) = sample(&files, "productpage", 9080) else {
        return;
    };
    let page = "outbound|9080||productpage.default.svc.cluster.local";
    let ask = |path: &str| world.ask(&get("bookinfo.example.com", path).port(8080));
    for path in [
        "/productpage",
        "/productpage?u=normal",
        "/static/bootstrap.css",
        "/login",
        "/logout",
        "/api/v1/products/0",
    ] {
        assert_eq!(ask(path), page, "{path}");
    }
    for path in ["/", "/productpage/", "/reviews"] {
        assert_eq!(ask(path), "404 no route", "{path}");
    }
    assert_eq!(endpoints(&world, page), 1);
    assert!(world.troubles().is_empty(), "{:?}", world.troubles());
}

#[test]
fn httpbin_takes_every_request() {
    let files = ["httpbin/httpbin.yaml", "httpbin/httpbin-gateway.yaml"];
    let Some(world) = sample(&files, "httpbin", 8080) else {
        return;
    };
    let httpbin = "outbound|8000||httpbin.default.svc.cluster.local";
    assert_eq!(world.get("any.example.com", "/status/200"), httpbin);
    assert_eq!(endpoints(&world, httpbin), 1);
    assert!(world.troubles().is_empty(), "{:?}", world.troubles());
}

#[test]
fn helloworld_says_hello_on_its_path() {
    let files = [
        "helloworld/helloworld.yaml",
        "helloworld/helloworld-gateway.yaml",
    ];
    let Some(world) = sample(&files, "helloworld", 5000) else {
        return;
    };
    let hello = "outbound|5000||helloworld.default.svc.cluster.local";
    assert_eq!(world.get("any.example.com", "/hello"), hello);
    assert_eq!(world.get("any.example.com", "/hello/x"), "404 no route");
    assert_eq!(endpoints(&world, hello), 1);
}

#[test]
fn the_rate_limit_sample_asks_its_service_about_the_paths_of_what_is_routed() {
    let files = [
        "bookinfo/platform/bookinfo.yaml",
        "bookinfo/networking/bookinfo-gateway.yaml",
        "bookinfo/policy/productpage_envoy_ratelimit.yaml",
    ];
    let Some(world) = sample(&files, "productpage", 9080) else {
        return;
    };
    assert_eq!(world.troubles(), [""; 0]);
    let ask = |path: &str| world.passes(&get("a.com", path).port(8080));
    let limit = "EnvoyFilter istio-system/filter-ratelimit spec.configPatches[0]";
    assert_eq!(ask("/productpage"), [limit]);
    assert_eq!(ask("/elsewhere"), [""; 0]);
    let policy = &world.compiled.plan.limits[0].policy;
    assert_eq!(
        policy.to_string(),
        "rate_limit_cluster asked within 10s for domain productpage-ratelimit, 500 if it cannot be asked, refused with 429, x-envoy-ratelimited said"
    );
    assert_eq!(policy.lines(), ["descriptor PATH=the path with query"]);
    let endpoints = &world.compiled.endpoints.clusters["rate_limit_cluster"].resolution;
    let Resolution::Dns { names, single } = endpoints else {
        panic!("{endpoints:?}");
    };
    let names: Vec<_> = names.iter().map(|name| (&*name.name, name.port)).collect();
    let expected = [("ratelimit.default.svc.cluster.local", 8081)];
    assert_eq!((names.as_slice(), *single), (&expected[..], false));
}
