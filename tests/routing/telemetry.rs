//! What Telemetry resources say about tracing, and what is said of those that say it in vain.

use pingress::base::{Code, Share};
use pingress::compile::{Memory, Options};
use pingress::plan::tracing::{TagValue, Tracing};

use crate::support::{EDGE, World, load, load_after};

fn options() -> Options {
    Options {
        namespace: "edge".into(),
        tracing: Some(Tracing::default()),
        ..Options::default()
    }
}

fn telemetry(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn world(objects: &[String]) -> World {
    let mut all = vec![EDGE];
    all.extend(objects.iter().map(String::as_str));
    load(&all, &options())
}

fn tracing(world: &World) -> &Tracing {
    world.compiled.plan.tracing.as_ref().unwrap()
}

/// `spec` with one entry of `tracing`.
fn one(entry: &str) -> String {
    format!("{{tracing: [{{{entry}}}]}}")
}

#[test]
fn without_a_resource_the_settings_hold_and_without_a_collector_nothing_is_traced() {
    assert_eq!(tracing(&world(&[])), &Tracing::default());
    let object = telemetry("istio-system/a", &one("randomSamplingPercentage: 50"));
    let world = load(&[EDGE, &object], &Options::default());
    assert_eq!(world.compiled.plan.tracing, None);
    assert_eq!(world.paths(Code::UNSUPPORTED), ["spec.tracing"]);
}

#[test]
fn the_workloads_resource_goes_before_the_namespaces_and_that_before_the_roots() {
    let selected = "selector: {matchLabels: {istio: ingressgateway}}, ";
    let root = telemetry(
        "istio-system/root",
        &one("randomSamplingPercentage: 10, disableSpanReporting: true, enableIstioTags: false"),
    );
    let namespace = telemetry(
        "edge/all",
        &one("randomSamplingPercentage: 20, disableSpanReporting: false"),
    );
    let workload = telemetry(
        "edge/own",
        &one("randomSamplingPercentage: 30").replacen('{', &format!("{{{selected}"), 1),
    );
    let all = world(&[workload.clone(), namespace.clone(), root.clone()]);
    let made = tracing(&all);
    assert_eq!(made.sampling, Share::of_percent(30.0));
    assert!(made.reports && !made.istio_tags, "{made:?}");
    assert!(all.found(Code::SHADOWED).is_empty());
    let two = world(&[namespace, root.clone()]);
    assert_eq!(tracing(&two).sampling, Share::of_percent(20.0));
    let one = world(&[root]);
    assert_eq!(tracing(&one).sampling, Share::of_percent(10.0));
    assert!(!tracing(&one).reports);
}

#[test]
fn of_one_level_the_oldest_counts_and_the_others_are_told() {
    let aged = |name: &str, created: &str, percent: u8| {
        telemetry(
            &format!("edge/{name}"),
            &one(&format!("randomSamplingPercentage: {percent}")),
        )
        .replace(
            "namespace: edge",
            &format!("namespace: edge, creationTimestamp: '{created}'"),
        )
    };
    let world = world(&[
        aged("a", "2024-02-01T00:00:00Z", 10),
        aged("b", "2024-01-01T00:00:00Z", 20),
    ]);
    assert_eq!(tracing(&world).sampling, Share::of_percent(20.0));
    let told = world.found(Code::SHADOWED);
    assert!(
        told.len() == 1 && told[0].contains("edge/b is older"),
        "{told:?}"
    );
}

#[test]
fn a_resource_for_somebody_else_does_nothing_and_says_so() {
    for object in [
        telemetry("shop/a", &one("randomSamplingPercentage: 50")),
        telemetry(
            "edge/a",
            "{selector: {matchLabels: {app: other}}, tracing: [{randomSamplingPercentage: 50}]}",
        ),
        telemetry(
            "istio-system/a",
            "{selector: {matchLabels: {istio: ingressgateway}}, tracing: [{randomSamplingPercentage: 50}]}",
        ),
        telemetry(
            "edge/a",
            "{targetRefs: [{kind: Gateway, name: edge}], tracing: [{randomSamplingPercentage: 50}]}",
        ),
        telemetry(
            "edge/a",
            &one("match: {mode: SERVER}, randomSamplingPercentage: 50"),
        ),
    ] {
        let world = world(std::slice::from_ref(&object));
        assert_eq!(tracing(&world), &Tracing::default(), "{object}");
        assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1, "{object}");
    }
}

