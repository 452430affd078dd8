//! A change of the files is live without a restart and without closing a connection.

use crate::harness::*;

fn direct(text: &str) -> String {
    routes_yaml(
        "a",
        &["a.example.com"],
        &format!("    - directResponse: {{status: 200, body: {{string: {text}}}}}\n"),
    )
}

fn serving(text: &str) -> Gateway {
    Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("routes.yaml", direct(text)),
    ])
    .ready()
}

fn await_body(gateway: &Gateway, body: &str) {
    await_until(&format!("the answer is {body}"), || {
        (gateway.get("a.example.com", "/").body == body).then_some(())
    });
}

#[test]
fn a_changed_file_is_live_on_connections_that_stay_open() {
    let gateway = serving("one");
    let mut client = gateway.client();
    assert_eq!(client.get("a.example.com", "/", &[]).body, "one");
    gateway.write("routes.yaml", &direct("two"));
    await_body(&gateway, "two");
    assert_eq!(client.get("a.example.com", "/", &[]).body, "two");
}

#[test]
fn no_request_fails_and_no_connection_closes_over_many_swaps() {
    let origin = Origin::echo("one");
    let routes = |n: usize| {
        routes_yaml(
            "a",
            &["*"],
            &format!(
                "    - name: r{n}\n      route:\n        - destination: {{host: one.internal}}\n      headers: {{response: {{set: {{x-turn: \"{n}\"}}}}}}\n"
            ),
        )
    };
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("one.internal", &[(origin.port, "v1")]),
        ),
        ("routes.yaml", routes(0)),
    ])
    .ready();
    let mut client = gateway.client();
    for turn in 1..=40 {
        gateway.write("routes.yaml", &routes(turn));
        await_until("the new plan is live", || {
            let response = client.get("a.example.com", "/", &[]);
            assert_eq!(response.status, 200);
            (response.header("x-turn") == Some(turn.to_string().as_str())).then_some(())
        });
    }
}

#[test]
fn a_broken_file_keeps_what_was_serving_and_says_which_line() {
    let gateway = serving("one");
    gateway.write("routes.yaml", "kind: VirtualService\n  broken: [\n");
    let line = gateway.await_stderr("PGR0002");
    assert!(line.contains("routes.yaml:"), "{line}");
    assert_eq!(gateway.get("a.example.com", "/").body, "one");
    gateway.write("routes.yaml", &direct("mended"));
    await_body(&gateway, "mended");
}

#[test]
fn an_object_that_becomes_invalid_keeps_its_last_good_version() {
    let gateway = serving("one");
    gateway.write(
        "routes.yaml",
        &routes_yaml(
            "a",
            &["a.example.com"],
            "    - directResponse: {status: 200, body: {string: two}}\n      bogus: 1\n",
        ),
    );
    gateway.await_stderr("PGR0104");
    assert_eq!(gateway.get("a.example.com", "/").body, "one");
}

#[test]
fn an_equal_meaning_is_no_swap() {
    let gateway = serving("one");
    let digest = |gateway: &Gateway| {
        gateway
            .metrics()
            .lines()
            .find(|line| line.starts_with("pingress_plan_swaps_total"))
            .map(ToOwned::to_owned)
    };
    let before = digest(&gateway);
    assert!(before.is_some(), "{}", gateway.metrics());
    gateway.write("routes.yaml", &format!("# a comment\n{}", direct("one")));
    gateway.write(
        "unrelated.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
    );
    gateway.await_stderr("PGR0010");
    assert_eq!(digest(&gateway), before);
}

#[test]
fn a_gateway_that_adds_or_removes_a_port_opens_or_closes_that_listener() {
    let two_ports = gateway_yaml(&["*"])
        + "    - port: {number: 81, name: http-81, protocol: HTTP}\n      hosts: [\"*\"]\n";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("routes.yaml", direct("one")),
    ])
    .port(81)
    .ready();
    let mut kept = gateway.client();
    assert_eq!(kept.get("a.example.com", "/", &[]).body, "one");
    assert!(std::net::TcpStream::connect(gateway.addr_of(81)).is_err());
    for _ in 0..3 {
        gateway.write("gateway.yaml", &two_ports);
        await_until("port 81 listens", || {
            std::net::TcpStream::connect(gateway.addr_of(81)).ok()
        });
        assert_eq!(
            Client::connect(gateway.addr_of(81))
                .get("a.example.com", "/", &[])
                .body,
            "one"
        );
        gateway.write("gateway.yaml", &gateway_yaml(&["*"]));
        await_until("port 81 is closed", || {
            std::net::TcpStream::connect(gateway.addr_of(81))
                .is_err()
                .then_some(())
        });
        assert_eq!(kept.get("a.example.com", "/", &[]).body, "one");
    }
}

