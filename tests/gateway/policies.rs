//! Traffic policies of a rule, from YAML to the wire.

use crate::harness::{Client, Origin, Start, await_until, gateway_yaml, routes_yaml, service_yaml};

const HOST: &str = "shop.example.com";

/// A gateway whose only rule has a policy beside its route.
fn start(origin: &Origin, policy: &str) -> Start {
    let rule = format!(
        "    - route: [{{destination: {{host: shop.internal}}}}]\n      {}\n",
        policy.replace('\n', "\n      ")
    );
    Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("shop.internal", &[(origin.port, "v1")]),
        ),
        ("routes.yaml", routes_yaml("shop", &[HOST], &rule)),
    ])
}

#[test]
fn a_fault_written_in_yaml_aborts_is_logged_counted_and_explained() {
    let origin = Origin::echo("shop");
    let policy = "fault:\n  delay: {fixedDelay: 10ms, percentage: {value: 100}}\n  abort: {httpStatus: 555, percentage: {value: 100}}";
    let gateway = start(&origin, policy).ready();
    let answer = gateway.get(HOST, "/");
    assert_eq!((answer.status, &*answer.body), (555, "fault filter abort"));
    assert_eq!(origin.count(), 0);
    let line = gateway.await_log(" 555 ");
    assert!(line.contains(" 555 DI,FI fault_filter_abort "), "{line}");
    assert!(gateway.metrics().contains("response_flags=\"DI,FI\""));
    let page = |format: &str| {
        let path = format!("/explain{format}?url=http%3A%2F%2F{HOST}%2F");
        gateway.admin(&path).body
    };
    let text = page("");
    let expected = "fault delay 100% by 10ms, then abort 100% with 555 at ";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("routes.yaml:12"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&page(".json")).unwrap();
    let fault = &json["outcome"]["policies"]["fault"];
    assert_eq!(fault["abort_status"], 555);
    assert_eq!(fault["delay_percent"], 100.0);
    assert!(
        fault["origin"]
            .as_str()
            .unwrap()
            .ends_with("routes.yaml:12")
    );
}

#[test]
fn a_cors_policy_written_in_yaml_answers_preflights_and_marks_responses() {
    let origin = Origin::echo("shop");
    let policy = "corsPolicy:\n  allowOrigins: [{regex: 'https://[a-z]+[.]example[.]com'}]\n  allowMethods: [GET, PUT]\n  maxAge: 24h\n  allowCredentials: true";
    let gateway = start(&origin, policy).ready();
    let mut client: Client = gateway.client();
    let asks = "Origin: https://www.example.com\r\nAccess-Control-Request-Method: PUT\r\n";
    client.write(format!("OPTIONS / HTTP/1.1\r\nHost: {HOST}\r\n{asks}\r\n").as_bytes());
    let preflight = client.read().unwrap();
    assert_eq!(preflight.status, 200);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://www.example.com")
    );
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("GET,PUT")
    );
    assert_eq!(preflight.header("access-control-max-age"), Some("86400"));
    assert_eq!(origin.count(), 0);
    let answer = client.get(HOST, "/", &["Origin: https://www.example.com"]);
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
    let other = client.get(HOST, "/", &["Origin: https://www.example.com.evil"]);
    assert_eq!(
        (other.status, other.header("access-control-allow-origin")),
        (200, None)
    );
    let explained = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    assert!(
        explained
            .contains("cors origins regex \"https://[a-z]+[.]example[.]com\", methods GET,PUT"),
        "{explained}"
    );
}

#[test]
fn mirrors_written_in_yaml_get_copies_that_are_counted_and_explained() {
    let (origin, copy) = (Origin::echo("shop"), Origin::echo("copy"));
    let policy = "mirrors:\n- destination: {host: copy.internal}\n- {destination: {host: copy.internal}, percentage: {value: 0}}";
    let mut start = start(&origin, policy);
    let service = service_yaml("copy.internal", &[(copy.port, "v1")]);
    start.files.push(("copy.yaml".into(), service));
    let gateway = start.ready();
    let answer = gateway.get(HOST, "/a?b=c");
    assert!(answer.body.starts_with("shop\n"), "{}", answer.body);
    let counted = "pingress_mirrored_requests_total{cluster=\"outbound|80||copy.internal\",result=\"answered\"} 1\n";
    await_until("the copy is counted", || {
        gateway.metrics().contains(counted).then_some(())
    });
    assert_eq!(copy.count(), 1);
    let head = copy.last_head();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains("host: shop.example.com\r\n"),
        "{head}"
    );
    let explained = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    let expected = "mirror 100% to outbound|80||copy.internal at ";
    assert!(explained.contains(expected), "{explained}");
}
