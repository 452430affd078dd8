//! Istio's own samples route as their documentation says. Runs where the sample folder is there.

use std::path::PathBuf;

use super::harness::*;

fn corpus() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !folder.is_dir() {
        eprintln!("no sample folder: nothing to run");
        return None;
    }
    Some(folder)
}

/// A pod of a service with its EndpointSlice, as a cluster would hold them.
fn pod(service: &str, version: &str, port_name: &str, origin: &Origin) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {service}-{version}\n  labels: {{app: {service}, version: {version}}}\nstatus: {{phase: Running, podIP: 127.0.0.1}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{version}\n  labels: {{kubernetes.io/service-name: {service}}}\naddressType: IPv4\nports: [{{name: {port_name}, port: {}, protocol: TCP}}]\nendpoints:\n  - addresses: [127.0.0.1]\n    conditions: {{ready: true}}\n    targetRef: {{kind: Pod, name: {service}-{version}, namespace: default}}\n",
        origin.port
    )
}

fn start(corpus: &std::path::Path, samples: &[&str], pods: String) -> Start {
    let mut files: Vec<(String, String)> = samples
        .iter()
        .map(|sample| {
            (
                sample.replace('/', "-"),
                std::fs::read_to_string(corpus.join(sample)).unwrap(),
            )
        })
        .collect();
    files.push(("pods.yaml".to_owned(), pods));
    Start {
        files,
        ..Start::default()
    }
    .port(8080)
}

#[test]
fn bookinfo_sends_its_five_paths_to_the_product_page_and_nothing_else() {
    let Some(corpus) = corpus() else { return };
    let page = Origin::echo("productpage");
    let gateway = start(
        &corpus,
        &[
            "bookinfo/platform/bookinfo.yaml",
            "bookinfo/networking/bookinfo-gateway.yaml",
        ],
        pod("productpage", "v1", "http", &page),
    )
    .ready();
    let get =
        |path: &str| Client::connect(gateway.addr_of(8080)).get("bookinfo.example.com", path, &[]);
    for path in [
        "/productpage",
        "/productpage?u=normal",
        "/static/jquery.js",
        "/login",
        "/logout",
        "/api/v1/products/0",
    ] {
        let response = get(path);
        assert_eq!(
            (response.status, response.header("x-origin")),
            (200, Some("productpage")),
            "{path}"
        );
    }
    for path in ["/", "/productpage/x", "/reviews/0", "/api/v1"] {
        assert_eq!(get(path).status, 404, "{path}");
    }
}

#[test]
fn bookinfos_mesh_routes_leave_the_gateway_as_it_was() {
    let Some(corpus) = corpus() else { return };
    let page = Origin::echo("productpage");
    let networking = corpus.join("bookinfo/networking");
    let mut samples: Vec<String> = std::fs::read_dir(networking)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("virtual-service-reviews"))
        .collect();
    samples.sort();
    assert!(samples.len() > 5);
    for sample in samples {
        let sample = format!("bookinfo/networking/{sample}");
        let gateway = start(
            &corpus,
            &[
                "bookinfo/platform/bookinfo.yaml",
                "bookinfo/networking/bookinfo-gateway.yaml",
                &sample,
            ],
            pod("productpage", "v1", "http", &page),
        )
        .ready();
        let response =
            Client::connect(gateway.addr_of(8080)).get("any.example.com", "/productpage", &[]);
        assert_eq!(response.status, 200, "{sample}");
    }
}

#[test]
fn helloworld_spreads_hello_over_both_versions() {
    let Some(corpus) = corpus() else { return };
    let (one, two) = (Origin::echo("v1"), Origin::echo("v2"));
    let pods = format!(
        "{}---\n{}",
        pod("helloworld", "v1", "http", &one),
        pod("helloworld", "v2", "http", &two)
    );
    let gateway = start(
        &corpus,
        &[
            "helloworld/helloworld.yaml",
            "helloworld/helloworld-gateway.yaml",
        ],
        pods,
    )
    .ready();
    let mut client = gateway.client();
    for _ in 0..60 {
        assert_eq!(client.get("any.example.com", "/hello", &[]).status, 200);
    }
    assert!(
        one.count() > 0 && two.count() > 0,
        "{} and {}",
        one.count(),
        two.count()
    );
    assert_eq!(client.get("any.example.com", "/hello/x", &[]).status, 404);
}

#[test]
fn httpbin_gets_every_path() {
    let Some(corpus) = corpus() else { return };
    let origin = Origin::echo("httpbin");
    let gateway = start(
        &corpus,
        &["httpbin/httpbin.yaml", "httpbin/httpbin-gateway.yaml"],
        pod("httpbin", "v1", "http", &origin),
    )
    .ready();
    for path in ["/", "/status/200", "/headers", "/anything?x=1"] {
        assert_eq!(
            gateway.get("httpbin.example.com", path).status,
            200,
            "{path}"
        );
    }
    assert_eq!(origin.count(), 4);
}

#[test]
fn bookinfos_global_rate_limit_works_unchanged_against_a_rate_limit_service() {
    let Some(corpus) = corpus() else { return };
    let page = Origin::echo("productpage");
    let service = RateLimitService::start(&[(Some("/productpage"), 1), (None, 100)]);
    let ratelimit = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: ratelimit}}\nspec:\n  ports: [{{name: http-port, port: 8080}}, {{name: grpc-port, port: 8081}}]\n  selector: {{app: ratelimit}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: ratelimit-1\n  labels: {{kubernetes.io/service-name: ratelimit}}\naddressType: IPv4\nports: [{{name: grpc-port, port: {}, protocol: TCP}}]\nendpoints:\n  - {{addresses: [127.0.0.1], conditions: {{ready: true}}}}\n",
        service.port
    );
    let gateway = start(
        &corpus,
        &[
            "bookinfo/platform/bookinfo.yaml",
            "bookinfo/networking/bookinfo-gateway.yaml",
            "bookinfo/policy/productpage_envoy_ratelimit.yaml",
        ],
        pod("productpage", "v1", "http", &page) + &ratelimit,
    )
    .ready();
    let mut client = Client::connect(gateway.addr_of(8080));
    let mut get = |path: &str| client.get("bookinfo.example.com", path, &[]);
    assert_eq!(get("/productpage").status, 200);
    let refused = get("/productpage");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-envoy-ratelimited"), Some("true"));
    assert_eq!(get("/login").status, 200);
    // Nothing is asked about what no rule takes.
    assert_eq!(get("/elsewhere").status, 404);
    let asked = ["/productpage", "/productpage", "/login"];
    let asked = asked.map(|path| format!("productpage-ratelimit PATH={path}"));
    assert_eq!(service.asked(), asked);
    assert_eq!(page.count(), 2);
}
