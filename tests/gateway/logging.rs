//! What the access log has, hides and survives.

use std::process::Command;

use super::harness::*;

fn start(settings: &str) -> (Start, Origin) {
    let origin = Origin::echo("one");
    let start = Start::one_service("one", "a.example.com", origin.port).settings(settings);
    (start, origin)
}

#[test]
fn credentials_in_a_query_are_hidden_from_the_log_and_not_from_the_origin() {
    let (start, origin) = start("");
    let gateway = start.ready();
    gateway.get("a.example.com", "/secret?a=1&access_token=eyJhbGci&b=2");
    let line = gateway.await_log("/secret");
    assert!(
        line.contains("\"GET /secret?a=1&access_token=REDACTED&b=2 HTTP/1.1\""),
        "{line}"
    );
    assert!(origin.last_head().contains("access_token=eyJhbGci"));
}

#[test]
fn a_log_of_failures_has_those_and_nothing_else() {
    let (start, origin) = start("  accessLog: {sampled: 0, slow: 3600s}\n");
    let gateway = start.ready();
    gateway.get("a.example.com", "/fine");
    origin.answer(500);
    gateway.get("a.example.com", "/broken");
    // A request is logged after its answer: without waiting, the next may be first.
    gateway.await_log("/broken");
    gateway.get("unknown.example.com", "/nowhere");
    gateway.await_log("/nowhere");
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    let logged: Vec<_> = log
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert_eq!(logged, ["/broken", "/nowhere"]);
}

#[test]
fn a_rotated_log_goes_on_in_a_new_file_at_sigusr1() {
    let (start, _origin) = start("");
    let gateway = start.ready();
    gateway.get("a.example.com", "/before");
    gateway.await_log("/before");
    let rotated = gateway.log.with_extension("log.1");
    std::fs::rename(&gateway.log, &rotated).unwrap();
    gateway.signal("USR1");
    await_until("there is a new file", || gateway.log.exists().then_some(()));
    gateway.get("a.example.com", "/after");
    gateway.await_log("/after");
    let old = std::fs::read_to_string(&rotated).unwrap();
    assert!(old.contains("/before") && !old.contains("/after"), "{old}");
}

#[test]
fn a_log_that_nobody_reads_stalls_neither_the_start_nor_a_request_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("log");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let (start, _origin) = start(&format!(
        "  drain: {{delay: 0s}}\n  mesh: {{accessLogFile: '{}'}}\n",
        pipe.display()
    ));
    let mut gateway = start.ready();
    let mut client = gateway.client();
    let agent = format!("User-Agent: {}", "x".repeat(8_000));
    let mut asked = 0;
    // The pipe, the writer's batch and the buffer hold some 250 lines together.
    let dropped = loop {
        for _ in 0..50 {
            assert_eq!(client.get("a.example.com", "/", &[&agent]).status, 200);
            asked += 1;
        }
        match dropped(&gateway) {
            0 => assert!(asked < 10_000, "nothing is dropped"),
            dropped => break dropped,
        }
    };
    assert!(dropped <= asked, "{dropped} of {asked}");
    drop(client);
    gateway.signal("TERM");
    assert!(gateway.await_exit().success());
}

#[test]
fn a_full_disk_loses_lines_and_no_request() {
    let (start, _origin) = start("  mesh: {accessLogFile: /dev/full}\n");
    let gateway = start.ready();
    let mut client = gateway.client();
    for _ in 0..50 {
        assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
    }
    await_until("the lines are counted as dropped", || {
        (dropped(&gateway) == 50).then_some(())
    });
}

/// Lines that were lost so far.
fn dropped(gateway: &Gateway) -> u64 {
    let metrics = gateway.metrics();
    let mut lines = metrics.lines();
    let name = "pingress_access_log_lines_dropped_total ";
    let count = lines.find_map(|line| line.strip_prefix(name)).unwrap();
    count.parse().unwrap()
}

#[test]
fn behind_a_trusted_proxy_the_log_tells_the_client_and_the_proxy_apart() {
    let (start, _origin) = start(concat!(
        "  mesh:\n    accessLogFile: /dev/stderr\n",
        "    accessLogFormat: \"who %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\n",
        "    defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}\n",
    ));
    let gateway = start.ready();
    gateway
        .client()
        .get("a.example.com", "/", &["X-Forwarded-For: 203.0.113.7"]);
    gateway.await_stderr("who 203.0.113.7:0 127.0.0.1 1");
}
