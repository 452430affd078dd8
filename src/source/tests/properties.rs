//! Promises that hold for any input: no panic, no dependence on the order of files.

use proptest::prelude::*;

use super::*;
use crate::model::object::FieldPath;
use crate::source::{contents, yaml};

const MANIFEST: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, labels: {x: &x '1'}, creationTimestamp: 2024-01-01T00:00:00Z}
spec:
  hosts: [a.example, *x]
  http:
  - match: [{uri: {prefix: /a}, headers: {x: {}}, port: 80}]
    route: [{destination: {host: a, port: {number: 80}}, weight: 90}]
    fault: {delay: {percentage: {value: 0.5}}}
  - <<: {name: merged}
    timeout: 5s
---
{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Service\",
  \"metadata\": {\"name\": \"s\"}, \"spec\": {\"ports\": [{\"port\": 80, \"targetPort\": \"web\"}]}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
";

fn load_bytes(bytes: &[u8]) -> Arc<Inventory> {
    let folder = Folder::new();
    folder.write("a.yaml", bytes);
    let inventory = folder.load();
    for object in &inventory.objects {
        for issue in &object.issues {
            assert!(object.node.find(&issue.path).is_some() || issue.path == FieldPath::default());
        }
    }
    inventory
}

/// A change to a text: at a place, so many bytes are replaced by others.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, Vec<u8>)>> {
    let token = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4),
        proptest::sample::select(vec![
            "[",
            "]",
            "{",
            "}",
            ": ",
            "- ",
            "\n",
            "\t",
            "&x ",
            "*x",
            "<<: ",
            "'",
            "\"",
            "|\n",
            "!!str ",
            "---\n",
            "null",
            "-1",
            "1e999",
            ".nan",
            "0x",
            "#",
            "\u{feff}",
            "? ",
            "%",
            "999999999999999999999",
            "~",
            "é",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec((0..MANIFEST.len(), 0..12usize, token), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        load_bytes(&bytes);
    }

    #[test]
    fn no_text_makes_the_loader_panic(text in "[-a-z:\\[\\]{}&*?!|>'\"%@,# \n\t0-9.~<é]{0,200}") {
        load_bytes(text.as_bytes());
    }

    #[test]
    fn no_change_to_a_manifest_makes_the_loader_panic(edits in edits()) {
        let mut bytes = MANIFEST.as_bytes().to_vec();
        for (place, length, replacement) in edits {
            let start = place.min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, replacement);
        }
        load_bytes(&bytes);
    }

    #[test]
    fn the_order_in_which_files_come_never_changes_the_result(
        seeds in proptest::collection::vec((0..6u8, 0..3u8, 0..3u8), 1..12),
        order in any::<prop::sample::Index>(),
    ) {
        let folder = Folder::new();
        let mut paths = Vec::new();
        for (index, (name, namespace, age)) in seeds.iter().enumerate() {
            let created = ["null", "2024-01-01T00:00:00Z", "2023-01-01T00:00:00Z"][usize::from(*age)];
            let text = service(&format!("n{name}"))
                .replace("metadata:", &format!("metadata:\n  namespace: s{namespace}\n  creationTimestamp: {created}"));
            paths.push(folder.write(&format!("f{index}.yaml"), text));
        }
        let state = |inventory: &Inventory| {
            let objects: Vec<_> = inventory
                .objects
                .iter()
                .map(|object| (object.key.clone(), object.origin.clone(), object.content))
                .collect();
            (objects, inventory.findings.clone())
        };
        let expected = state(&Loader::new(paths.clone(), LoadOptions::default()).load());
        let middle = order.index(paths.len());
        let mut shuffled = paths.clone();
        shuffled.rotate_left(middle);
        shuffled.reverse();
        prop_assert_eq!(&state(&Loader::new(shuffled.clone(), LoadOptions::default()).load()), &expected);

        // One file after the other, in any order, comes to the same.
        let mut loader = folder.loader();
        let texts: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
        loader.load();
        for path in &shuffled {
            let index = paths.iter().position(|known| known == path).unwrap();
            fs::write(path, &texts[index]).unwrap();
            loader.reload(std::slice::from_ref(path));
        }
        prop_assert_eq!(&state(&loader.load()), &expected);
    }
}

#[test]
fn the_manifest_that_is_mutated_is_a_good_one() {
    let mut names = yaml::KeyNames::default();
    let documents = yaml::parse(MANIFEST, &mut names).unwrap();
    let contents = contents::read(documents, &"a.yaml".into(), &"default".into(), &mut names);
    assert_eq!(contents.objects.len(), 3);
    assert_eq!(contents.findings, []);
    assert!(
        contents
            .objects
            .iter()
            .all(|object| object.issues.is_empty())
    );
}
