//! CPU time per request and resident memory of Pingress beside Envoy and nginx, whichever is
//! there, in interleaved rounds. Prints medians and spread; asserts nothing about time.
//!
//! `ENVOY=/path/to/envoy cargo bench --bench peers`; nginx is taken from the PATH. Each runs one
//! worker, keeps connections to the origin, writes an access log to `/dev/null` and forwards all
//! paths of all hosts to the same origin; Envoy writes Istio's text format. Envoy has no Istio
//! filters here, so that it does less than at an Istio gateway.

mod process;

use std::fmt::Write as _;
use std::net::TcpStream;
use std::process::Command;

use process::{Process, ask, free_port, origin, spread};

const ROUNDS: usize = 9;
const CONNECTIONS: usize = 8;
const REQUESTS: usize = 20_000;
const IDLE: usize = 1_000;
const HOSTS: usize = 5_000;

/// Istio's default text format.
const FORMAT: &str = r#"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"#;

/// How one program is started with so many hosts, each with a route of its own; all of them if 0.
type Start = fn(origin: u16, hosts: usize) -> Process;

fn pingress(origin: u16, hosts: usize) -> Process {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n    - port: {{number: 80, name: http, protocol: HTTP}}\n      hosts: [\"*\"]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend}}\nspec:\n  hosts: [backend.internal]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {origin}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n"
    );
    for (index, host) in names(hosts).iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-{index}}}\nspec:\n  hosts: [\"{host}\"]\n  gateways: [gw]\n  http: [{{route: [{{destination: {{host: backend.internal}}}}]}}]\n"
        );
    }
    Process::gateway(&[("all.yaml".to_owned(), text)], 80)
}

fn envoy(origin: u16, hosts: usize) -> Process {
    let port = free_port();
    let mut virtual_hosts = String::new();
    for (index, host) in names(hosts).iter().enumerate() {
        let _ = write!(
            virtual_hosts,
            "\n              - {{name: host-{index}, domains: [\"{host}\"], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}"
        );
    }
    let text = format!(
        "static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          use_remote_address: true
          normalize_path: true
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: /dev/null
              log_format: {{text_format_source: {{inline_string: \"{FORMAT}\"}}}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:{virtual_hosts}
  clusters:
  - name: backend
    type: STATIC
    load_assignment: {{cluster_name: backend, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origin}}}}}}}}}]}}]}}
"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("envoy.yaml");
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(std::env::var_os("ENVOY").unwrap_or_else(|| "envoy".into()));
    command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "off"]);
    command.arg("-c").arg(&path);
    Process::spawn(command, port, folder)
}

fn nginx(origin: u16, hosts: usize) -> Process {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().display();
    let mut servers = String::new();
    for host in names(hosts) {
        let name = if host == "*" { "_" } else { &host };
        let _ = writeln!(
            servers,
            "server {{ listen 127.0.0.1:{port}; server_name {name}; location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; }} }}"
        );
    }
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {own}/pid; error_log /dev/null;
events {{ worker_connections 20000; }}
http {{
  access_log /dev/null combined; keepalive_requests 100000000; keepalive_timeout 600s;
  server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
  client_body_temp_path {own}; proxy_temp_path {own}; fastcgi_temp_path {own}; uwsgi_temp_path {own}; scgi_temp_path {own};
  upstream backend {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 100000000; }}
  {servers}
}}
"
    );
    let path = folder.path().join("nginx.conf");
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&path).arg("-e").arg("/dev/null");
    Process::spawn(command, port, folder)
}

fn names(hosts: usize) -> Vec<String> {
    match hosts {
        0 => vec!["*".to_owned()],
        _ => (0..hosts)
            .map(|n| format!("host-{n}.example.com"))
            .collect(),
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-h").output().is_ok()
}

/// Microseconds of CPU per request over one round of several connections at a time.
fn round(process: &Process) -> f64 {
    let before = process.ticks();
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| ask(process.addr, "/some/path", REQUESTS / CONNECTIONS));
        }
    });
    (process.ticks() - before) as f64 * 10_000.0 / REQUESTS as f64
}

/// Resident KiB of an idle connection that has asked once.
fn idle(process: &Process) -> f64 {
    let before = process.resident_kib();
    let connections: Vec<TcpStream> = (0..IDLE)
        .map(|_| process::ask_once(process.addr, "/some/path"))
        .collect();
    let after = process.resident_kib();
    drop(connections);
    (after as f64 - before as f64) / IDLE as f64
}

fn main() {
    let envoy_path = std::env::var("ENVOY").unwrap_or_else(|_| "envoy".into());
    let all: [(&str, &str, Start); 3] = [
        ("pingress", env!("CARGO_BIN_EXE_pingress"), pingress),
        ("envoy", &envoy_path, envoy),
        ("nginx", "nginx", nginx),
    ];
    let (there, missing): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, path, _)| is_there(path));
    for (name, ..) in missing {
        println!("{name} is not there");
    }
    let origin = origin();
    let processes: Vec<Process> = there.iter().map(|(.., start)| start(origin, 0)).collect();
    let mut costs = vec![Vec::new(); there.len()];
    for turn in 0..=ROUNDS {
        for (process, costs) in processes.iter().zip(&mut costs) {
            let cost = round(process);
            if turn > 0 {
                costs.push(cost);
            }
        }
    }
    let mut base = None;
    for ((name, ..), costs) in there.iter().zip(&mut costs) {
        let (median, least, most) = spread(costs);
        let base = *base.get_or_insert(median);
        println!(
            "{name}: {median:.1} us CPU per request (min {least:.1}, max {most:.1}), {:.2} x pingress",
            median / base
        );
    }
    drop(processes);
    for (name, _, start) in &there {
        let small = start(origin, 0);
        println!(
            "{name}: resident {} KiB after the start",
            small.resident_kib()
        );
        ask(small.addr, "/", 100);
        println!("{name}: {:.1} KiB for an idle connection", idle(&small));
        let large = start(origin, HOSTS);
        println!(
            "{name}: resident {} KiB with {HOSTS} hosts of a route each",
            large.resident_kib()
        );
    }
}