#[test]
fn tags_are_taken_over_but_secrets_and_those_in_the_logs_operators() {
    let tags = "customTags: {a: {literal: {value: x}}, b: {header: {name: X-B, defaultValue: d}}, c: {environment: {name: C}}, d: {formatter: {value: '%PROTOCOL%'}}, e: {header: {name: Cookie}}}";
    let world = world(&[telemetry("edge/a", &one(tags))]);
    let tags = &tracing(&world).tags;
    let names: Vec<&str> = tags.iter().map(|tag| &*tag.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let header = TagValue::Header {
        name: "x-b".parse().unwrap(),
        default: Some("d".into()),
    };
    assert_eq!(tags[1].value, header);
    assert_eq!(
        world.paths(Code::UNSUPPORTED),
        [
            "spec.tracing[0].customTags.d.formatter",
            "spec.tracing[0].customTags.e.header.name"
        ]
    );
}

#[test]
fn a_provider_that_is_not_the_collectors_gets_no_spans() {
    let named = telemetry("edge/a", &one("providers: [{name: otel}]"));
    let with = |provider: &str| {
        let options = Options {
            trace_provider: provider.into(),
            ..options()
        };
        load(&[EDGE, &named], &options)
    };
    for provider in ["", "otel"] {
        let world = with(provider);
        assert!(tracing(&world).reports && world.found(Code::UNSUPPORTED).is_empty());
    }
    let world = with("zipkin");
    assert!(!tracing(&world).reports);
    assert_eq!(
        world.paths(Code::UNSUPPORTED),
        ["spec.tracing[0].providers[0].name"]
    );
}

#[test]
fn what_is_not_honoured_is_told_with_its_path() {
    let spec = "{accessLogging: [{disabled: true}], metrics: [{}], tracing: [{useRequestIdForTraceSampling: false}]}";
    let world = world(&[telemetry("edge/a", spec)]);
    let unsupported = world.paths(Code::UNSUPPORTED);
    assert_eq!(unsupported, ["spec.accessLogging", "spec.metrics"]);
    let inert = world.paths(Code::INERT_FIELD);
    assert_eq!(inert, ["spec.tracing[0].useRequestIdForTraceSampling"]);
}

#[test]
fn what_istio_refuses_is_an_error_with_its_path_and_changes_nothing() {
    for (entry, path) in [
        ("randomSamplingPercentage: 101", "randomSamplingPercentage"),
        ("randomSamplingPercentage: -1", "randomSamplingPercentage"),
        ("match: {mode: BOTH}", "match.mode"),
        ("providers: [{name: ''}]", "providers[0].name"),
        ("customTags: {a: {}}", "customTags.a"),
        (
            "customTags: {a: {literal: {value: ''}}}",
            "customTags.a.literal.value",
        ),
        (
            "customTags: {a: {header: {name: ''}}}",
            "customTags.a.header.name",
        ),
        (
            "customTags: {a: {environment: {name: ''}}}",
            "customTags.a.environment.name",
        ),
        (
            "customTags: {a: {literal: {value: b}, header: {name: c}}}",
            "customTags.a",
        ),
    ] {
        let object = telemetry(
            "edge/a",
            &one(&format!("disableSpanReporting: true, {entry}")),
        );
        let world = world(&[object]);
        let expected = format!("spec.tracing[0].{path}");
        assert_eq!(world.paths(Code::SCHEMA_VALIDATION), [expected]);
        assert_eq!(tracing(&world), &Tracing::default(), "{entry}");
    }
}

#[test]
fn a_resource_that_breaks_keeps_its_last_good_version_in_force() {
    let mut memory = Memory::default();
    let good = telemetry("edge/a", &one("randomSamplingPercentage: 50"));
    let bad = telemetry("edge/a", &one("randomSamplingPercentage: 500"));
    load_after(&[EDGE, &good], &options(), &mut memory);
    let world = load_after(&[EDGE, &bad], &options(), &mut memory);
    assert_eq!(tracing(&world).sampling, Share::of_percent(50.0));
    assert_eq!(world.found(Code::SERVES_PREVIOUS_VERSION).len(), 1);
}

#[test]
fn a_change_of_what_is_traced_is_another_plan() {
    let of = |percent: u8| {
        let entry = one(&format!("randomSamplingPercentage: {percent}"));
        world(&[telemetry("edge/a", &entry)]).compiled.plan.digest
    };
    assert_eq!(of(5), of(5));
    assert_ne!(of(5), of(6));
}
