//! The operator's page, in a real browser.

use std::process::Command;

use super::harness::*;
use super::tls::material::{Authority, secret_yaml};

/// What Chromium makes of the page after the given time of its own.
fn page(gateway: &Gateway, fragment: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=6000", "--dump-dom"])
        .arg(format!("http://{}/{fragment}", gateway.admin_addr()))
        .output()
        .expect("the package chromium is installed");
    String::from_utf8(output.stdout).unwrap()
}

fn start() -> (Gateway, Origin) {
    let origin = Origin::echo("one");
    let authority = Authority::new("Root");
    let certificate = authority.issue(&["s.example.com"]);
    let two = gateway_yaml(&["*"])
        + "    - port: {number: 443, name: https, protocol: HTTPS}\n      hosts: [s.example.com]\n      tls: {mode: SIMPLE, credentialName: own}\n";
    let gateway = Start::with(&[
        ("gateway.yaml", two),
        (
            "service.yaml",
            service_yaml("one.internal", &[(origin.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml(
                "one",
                &["a.example.com"],
                "    - match: [{uri: {exact: \"/<b>bold</b>\"}}]\n      route: [{destination: {host: one.internal}}]\n    - route: [{destination: {host: nowhere.internal}}]\n",
            ),
        ),
        ("secret.yaml", secret_yaml("own", Some(&certificate), &[])),
    ])
    .port(443)
    .ready();
    (gateway, origin)
}

#[test]
fn a_browser_shows_routes_findings_endpoints_and_certificates() {
    let (gateway, origin) = start();
    gateway.get("unknown.example.com", "/");
    let page = page(&gateway, "");
    for text in [
        "<span id=\"ready\" class=\"good\">ready</span>",
        "outbound|80||one.internal",
        &format!("127.0.0.1:{}", origin.port),
        "healthy",
        // A destination that is nowhere is a finding with its line.
        "nowhere.internal",
        "routes.yaml:",
        "default/gw/https",
        "ECDSA",
        "2099-01-01",
        "1 requests and 0 errors since the start",
    ] {
        assert!(page.contains(text), "no `{text}` in:\n{page}");
    }
    assert!(
        page.contains("&lt;b&gt;bold&lt;/b&gt;") && !page.contains("<b>bold</b>"),
        "texts of manifests are never markup"
    );
}

#[test]
fn a_link_asks_what_happens_to_a_request() {
    let (gateway, _origin) = start();
    let page = page(
        &gateway,
        "#url=http%3A%2F%2Funknown.example.com%2F&method=POST",
    );
    let start = page
        .find("<pre id=\"explanation\"")
        .expect("an explanation");
    let text = page[start..].split("</pre>").next().unwrap();
    assert!(text.contains("POST http://unknown.example.com/"), "{text}");
    assert!(text.contains("404"), "{text}");
}

#[test]
fn the_page_is_for_browsers_and_loads_nothing_from_elsewhere() {
    let (gateway, _origin) = start();
    let mut client = Client::connect(gateway.admin_addr());
    let response = client.get("localhost", "/", &["Accept: text/html,*/*;q=0.8"]);
    assert_eq!(
        response.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = response.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for elsewhere in ["src=\"", "href=\"http", "@import", "https://"] {
        assert!(!response.body.contains(elsewhere), "{elsewhere}");
    }
    assert!(
        gateway
            .admin("/")
            .body
            .starts_with("Pingress, for the operator")
    );
}
