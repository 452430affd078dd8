//! Property: what a compile remembers changes nothing but its cost.

use std::path::Path;

use pingress::base::Finding;
use pingress::compile::{Compiled, Memory, Options, compile};
use pingress::plan::Digest;
use pingress::source::{LoadOptions, Loader};
use proptest::prelude::*;

use crate::order::{GATEWAYS, GUARDS, HOSTS, RULE, rules, show};
use crate::support::{EDGE, service};

/// A change of one file.
#[derive(Clone, Debug)]
enum Edit {
    /// One of the files that are not VirtualServices gets one of its texts.
    Fixed(usize, usize),
    VirtualService {
        index: usize,
        host: usize,
        gateway: usize,
        rules: Vec<(usize, usize)>,
        old: bool,
    },
    Leaf(Vec<(usize, usize)>),
    Remove(usize),
}

/// Files other than VirtualServices of requests: the first text is there from the beginning.
fn fixed() -> Vec<Vec<String>> {
    let entry = |ports: &str| {
        service("a.internal").replace("{number: 80, name: http, protocol: HTTP}", ports)
    };
    let slices = |address: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: reviews}}}}\naddressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [{address}]}}]\n"
        )
    };
    let reviews = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\nspec: {clusterIP: 10.1.1.1, ports: [{name: http, port: 80}]}\n";
    vec![
        vec![
            EDGE.into(),
            EDGE.replace("'*'", "a.com, '*.a.com'"),
            EDGE.replace(
                "'*']",
                "'*']\n  - port: {number: 81, name: more, protocol: HTTP}\n    hosts: [a.com]",
            ),
            EDGE.replace("'*']", "'*']\n    tls: {httpsRedirect: true}"),
            EDGE.replace("'*'", "'x.*'"),
            format!("{EDGE}{STREAMS}"),
            format!("{EDGE}{STREAMS}").replace("number: 90", "number: 91"),
            String::new(),
        ],
        vec![
            service("a.internal"),
            entry("{number: 80, name: http, protocol: HTTP2}"),
            entry("{number: 80, name: a, protocol: HTTP}, {number: 81, name: b, protocol: HTTP}"),
            entry("{number: 0, name: http, protocol: HTTP}"),
            service("a.internal").replace("10.0.0.1", "10.0.0.2"),
            service("a.internal") + "  exportTo: [other]\n",
            String::new(),
        ],
        vec![service("b.internal"), String::new()],
        vec![
            RULE.into(),
            RULE.replace("{name: v2}", "{name: v2, labels: {v: '2'}}"),
            RULE.replace("v1", "v3"),
            RULE.replace(
                "spec: {",
                "spec: {trafficPolicy: {loadBalancer: {simple: RANDOM}}, ",
            ),
            RULE.replace("spec: {", "spec: {trafficPolicy: {tls: {mode: SIMPLE}}, "),
            RULE.replace(
                "spec: {",
                "spec: {trafficPolicy: {tls: {mode: SIMPLE, credentialName: ca}}, ",
            ),
            RULE.replace("spec: {", "spec: {oops: 1, "),
            String::new(),
        ],
        vec![
            String::new(),
            reviews.into(),
            reviews.replace(
                "clusterIP: 10.1.1.1",
                "type: ExternalName, externalName: a.internal",
            ),
        ],
        vec![String::new(), slices("10.2.0.1"), slices("10.2.0.2")],
        GUARDS.map(str::to_owned).to_vec(),
        vec![
            connections("a.internal"),
            connections("b.internal"),
            connections("reviews").replace("port: 90", "port: 91"),
            connections("a.internal, subset: v1"),
            connections("a.internal}, oops: {"),
            String::new(),
        ],
        vec![
            String::new(),
            authority("one"),
            authority("two"),
            SECRET.to_owned() + "  ca.crt: AAAA\n",
        ],
    ]
}

/// Servers of the Gateway `edge` that carry connections.
const STREAMS: &str = "  - port: {number: 90, name: tcp, protocol: TCP}
    hosts: ['*']
  - port: {number: 93, name: tls, protocol: TLS}
    hosts: ['*']
    tls: {mode: PASSTHROUGH}
  - port: {number: 94, name: auto, protocol: TLS}
    hosts: ['*']
    tls: {mode: AUTO_PASSTHROUGH}
";

/// Rules for connections to a destination.
fn connections(destination: &str) -> String {
    let route = format!("route: [{{destination: {{host: {destination}}}}}]");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: connections}}\nspec:\n  hosts: ['*.a.com']\n  gateways: [edge]\n  tcp: [{{match: [{{port: 90}}], {route}}}]\n  tls: [{{match: [{{sniHosts: [x.a.com]}}], {route}}}]\n"
    )
}

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: ca, namespace: istio-system}\nstringData:\n";

/// A Secret with the CA that a rule names.
fn authority(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let lines: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    format!("{SECRET}  ca.crt: |\n{lines}")
}

