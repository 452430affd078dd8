//! Compiling many VirtualServices: the whole inventory to plan, endpoints and findings.

use std::sync::Arc;

use divan::{Bencher, black_box};
use pingress::compile::{LastGood, Options, compile};
use pingress::model::Inventory;
use pingress::source::{LoadOptions, Loader};

fn main() {
    divan::main();
}

fn inventory(count: usize) -> Arc<Inventory> {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    - port: {number: 80, name: http, protocol: HTTP}\n      hosts: [\"*\"]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: backend}\nspec:\n  hosts: [backend.internal]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]\n",
    );
    std::fs::write(folder.path().join("gateway.yaml"), &text).unwrap();
    // Files of a thousand each: one with all would be over the limit of a file.
    for first in (0..count).step_by(1_000) {
        text.clear();
        for n in first..count.min(first + 1_000) {
            text.push_str(&format!(
                "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: route-{n}}}\nspec:\n  hosts: [host-{n}.example.com]\n  gateways: [gw]\n  http:\n    - match: [{{uri: {{prefix: /api}}}}]\n      route: [{{destination: {{host: backend.internal}}}}]\n    - match: [{{uri: {{exact: /exact}}}}]\n      route: [{{destination: {{host: backend.internal}}}}]\n    - route: [{{destination: {{host: backend.internal}}}}]\n"
            ));
        }
        std::fs::write(folder.path().join(format!("{first}.yaml")), &text).unwrap();
    }
    Loader::new(vec![folder.path().to_owned()], LoadOptions::default()).load()
}

#[divan::bench(args = [1_000, 5_000, 50_000], sample_count = 20, sample_size = 1)]
fn whole(bencher: Bencher<'_, '_>, count: usize) {
    let inventory = inventory(count);
    assert!(inventory.objects.len() > count, "{:?}", inventory.findings);
    bencher.bench_local(|| {
        compile(
            black_box(&inventory),
            &LastGood::default(),
            &Options::default(),
        )
    });
}
