//! The plain manifests: strictly what Kubernetes takes, and in agreement with the gateway.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use pingress::server::Settings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::crds::{PrometheusRule, ServiceMonitor};
use super::{documents, number, read, root, run, text};

/// Fails for a field that the kind does not have, and for a value of another type.
pub fn check_strictly(object: &Value) {
    match text(object, "/kind") {
        "Namespace" => round_trip::<Namespace>(object),
        "ConfigMap" => round_trip::<ConfigMap>(object),
        "ServiceAccount" => round_trip::<ServiceAccount>(object),
        "Service" => round_trip::<Service>(object),
        "Deployment" => round_trip::<Deployment>(object),
        "HorizontalPodAutoscaler" => round_trip::<HorizontalPodAutoscaler>(object),
        "PodDisruptionBudget" => round_trip::<PodDisruptionBudget>(object),
        "ServiceMonitor" => round_trip::<ServiceMonitor>(object),
        "PrometheusRule" => round_trip::<PrometheusRule>(object),
        kind => panic!("{kind} is not checked: add its type here"),
    }
}

/// What a type does not know is lost on the way through it.
fn round_trip<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{error} in {object:#}"));
    let back = serde_json::to_value(typed).unwrap();
    if let Some(difference) = difference("", object, &back) {
        panic!("{}: {difference}", object["kind"]);
    }
}

/// The path of the first thing that two values do not share.
fn difference(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys());
            keys.into_iter().find_map(|key| {
                let path = format!("{path}/{key}");
                match (left.get(key), right.get(key)) {
                    (Some(left), Some(right)) => difference(&path, left, right),
                    (Some(_), None) => Some(format!("{path} is unknown")),
                    (None, _) => Some(format!("{path} is missing")),
                }
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(index, (left, right))| difference(&format!("{path}/{index}"), left, right)),
        _ => (left != right).then(|| format!("{path} is {left}, read as {right}")),
    }
}

/// Every object of `deploy/kubernetes`.
pub fn plain() -> Vec<Value> {
    let mut objects = Vec::new();
    for folder in ["deploy/kubernetes", "deploy/kubernetes/monitoring"] {
        for entry in std::fs::read_dir(root(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                objects.extend(documents(&read(&path)));
            }
        }
    }
    assert!(objects.len() >= 12, "{} objects", objects.len());
    objects
}

pub fn the(objects: &[Value], kind: &str, name: &str) -> Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}")).clone()
}

/// The settings that the pod mounts.
pub fn settings(objects: &[Value]) -> Settings {
    let map = the(objects, "ConfigMap", "pingress-settings");
    Settings::parse(text(&map, "/data/pingress.yaml")).unwrap()
}

/// The port number at the end of an address.
fn port_of(address: &str) -> u64 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn every_object_has_only_fields_that_kubernetes_knows() {
    for object in plain() {
        check_strictly(&object);
        if object["kind"] != "Namespace" {
            assert_eq!(object["metadata"]["namespace"], "pingress");
        }
    }
}

#[test]
fn an_unknown_field_would_be_found() {
    let mut deployment = the(&plain(), "Deployment", "pingress");
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = json!({});
    let refused = std::panic::catch_unwind(|| check_strictly(&deployment));
    assert!(refused.is_err());
}

#[test]
fn the_mounted_settings_and_manifests_are_taken_by_the_gateway_without_a_finding() {
    let objects = plain();
    let folder = tempfile::tempdir().unwrap();
    let settings = the(&objects, "ConfigMap", "pingress-settings");
    let settings_file = folder.path().join("pingress.yaml");
    std::fs::write(&settings_file, text(&settings, "/data/pingress.yaml")).unwrap();
    let manifests = folder.path().join("manifests");
    mount(
        &the(&objects, "ConfigMap", "pingress-manifests"),
        &manifests,
    );
    let report = run(Command::new(env!("CARGO_BIN_EXE_pingress"))
        .args(["check", "--format", "json", "--settings"])
        .arg(&settings_file)
        .arg(&manifests));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["findings"], json!([]), "{report:#}");
    let routes = run(Command::new(env!("CARGO_BIN_EXE_pingress"))
        .args(["routes", "--settings"])
        .arg(&settings_file)
        .arg(&manifests));
    assert!(routes.contains("8080"), "port 80 is not at 8080: {routes}");
    assert!(
        routes.contains("shop.default.svc.cluster.local"),
        "{routes}"
    );
}

/// A ConfigMap as the kubelet mounts it: links to a folder that is swapped as a whole.
fn mount(map: &Value, place: &Path) {
    let version = place.join("..2026_01_01");
    std::fs::create_dir_all(&version).unwrap();
    std::os::unix::fs::symlink("..2026_01_01", place.join("..data")).unwrap();
    for (name, text) in map["data"].as_object().unwrap() {
        std::fs::write(version.join(name), text.as_str().unwrap()).unwrap();
        let target = Path::new("..data").join(name);
        std::os::unix::fs::symlink(target, place.join(name)).unwrap();
    }
}

