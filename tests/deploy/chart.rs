//! The Helm chart, rendered by helm itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::manifests::check_strictly;
use super::{documents, read, root, run, text};

const HEADER: &str =
    "# Rendered from deploy/helm/pingress. Change it there, or change your copy.\n";

/// helm as `make test` puts it there, or the one on the path.
fn helm() -> Command {
    let ours = root("target/tools/helm");
    Command::new(if ours.exists() {
        ours
    } else {
        PathBuf::from("helm")
    })
}

/// Renders the chart with values; the templates' texts by file name.
fn render(values: &Value) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    let out = folder.path().join("out");
    run(helm()
        .args(["template", "pingress"])
        .arg(root("deploy/helm/pingress"))
        .args(["--namespace", "pingress", "--values"])
        .arg(&file)
        .arg("--output-dir")
        .arg(&out));
    std::fs::read_dir(out.join("pingress/templates"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let rendered = read(&path);
            let lines: Vec<&str> = rendered
                .lines()
                .filter(|line| !line.starts_with("# Source: "))
                .map(str::trim_end)
                .collect();
            let rendered = lines.join("\n");
            let body = rendered.trim_start_matches("---").trim();
            (name, format!("{HEADER}{body}\n"))
        })
        .collect()
}

/// All objects of a rendering.
fn objects(files: &BTreeMap<String, String>) -> Vec<Value> {
    files.values().flat_map(|file| documents(file)).collect()
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn the_plain_manifests_are_the_chart_with_its_defaults() {
    let rendered = render(&json!({"monitoring": {"enabled": true}}));
    let plain = render(&json!({}));
    let place = |name: &String| match plain.contains_key(name) {
        true => root("deploy/kubernetes").join(name),
        false => root("deploy/kubernetes/monitoring").join(name),
    };
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for (name, text) in &rendered {
            std::fs::write(place(name), text).unwrap();
        }
    }
    for (name, text) in &rendered {
        assert!(
            read(&place(name)) == *text,
            "{name} differs: UPDATE_GOLDEN=1 cargo test --test deploy"
        );
    }
    let mut places: BTreeSet<PathBuf> = rendered.keys().map(place).collect();
    places.insert(root("deploy/kubernetes/00-namespace.yaml"));
    for folder in ["deploy/kubernetes", "deploy/kubernetes/monitoring"] {
        for entry in std::fs::read_dir(root(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                path.is_dir() || places.contains(&path),
                "{} is no part of the chart",
                path.display()
            );
        }
    }
}

#[test]
fn the_chart_passes_helms_own_check() {
    run(helm()
        .args(["lint", "--strict"])
        .arg(root("deploy/helm/pingress")));
}

#[test]
fn every_value_of_the_chart_arrives_where_it_belongs() {
    let values = json!({
        "image": {"repository": "example.org/p", "tag": "7.1", "pullPolicy": "Always", "pullSecrets": [{"name": "registry"}]},
        "ports": [{"name": "web", "declared": 8081, "bound": 9081}],
        "settings": {"threads": 3, "gateway": {"namespace": "elsewhere", "drain": {"delay": "7s"}}},
        "terminationGracePeriodSeconds": 99,
        "manifests": {"more.yaml": "kind: List\nitems: []\n"},
        "moreManifests": ["team-a", "team-b"],
        "tlsSecrets": ["shop"],
        "service": {
            "type": "NodePort",
            "externalTrafficPolicy": "Cluster",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "annotations": {"a.example.com/b": "c"},
        },
        "resources": {"requests": {"cpu": "3"}},
        "autoscaling": {"minReplicas": 3, "maxReplicas": 5, "targetCPUUtilizationPercentage": 60},
        "disruption": {"maxUnavailable": 2},
        "podAnnotations": {"note": "yes"},
        "nodeSelector": {"pool": "edge"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "monitoring": {"enabled": true, "labels": {"release": "prom"}, "interval": "15s"},
    });
    let objects = objects(&render(&values));
    objects.iter().for_each(check_strictly);
    let deployment = object(&objects, "Deployment", "pingress");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "example.org/p:7.1");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(pod["imagePullSecrets"][0]["name"], "registry");
    assert_eq!(container["ports"][0]["name"], "web");
    assert_eq!(container["ports"][0]["containerPort"], 9081);
    assert_eq!(pod["terminationGracePeriodSeconds"], 99);
    assert_eq!(container["resources"]["requests"]["cpu"], "3");
    assert_eq!(pod["nodeSelector"]["pool"], "edge");
    assert_eq!(pod["tolerations"][0]["key"], "edge");
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["note"], "yes");
    for (volume, place) in [
        ("/configMap/name", "/etc/pingress/manifests/more-team-b"),
        ("/secret/secretName", "/etc/pingress/tls/shop"),
    ] {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == place);
        let name = &mount.unwrap_or_else(|| panic!("no mount {place}"))["name"];
        let volumes = pod["volumes"].as_array().unwrap();
        let source = volumes.iter().find(|volume| volume["name"] == *name);
        let wanted = place.rsplit(['/']).next().unwrap();
        assert_eq!(
            text(source.unwrap(), volume),
            wanted.trim_start_matches("more-")
        );
    }

    let settings = object(&objects, "ConfigMap", "pingress-settings");
    let settings =
        pingress::server::Settings::parse(text(settings, "/data/pingress.yaml")).unwrap();
    assert_eq!(settings.threads, 3);
    assert_eq!(settings.gateway.namespace, "elsewhere");
    assert_eq!(settings.gateway.workload, "pingress");
    assert_eq!(settings.gateway.drain.delay.0.as_secs(), 7);
    assert_eq!(settings.gateway.limits.max_connections, 20_000);
    assert_eq!(settings.gateway.ports, [(8081, 9081)].into());
    let manifests = object(&objects, "ConfigMap", "pingress-manifests");
    let more = &manifests["data"]["more.yaml"];
    assert_eq!(more, "kind: List\nitems: []\n");

    let service = object(&objects, "Service", "pingress");
    assert_eq!(service["spec"]["type"], "NodePort");
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(
        service["spec"]["loadBalancerSourceRanges"][0],
        "192.0.2.0/24"
    );
    assert_eq!(service["spec"]["ports"][0]["port"], 8081);
    assert_eq!(service["metadata"]["annotations"]["a.example.com/b"], "c");
    let scale = &object(&objects, "HorizontalPodAutoscaler", "pingress")["spec"];
    assert_eq!(
        (&scale["minReplicas"], &scale["maxReplicas"]),
        (&json!(3), &json!(5))
    );
    let target = &scale["metrics"][0]["resource"]["target"];
    assert_eq!(target["averageUtilization"], 60);
    let budget = object(&objects, "PodDisruptionBudget", "pingress");
    assert_eq!(budget["spec"]["maxUnavailable"], 2);
    let monitor = object(&objects, "ServiceMonitor", "pingress");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prom");
    assert_eq!(monitor["spec"]["endpoints"][0]["interval"], "15s");
}

#[test]
fn pods_are_replaced_when_settings_change_and_not_when_manifests_do() {
    let mark = |values: Value| {
        let objects = objects(&render(&values));
        let deployment = object(&objects, "Deployment", "pingress");
        let pod = &deployment["spec"]["template"];
        pod.clone()
    };
    let before = mark(json!({}));
    assert_eq!(before, mark(json!({"manifests": {"x.yaml": "kind: List"}})));
    assert_ne!(before, mark(json!({"settings": {"threads": 2}})));
}
