//! Every folder under `conf/` is clean and decides requests as its README says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingress::base::{Finding, Severity};
use pingress::compile::{Compiled, Memory, Options, compile};
use pingress::plan::stream::Came;
use pingress::plan::{Action, Decision, Hello, Plan, Request, StreamAction, Target};
use pingress::server::Settings;
use pingress::source::{LoadOptions, Loader};

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")
}

fn compiled(example: &str) -> Compiled {
    let options = LoadOptions::default();
    let inventory = Loader::new(vec![conf().join(example)], options).load();
    compile(&inventory, &mut Memory::default(), &Options::default())
}

/// The decision in a few words: destinations with weights, redirect, direct response, 404.
fn outcome(plan: &Plan, host: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let addr: SocketAddr = "0.0.0.0:80".parse().unwrap();
    let listener = plan.listener(addr).expect("a listener on port 80");
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect();
    let request = Request {
        host,
        authority: host,
        path,
        query,
        method: &Method::GET,
        scheme: "http",
        headers: &headers,
        forwarded_https: false,
    };
    match listener.decide(&request) {
        Decision::Route { route, .. } => match &*route.action {
            Action::Forward(forward) => forward
                .destinations
                .iter()
                .map(|destination| match &destination.target {
                    Target::Cluster(id) => {
                        format!("{} {}", plan.cluster(*id).unwrap().name, destination.weight)
                    }
                    Target::Missing { name, .. } => format!("missing {name}"),
                })
                .collect::<Vec<_>>()
                .join(", "),
            Action::Redirect { redirect, .. } => format!("redirect {}", redirect.status),
            Action::Direct { response, .. } => {
                format!(
                    "{} {}",
                    response.status,
                    String::from_utf8_lossy(&response.body).trim()
                )
            }
            Action::Fenced(fence) => format!("fenced {}", fence.reason),
        },
        Decision::Fenced(fence) => format!("fenced {}", fence.reason),
        Decision::HttpsRedirect { .. } => "https".to_owned(),
        Decision::NoRoute { .. } | Decision::NoHost => "404".to_owned(),
    }
}

#[test]
fn every_example_is_clean_and_has_a_readme_of_five_lines() {
    let mut seen = 0;
    for entry in std::fs::read_dir(conf()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        seen += 1;
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let findings = compiled(&name).findings;
        // The reader makes the certificate of this one; what is said until then names the files.
        let is_certificate =
            |finding: &&Finding| name == "https" && (finding.message.contains("`shop.crt`"));
        let worst: Vec<String> = findings
            .iter()
            .filter(|finding| finding.severity >= Severity::Warning)
            .filter(|finding| !is_certificate(finding))
            .map(ToString::to_string)
            .collect();
        assert!(worst.is_empty(), "{name}: {worst:#?}");
        let readme = std::fs::read_to_string(path.join("README.md")).unwrap();
        assert_eq!(readme.lines().count(), 5, "{name}/README.md");
    }
    assert!(seen >= 14, "{seen} examples");
}

