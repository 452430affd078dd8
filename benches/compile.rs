//! Compiling many VirtualServices: the whole inventory to plan, endpoints and findings; anew, and
//! after a change of one object.

use std::path::Path;
use std::sync::Arc;

use divan::{Bencher, black_box};
use pingress::compile::{Memory, Options, compile};
use pingress::model::Inventory;
use pingress::source::{LoadOptions, Loader};

fn main() {
    divan::main();
}

fn virtual_service(n: usize, path: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: route-{n}}}\nspec:\n  hosts: [host-{n}.example.com]\n  gateways: [gw]\n  http:\n    - match: [{{uri: {{prefix: /api}}}}]\n      route: [{{destination: {{host: backend.internal}}}}]\n    - match: [{{uri: {{exact: {path}}}}}]\n      route: [{{destination: {{host: backend.internal}}}}]\n    - route: [{{destination: {{host: backend.internal}}}}]\n"
    )
}

fn write(folder: &Path, count: usize) {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    - port: {number: 80, name: http, protocol: HTTP}\n      hosts: [\"*\"]\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: backend}\nspec:\n  hosts: [backend.internal]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: 127.0.0.1}]\n",
    );
    std::fs::write(folder.join("gateway.yaml"), &text).unwrap();
    std::fs::write(folder.join("changed.yaml"), virtual_service(0, "/exact")).unwrap();
    // Files of a thousand each: one with all would be over the limit of a file.
    for first in (1..count).step_by(1_000) {
        text.clear();
        (first..count.min(first + 1_000)).for_each(|n| text += &virtual_service(n, "/exact"));
        std::fs::write(folder.join(format!("{first}.yaml")), &text).unwrap();
    }
}

/// All, and the same with one VirtualService changed.
fn inventories(count: usize) -> [Arc<Inventory>; 2] {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), count);
    let mut loader = Loader::new(vec![folder.path().to_owned()], LoadOptions::default());
    let before = loader.load();
    assert!(before.objects.len() > count, "{:?}", before.findings);
    let changed = folder.path().join("changed.yaml");
    std::fs::write(&changed, virtual_service(0, "/other")).unwrap();
    let after = loader.reload(&[changed]);
    assert_ne!(before.revision, after.revision);
    [before, after]
}

#[divan::bench(args = [1_000, 5_000, 50_000], sample_count = 20, sample_size = 1)]
fn whole(bencher: Bencher<'_, '_>, count: usize) {
    let [inventory, _] = inventories(count);
    bencher.bench_local(|| {
        compile(
            black_box(&inventory),
            &mut Memory::default(),
            &Options::default(),
        )
    });
}

/// What the server pays: the plan before is freed within the time.
#[divan::bench(args = [1_000, 5_000, 50_000], sample_count = 100, sample_size = 1)]
fn one_changed(bencher: Bencher<'_, '_>, count: usize) {
    let [before, after] = inventories(count);
    let (mut memory, options) = (Memory::default(), Options::default());
    let mut live = compile(&before, &mut memory, &options);
    let mut is_changed = false;
    bencher.bench_local(|| {
        is_changed = !is_changed;
        let inventory = if is_changed { &after } else { &before };
        let compiled = compile(black_box(inventory), &mut memory, &options);
        assert_ne!(live.plan.digest, compiled.plan.digest);
        live = compiled;
    });
}