#[test]
fn a_port_in_use_is_a_finding_and_is_opened_once_it_is_free() {
    let two_ports = gateway_yaml(&["*"])
        + "    - port: {number: 81, name: http-81, protocol: HTTP}\n      hosts: [\"*\"]\n";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("routes.yaml", direct("one")),
    ])
    .port(81)
    .ready();
    let taken = std::net::TcpListener::bind(gateway.addr_of(81)).unwrap();
    gateway.write("gateway.yaml", &two_ports);
    let line = gateway.await_stderr("PGR0301");
    assert!(
        line.contains(&gateway.addr_of(81).port().to_string()),
        "{line}"
    );
    assert_eq!(gateway.get("a.example.com", "/").body, "one");
    drop(taken);
    await_until("port 81 serves", || {
        std::net::TcpStream::connect(gateway.addr_of(81)).ok()?;
        let mut client = Client::connect(gateway.addr_of(81));
        client.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
        client.read().filter(|response| response.body == "one")
    });
}

#[test]
fn a_configmaps_symlink_swap_is_taken_up() {
    use std::os::unix::fs::symlink;
    let gateway = Start::with(&[]).unready();
    let mount = &gateway.manifests;
    let publish = |turn: usize, text: &str| {
        let data = mount.join(format!("..data_{turn}"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("gateway.yaml"), gateway_yaml(&["*"])).unwrap();
        std::fs::write(data.join("routes.yaml"), direct(text)).unwrap();
        symlink(format!("..data_{turn}"), mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    publish(1, "one");
    for name in ["gateway.yaml", "routes.yaml"] {
        symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    await_until("the first data is live", || {
        std::net::TcpStream::connect(gateway.addr()).ok()
    });
    await_body(&gateway, "one");
    for turn in 2..6 {
        publish(turn, &format!("turn{turn}"));
        std::fs::remove_dir_all(mount.join(format!("..data_{}", turn - 1))).unwrap();
        await_body(&gateway, &format!("turn{turn}"));
    }
}

#[test]
fn a_folder_that_vanishes_loses_nothing_that_was_serving() {
    let gateway = serving("one");
    let away = gateway.folder.path().join("away");
    std::fs::rename(&gateway.manifests, &away).unwrap();
    gateway.await_stderr("PGR0001");
    assert_eq!(gateway.get("a.example.com", "/").body, "one");
    std::fs::rename(&away, &gateway.manifests).unwrap();
    gateway.write("routes.yaml", &direct("back"));
    await_body(&gateway, "back");
}

#[test]
fn a_first_start_with_an_unparseable_file_is_not_ready_until_it_is_mended() {
    let files = [
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("routes.yaml", direct("one")),
        ("bad.yaml", "a: [".to_owned()),
    ];
    let gateway = Start::with(&files).unready();
    gateway.await_stderr("not ready");
    assert_eq!(gateway.try_status("/healthz/ready"), Some(503));
    gateway.write("bad.yaml", "");
    await_until("it is ready", || {
        (gateway.try_status("/healthz/ready") == Some(200)).then_some(())
    });
    assert_eq!(gateway.get("a.example.com", "/").body, "one");
    let partial = Start::with(&files).argument("--start-partial").ready();
    assert_eq!(partial.get("a.example.com", "/").body, "one");
}

#[test]
fn endpoints_change_without_a_swap() {
    let (one, two) = (Origin::echo("one"), Origin::echo("two"));
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("one.internal", &[(one.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml("a", &["*"], &everything_to("one.internal")),
        ),
    ])
    .ready();
    let swaps = |gateway: &Gateway| {
        gateway
            .metrics()
            .lines()
            .find(|line| line.starts_with("pingress_plan_swaps_total"))
            .map(ToOwned::to_owned)
    };
    let mut client = gateway.client();
    assert!(
        client
            .get("a.example.com", "/", &[])
            .body
            .starts_with("one")
    );
    let before = swaps(&gateway);
    gateway.write(
        "service.yaml",
        &service_yaml("one.internal", &[(two.port, "v1")]),
    );
    await_until("the new endpoint is used", || {
        client
            .get("a.example.com", "/", &[])
            .body
            .starts_with("two")
            .then_some(())
    });
    assert_eq!(swaps(&gateway), before);
}