#[test]
fn every_example_decides_as_its_readme_says() {
    let shop = "shop.example.com";
    let (v1, v2) = (
        "outbound|80|v1|shop.internal",
        "outbound|80|v2|shop.internal",
    );
    let jason = [("end-user", "jason")];
    let beta = [("x-beta", "true")];
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], String);
    let cases: Vec<Case<'_>> = vec![
        ("canary-split", shop, "/", &[], format!("{v1} 90, {v2} 10")),
        ("canary-split", "other.example.com", "/", &[], "404".into()),
        ("header-routing", shop, "/", &jason, format!("{v2} 1")),
        (
            "rate-limit",
            shop,
            "/login",
            &[],
            "outbound|80||shop.internal 1".into(),
        ),
        (
            "header-routing",
            shop,
            "/?preview=yes",
            &[],
            format!("{v2} 1"),
        ),
        (
            "header-routing",
            shop,
            "/?preview=no",
            &[("end-user", "Jason")],
            format!("{v1} 1"),
        ),
        (
            "rewrite-redirect",
            shop,
            "/catalogue",
            &[],
            "redirect 308".into(),
        ),
        (
            "rewrite-redirect",
            shop,
            "/api/v1/cart",
            &[],
            "outbound|80||shop.internal 1".into(),
        ),
        (
            "rewrite-redirect",
            shop,
            "/item/7",
            &[],
            "outbound|80||shop.internal 1".into(),
        ),
        (
            "rewrite-redirect",
            shop,
            "/admin",
            &[],
            "403 not here".into(),
        ),
        ("rewrite-redirect", shop, "/", &[], "404".into()),
        (
            "resilience",
            shop,
            "/cart",
            &[],
            "outbound|80||cart.internal 1".into(),
        ),
        ("https", shop, "/", &[], "https".into()),
        (
            "delegate",
            shop,
            "/cart/checkout",
            &[],
            "outbound|80|v2|cart.internal 1".into(),
        ),
        (
            "delegate",
            shop,
            "/cart",
            &[],
            "outbound|80|v1|cart.internal 1".into(),
        ),
        (
            "delegate",
            shop,
            "/",
            &[],
            "200 the shop's front page".into(),
        ),
        (
            "merged-virtual-services",
            shop,
            "/cart",
            &[],
            "200 cart".into(),
        ),
        (
            "merged-virtual-services",
            shop,
            "/",
            &[],
            "200 front page".into(),
        ),
        (
            "merged-virtual-services",
            "x.example.com",
            "/cart",
            &[],
            "200 some other host".into(),
        ),
        (
            "cluster-export",
            "reviews.example.com",
            "/next",
            &[],
            "outbound|9080|v2|reviews.default.svc.cluster.local 1".into(),
        ),
        (
            "cluster-export",
            "reviews.example.com",
            "/",
            &[],
            "outbound|9080|v1|reviews.default.svc.cluster.local 1".into(),
        ),
        (
            "external-dns",
            "api.example.com",
            "/v2",
            &[],
            "outbound|80||backend.example.net 1".into(),
        ),
        (
            "tls-origin",
            "api.example.com",
            "/v2",
            &[],
            "outbound|443||backend.example.net 1".into(),
        ),
        (
            "https-redirect",
            "any.example.com",
            "/",
            &[],
            "https".into(),
        ),
        (
            "quickstart",
            "anything",
            "/cart",
            &[],
            "outbound|80||cart.demo.internal 1".into(),
        ),
        ("quickstart", "anything", "/old", &[], "redirect 301".into()),
        (
            "quickstart",
            "anything",
            "/hello",
            &[],
            "200 hello from the gateway".into(),
        ),
        (
            "quickstart",
            "anything",
            "/",
            &beta,
            "outbound|80|v2|shop.demo.internal 1".into(),
        ),
        (
            "quickstart",
            "anything",
            "/",
            &[],
            "outbound|80|v1|shop.demo.internal 90, outbound|80|v2|shop.demo.internal 10".into(),
        ),
    ];
    for (example, host, path, headers, expected) in cases {
        let compiled = compiled(example);
        assert_eq!(
            outcome(&compiled.plan, host, path, headers),
            expected,
            "{example} {host}{path}"
        );
    }
}

#[test]
fn the_example_of_connections_leads_them_where_its_readme_says() {
    let plan = compiled("tcp-passthrough").plan;
    let leads = |port: u16, came: Came<'_>| {
        let addr = SocketAddr::from(([0, 0, 0, 0], port));
        let Some(route) = plan.stream(addr, &came) else {
            return "closed".to_owned();
        };
        let StreamAction::Forward(forward) = &route.action else {
            return "fenced".to_owned();
        };
        let each = forward.destinations.iter().map(|destination| {
            let Target::Cluster(id) = destination.target else {
                return "missing".to_owned();
            };
            let cluster = plan.cluster(id).unwrap();
            format!("{} {}", cluster.host, destination.weight)
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let named = |name| {
        Came::Through(Hello {
            name: Some(name),
            offers_mesh: false,
        })
    };
    assert_eq!(
        leads(5432, Came::Plain),
        "db.internal 90, db-next.internal 10"
    );
    assert_eq!(leads(443, named("vault.example.com")), "vault.internal 1");
    assert_eq!(leads(443, named("a.apps.example.com")), "apps.internal 1");
    assert_eq!(leads(443, named("other.example.com")), "closed");
}

#[test]
fn the_settings_example_is_what_pingress_settings_prints() {
    let text = std::fs::read_to_string(conf().join("pingress.yaml")).unwrap();
    assert_eq!(
        text,
        Settings::yaml(),
        "rewrite it with `pingress settings --format yaml > conf/pingress.yaml`"
    );
    assert_eq!(Settings::parse(&text), Ok(Settings::default()));
}