#[test]
fn ports_probes_and_services_agree_with_the_settings() {
    let objects = plain();
    let settings = settings(&objects);
    let deployment = the(&objects, "Deployment", "pingress");
    let container = deployment
        .pointer("/spec/template/spec/containers/0")
        .unwrap();
    let open: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (text(port, "/name"), number(port, "/containerPort")))
        .collect();
    assert!(open.values().all(|port| *port > 1023), "{open:?}");
    assert_eq!(open["status"], port_of(&settings.gateway.status.bind));
    assert_eq!(open["metrics"], port_of(&settings.gateway.metrics.bind));

    for (probe, path) in [
        ("readinessProbe", "/healthz/ready"),
        ("livenessProbe", "/healthz/live"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], "status");
    }

    let selector = deployment.pointer("/spec/selector/matchLabels").unwrap();
    let labels = deployment.pointer("/spec/template/metadata/labels");
    let labels = labels.and_then(Value::as_object).unwrap();
    for (key, value) in selector.as_object().unwrap() {
        assert_eq!(labels.get(key), Some(value));
    }
    let service = the(&objects, "Service", "pingress");
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Local");
    assert_eq!(service["spec"]["selector"], *selector);
    let mut offered = 0;
    for port in service["spec"]["ports"].as_array().unwrap() {
        let declared = u16::try_from(number(port, "/port")).unwrap();
        let bound = settings.gateway.ports[&declared];
        assert_eq!(open[text(port, "/targetPort")], u64::from(bound));
        offered += 1;
    }
    assert_eq!(offered, settings.gateway.ports.len());
    for object in &objects {
        let selected = object.pointer("/spec/selector/matchLabels");
        if text(object, "/kind") == "PodDisruptionBudget" {
            assert_eq!(selected, Some(selector));
        }
    }

    let metrics = the(&objects, "Service", "pingress-metrics");
    assert_eq!(metrics["spec"]["selector"], *selector);
    assert_eq!(metrics["spec"]["ports"][0]["targetPort"], "metrics");
    let monitor = the(&objects, "ServiceMonitor", "pingress");
    let wanted = monitor.pointer("/spec/selector/matchLabels").unwrap();
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(metrics["metadata"]["labels"][key], *value);
    }
    // Only the metrics' Service: else every pod would be scraped twice.
    assert!(
        wanted
            .as_object()
            .unwrap()
            .iter()
            .any(|(key, value)| service["metadata"]["labels"][key] != *value)
    );
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], metrics["spec"]["ports"][0]["name"]);
    assert_eq!(endpoint["path"], "/stats/prometheus");
    let job = text(&monitor, "/spec/jobLabel");
    assert_eq!(metrics["metadata"]["labels"][job], "pingress");
}

#[test]
fn a_pod_has_the_time_to_drain_and_stays_in_rotation_until_the_delay_is_over() {
    let objects = plain();
    let drain = settings(&objects).gateway.drain;
    let deployment = the(&objects, "Deployment", "pingress");
    let pod = deployment.pointer("/spec/template/spec").unwrap();
    let grace = number(pod, "/terminationGracePeriodSeconds");
    assert!(grace >= (drain.delay.0 + drain.deadline.0).as_secs() + 10);
    assert!(drain.window.0 <= drain.deadline.0);
    let container = &pod["containers"][0];
    assert!(container.get("lifecycle").is_none());
    let probe = &container["readinessProbe"];
    let fails_after = number(probe, "/periodSeconds") * number(probe, "/failureThreshold");
    assert!(fails_after > drain.delay.0.as_secs());
    let rollout = deployment.pointer("/spec/strategy/rollingUpdate").unwrap();
    assert_eq!(rollout["maxUnavailable"], 0);
}

#[test]
fn the_pod_meets_the_restricted_security_level_and_holds_no_token() {
    let objects = plain();
    let deployment = the(&objects, "Deployment", "pingress");
    let pod = deployment.pointer("/spec/template/spec").unwrap();
    assert_eq!(pod["automountServiceAccountToken"], false);
    let level = &pod["securityContext"];
    assert_eq!(level["runAsNonRoot"], true);
    assert_eq!(level["seccompProfile"]["type"], "RuntimeDefault");
    let dockerfile = read(&root("deploy/docker/Dockerfile"));
    let user = number(level, "/runAsUser");
    assert!(dockerfile.contains(&format!("USER {user}:{user}\n")));
    for container in pod["containers"].as_array().unwrap() {
        let level = &container["securityContext"];
        assert_eq!(level["allowPrivilegeEscalation"], false);
        assert_eq!(level["readOnlyRootFilesystem"], true);
        assert_eq!(level["capabilities"], json!({"drop": ["ALL"]}));
        assert!(!text(container, "/image").ends_with(":latest"));
    }
    for volume in pod["volumes"].as_array().unwrap() {
        let kinds = ["configMap", "secret", "emptyDir"];
        assert!(kinds.iter().any(|kind| volume.get(kind).is_some()));
    }
    let account = the(&objects, "ServiceAccount", "pingress");
    assert_eq!(account["automountServiceAccountToken"], false);
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    assert!(
        !objects
            .iter()
            .any(|object| text(object, "/kind").contains("Role"))
    );
}

#[test]
fn the_autoscaler_scales_this_deployment_between_2_and_10_at_70_percent() {
    let objects = plain();
    let deployment = the(&objects, "Deployment", "pingress");
    assert!(deployment["spec"].get("replicas").is_none());
    let scale = the(&objects, "HorizontalPodAutoscaler", "pingress");
    let target = &scale["spec"]["scaleTargetRef"];
    assert_eq!(target["kind"], deployment["kind"]);
    assert_eq!(target["apiVersion"], deployment["apiVersion"]);
    assert_eq!(target["name"], deployment["metadata"]["name"]);
    assert_eq!(scale["spec"]["minReplicas"], 2);
    assert_eq!(scale["spec"]["maxReplicas"], 10);
    let cpu = &scale["spec"]["metrics"][0]["resource"];
    assert_eq!(cpu["name"], "cpu");
    assert_eq!(cpu["target"]["averageUtilization"], 70);
    // A share of what is requested: without a request there is nothing to count in.
    let requests = "/spec/template/spec/containers/0/resources/requests/cpu";
    assert!(deployment.pointer(requests).is_some());
}