fn edit() -> impl Strategy<Value = Edit> {
    let fixed = fixed().len();
    prop_oneof![
        5 => (0..fixed, any::<usize>()).prop_map(|(file, text)| Edit::Fixed(file, text)),
        5 => (0..5_usize, 0..HOSTS.len(), 0..GATEWAYS.len(), rules(), any::<bool>()).prop_map(
            |(index, host, gateway, rules, old)| Edit::VirtualService { index, host, gateway, rules, old }
        ),
        1 => rules().prop_map(Edit::Leaf),
        1 => (0..5_usize).prop_map(Edit::Remove),
    ]
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn remove(folder: &Path, name: &str) {
    // It need not be there.
    let _ = std::fs::remove_file(folder.join(name));
}

fn virtual_service(folder: &Path, name: &str, meta: &str, spec: &str) {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}{meta}}}\nspec:\n{spec}"
    );
    write(folder, &format!("{name}.yaml"), &text);
}

impl Edit {
    fn make(&self, folder: &Path, texts: &[Vec<String>]) {
        match self {
            Self::Fixed(file, text) => {
                let text = &texts[*file][*text % texts[*file].len()];
                let name = format!("fixed-{file}.yaml");
                match text.as_str() {
                    "" => remove(folder, &name),
                    text => write(folder, &name, text),
                }
            }
            Self::VirtualService {
                index,
                host,
                gateway,
                rules,
                old,
            } => {
                let age = match old {
                    true => ", creationTimestamp: '2020-01-01T00:00:00Z'",
                    false => "",
                };
                let spec = format!(
                    "  hosts: [{}]\n  gateways: [{}]\n{}",
                    HOSTS[*host],
                    GATEWAYS[*gateway],
                    show(rules)
                );
                virtual_service(folder, &format!("vs-{index}"), age, &spec);
            }
            Self::Leaf(rules) => virtual_service(folder, "leaf", "", &show(rules)),
            Self::Remove(index) => remove(folder, &format!("vs-{index}.yaml")),
        }
    }
}

/// Everything that users and requests see of a compile.
fn meaning(compiled: &Compiled) -> (String, Digest, Digest, String, Vec<Finding>) {
    (
        compiled.plan.render(),
        compiled.plan.digest,
        compiled.endpoints.digest,
        format!("{:?}", compiled.endpoints.clusters),
        compiled.findings.clone(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_compile_that_remembers_gives_what_one_from_scratch_gives(
        edits in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..12),
    ) {
        let (folder, texts) = (tempfile::tempdir().unwrap(), fixed());
        (0..texts.len()).for_each(|file| Edit::Fixed(file, 0).make(folder.path(), &texts));
        // Destinations whose meaning the edits of other files change.
        for (index, action) in [(0, 3), (1, 4), (2, 7)] {
            let rules = vec![(index + 2, action), (0, 3)];
            let (host, gateway, old) = (0, 0, false);
            Edit::VirtualService { index, host, gateway, rules, old }.make(folder.path(), &texts);
        }
        Edit::Leaf(vec![(2, 4)]).make(folder.path(), &texts);
        let mut loader = Loader::new(vec![folder.path().to_owned()], LoadOptions::default());
        let (mut memory, options) = (Memory::default(), Options::default());
        let _ = compile(&loader.load(), &mut memory, &options);
        for edits in &edits {
            edits.iter().for_each(|edit| edit.make(folder.path(), &texts));
            let inventory = loader.load();
            let mut versions = memory.versions();
            let scratch = compile(&inventory, &mut versions, &options);
            let remembered = compile(&inventory, &mut memory, &options);
            prop_assert_eq!(meaning(&scratch), meaning(&remembered));
            prop_assert_eq!(Digest::of_plan(&remembered.plan), remembered.plan.digest);
            let versions: Vec<_> = versions.objects().map(|object| &object.key).collect();
            let held: Vec<_> = memory.objects().map(|object| &object.key).collect();
            prop_assert_eq!(versions, held);
        }
    }
}

#[test]
fn a_change_of_one_virtual_service_shares_everything_else_with_the_plan_before() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "edge.yaml", EDGE);
    write(folder.path(), "a.yaml", &service("a.internal"));
    let vs = |name: &str, host: &str, prefix: &str| {
        let spec = format!(
            "  hosts: [{host}]\n  gateways: [edge]\n  http: [{{match: [{{uri: {{prefix: {prefix}}}}}], route: [{{destination: {{host: a.internal}}}}]}}]\n"
        );
        virtual_service(folder.path(), name, "", &spec);
    };
    vs("one", "one.com", "/a");
    vs("two", "two.com", "/a");
    vs("both", "'one.com', 'two.com'", "/b");
    let mut loader = Loader::new(vec![folder.path().to_owned()], LoadOptions::default());
    let (mut memory, options) = (Memory::default(), Options::default());
    let before = compile(&loader.load(), &mut memory, &options);
    vs("two", "two.com", "/c");
    let after = compile(&loader.load(), &mut memory, &options);
    let [before, after] = [&before.plan.listeners[0], &after.plan.listeners[0]];
    assert!(std::sync::Arc::ptr_eq(&before.hosts, &after.hosts));
    let same: Vec<bool> = before
        .virtual_hosts
        .iter()
        .zip(&after.virtual_hosts)
        .map(|(before, after)| std::sync::Arc::ptr_eq(before, after))
        .collect();
    assert_eq!(same, [true, false]);
    let shared = |index: usize| {
        let [before, after] =
            [before, after].map(|listener| &listener.virtual_hosts[1].routes[index]);
        std::sync::Arc::ptr_eq(before, after)
    };
    assert_eq!([shared(0), shared(1)], [true, false]);
}
