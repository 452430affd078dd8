//! CPU time of the whole gateway process per request, with 1 rule and with many on one host, the
//! last rule hit, in interleaved rounds. Prints medians and spread; asserts nothing about time.
//!
//! `cargo bench --bench request_cpu [-- COUNT]`; 50,000 rules unless told otherwise.

mod process;

use process::{Process, ask, origin, spread};

const ROUNDS: usize = 9;
const REQUESTS: usize = 20_000;

struct Case {
    name: &'static str,
    gateway: Process,
    path: String,
}

fn case(name: &'static str, rules: usize, kind: &str, origin: u16) -> Case {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n    - port: {{number: 80, name: http, protocol: HTTP}}\n      hosts: [\"*\"]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: backend}}\nspec:\n  hosts: [backend.internal]\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {origin}}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: many}}\nspec:\n  hosts: [\"*\"]\n  gateways: [gw]\n  http:\n"
    );
    for n in 0..rules {
        text.push_str(&format!(
            "    - match: [{{uri: {{{kind}: /service-{n:05}/}}}}]\n      route: [{{destination: {{host: backend.internal}}}}]\n"
        ));
    }
    Case {
        name,
        gateway: Process::gateway(&[("all.yaml".to_owned(), text)], 80),
        path: format!("/service-{:05}/", rules - 1),
    }
}

/// Microseconds of CPU per request over one round.
fn round(case: &Case) -> f64 {
    let before = case.gateway.ticks();
    ask(case.gateway.addr, &case.path, REQUESTS);
    // 20,000 requests are tens of ticks at the least.
    (case.gateway.ticks() - before) as f64 * 10_000.0 / REQUESTS as f64
}

fn main() {
    let many = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(50_000);
    let origin = origin();
    let cases = [
        case("1 rule", 1, "prefix", origin),
        case("many prefixes", many, "prefix", origin),
        case("many exact", many, "exact", origin),
    ];
    let mut costs = [const { Vec::new() }; 3];
    for turn in 0..=ROUNDS {
        for (case, costs) in cases.iter().zip(&mut costs) {
            let cost = round(case);
            if turn > 0 {
                costs.push(cost);
            }
        }
    }
    let mut base = None;
    for (case, costs) in cases.iter().zip(&mut costs) {
        let (median, least, most) = spread(costs);
        let base = *base.get_or_insert(median);
        println!(
            "{} ({many} rules where many): {median:.1} us CPU per request (min {least:.1}, max {most:.1}), {:.2} x one rule",
            case.name,
            median / base
        );
    }
}
