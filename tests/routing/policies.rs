//! Faults, CORS and mirrors of a rule: what each field comes to, and where it is written.

use pingress::base::Code;
use pingress::plan::{Policies, Target};

use crate::support::{EDGE, World, get, routes, service, world};

const ROUTE: &str = "route: [{destination: {host: a.internal}}]";

fn ruled(policy: &str) -> World {
    let rule = format!("  - {{{policy}, {ROUTE}}}\n");
    world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", &rule)])
}

fn policies<R>(world: &World, look: impl FnOnce(&Policies) -> R) -> R {
    world.forward(&get("a.com", "/"), |forward| look(&forward.policies))
}

/// The fault as it prints; nothing if there is none.
fn fault(written: &str) -> String {
    let world = ruled(&format!("fault: {written}"));
    assert_eq!(world.troubles(), [""; 0], "{written}");
    policies(&world, |policies| {
        let fault = policies.fault.as_ref();
        fault.map_or_else(String::new, |fault| fault.policy.to_string())
    })
}

#[test]
fn delays_and_aborts_have_the_shares_that_istio_gives_them() {
    for (written, expected) in [
        (
            "{delay: {fixedDelay: 5s, percentage: {value: 0.1}}}",
            "delay 0.1% by 5s",
        ),
        (
            "{delay: {fixedDelay: 5ms, percent: 50}}",
            "delay 50% by 5ms",
        ),
        (
            "{delay: {fixedDelay: 5ms, percent: 50, percentage: {value: 1}}}",
            "delay 1% by 5ms",
        ),
        (
            "{abort: {httpStatus: 400, percentage: {value: 100}}}",
            "abort 100% with 400",
        ),
        (
            "{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 12.34567}}}",
            "abort 12.3456% with gRPC status 14",
        ),
        (
            "{delay: {fixedDelay: 1s, percentage: {value: 2}}, abort: {httpStatus: 500, percentage: {value: 3}}}",
            "delay 2% by 1s, then abort 3% with 500",
        ),
        ("{abort: {httpStatus: 400, percentage: {value: 0}}}", ""),
    ] {
        assert_eq!(fault(written), expected, "{written}");
    }
}

#[test]
fn gotcha_26_a_fault_without_a_percentage_never_happens_and_that_is_said() {
    for (written, path) in [
        ("{abort: {httpStatus: 400}}", "spec.http[0].fault.abort"),
        ("{delay: {fixedDelay: 5s}}", "spec.http[0].fault.delay"),
        (
            "{delay: {percentage: {value: 5}}}",
            "spec.http[0].fault.delay",
        ),
        (
            "{abort: {percentage: {value: 5}}}",
            "spec.http[0].fault.abort",
        ),
    ] {
        let world = ruled(&format!("fault: {written}"));
        assert_eq!(world.paths(Code::INERT_FIELD), [path], "{written}");
        assert!(policies(&world, |policies| policies.fault.is_none()));
    }
}

#[test]
fn what_istio_refuses_of_a_fault_fences_its_rule() {
    for written in [
        "{delay: {exponentialDelay: 1s, percentage: {value: 5}}}",
        "{abort: {http2Error: CANCEL, percentage: {value: 5}}}",
        "{abort: {httpStatus: 99, percentage: {value: 5}}}",
        "{abort: {grpcStatus: AWAY, percentage: {value: 5}}}",
        "{abort: {httpStatus: 500, grpcStatus: OK, percentage: {value: 5}}}",
        "{abort: {httpStatus: 500, percentage: {value: 101}}}",
        "{}",
    ] {
        let world = ruled(&format!("fault: {written}"));
        assert!(world.get("a.com", "/").starts_with("fenced"), "{written}");
        assert_eq!(world.paths(Code::SCHEMA_VALIDATION).len(), 1, "{written}");
    }
}

#[test]
fn a_cors_policy_has_all_its_fields() {
    let world = ruled(
        "corsPolicy: {allowOrigins: [{exact: 'https://a'}, {prefix: 'https://b.'}, {regex: 'https://.*[.]c'}], \
         allowMethods: [GET, POST], allowHeaders: [x-a, x-b], exposeHeaders: [x-c], maxAge: 1h, \
         allowCredentials: true, unmatchedPreflights: IGNORE}",
    );
    assert_eq!(world.troubles(), [""; 0]);
    let shown = policies(&world, |policies| {
        policies.cors.as_ref().unwrap().policy.to_string()
    });
    assert_eq!(
        shown,
        "origins exact \"https://a\", prefix \"https://b.\", regex \"https://.*[.]c\", methods GET,POST, \
         headers x-a,x-b, exposed x-c, for 3600s, with credentials, other preflights answered"
    );
    let old = ruled("corsPolicy: {allowOrigin: ['https://a'], allowMethods: ['*']}");
    let shown = policies(&old, |policies| {
        policies.cors.as_ref().unwrap().policy.to_string()
    });
    assert_eq!(
        shown,
        "origins exact \"https://a\", methods *, headers none, other preflights forwarded"
    );
}

#[test]
fn policies_of_a_rule_that_answers_by_itself_are_said_to_do_nothing() {
    let rule = "  - {corsPolicy: {allowOrigins: [{exact: '*'}]}, directResponse: {status: 200, body: {string: x}}}\n";
    let world = world(&[EDGE, &routes("vs", "a.com", rule)]);
    assert_eq!(world.get("a.com", "/"), "x");
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.http[0].corsPolicy"]);
}

#[test]
fn a_delegates_rule_has_the_roots_policies_with_the_roots_place_where_it_has_none() {
    let root = routes(
        "root",
        "a.com",
        "  - fault: {abort: {httpStatus: 500, percentage: {value: 5}}}\n    corsPolicy: {allowOrigins: [{exact: root}]}\n    delegate: {name: leaf}\n",
    );
    let leaf = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: leaf}}\nspec:\n  http:\n  - corsPolicy: {{allowOrigins: [{{exact: leaf}}]}}\n    {ROUTE}\n"
    );
    let documents = [EDGE, &service("a.internal"), &root, &leaf];
    let world = world(&documents);
    let text = documents.join("\n---\n");
    let line = |what: &str| {
        let before = text.lines().position(|line| line.contains(what)).unwrap();
        u32::try_from(before).unwrap() + 1
    };
    let (fault, cors) = policies(&world, |policies| {
        let fault = policies.fault.as_ref().unwrap();
        let cors = policies.cors.as_ref().unwrap();
        assert!(cors.policy.to_string().contains("exact \"leaf\""));
        (fault.origin.position.line, cors.origin.position.line)
    });
    assert_eq!((fault, cors), (line("fault:"), line("exact: leaf")));
}

/// Shares and targets of the mirrors, in order.
fn mirrors(world: &World) -> Vec<String> {
    policies(world, |policies| {
        let shown = policies.mirrors.iter().map(|mirror| {
            let name = match &mirror.target {
                Target::Cluster(id) => world.compiled.plan.cluster(*id).unwrap().name.to_string(),
                Target::Missing { name, .. } => format!("missing {name}"),
            };
            format!("{} {name}", mirror.share)
        });
        shown.collect()
    })
}

#[test]
fn mirrors_have_their_destination_and_share_and_zero_is_none() {
    let rule = |mirrors: &str| {
        let rule = format!("  - {{{mirrors}, {ROUTE}}}\n");
        world(&[
            EDGE,
            &service("a.internal"),
            &service("b.internal"),
            &routes("vs", "a.com", &rule),
        ])
    };
    for (written, expected) in [
        (
            "mirror: {host: b.internal}",
            &["100% outbound|80||b.internal"][..],
        ),
        (
            "mirror: {host: b.internal}, mirrorPercentage: {value: 0.5}",
            &["0.5% outbound|80||b.internal"],
        ),
        (
            "mirror: {host: b.internal}, mirrorPercent: 7",
            &["7% outbound|80||b.internal"],
        ),
        (
            "mirror: {host: b.internal}, mirrorPercentage: {value: 0}",
            &[],
        ),
        (
            "mirrors: [{destination: {host: b.internal}}, {destination: {host: a.internal, port: {number: 80}}, percentage: {value: 3}}]",
            &["100% outbound|80||b.internal", "3% outbound|80||a.internal"],
        ),
    ] {
        let world = rule(written);
        assert_eq!(world.troubles(), [""; 0], "{written}");
        assert_eq!(mirrors(&world), expected, "{written}");
    }
}

#[test]
fn a_mirror_that_does_not_exist_is_said_and_the_rule_serves() {
    let world = ruled("mirrors: [{destination: {host: gone.internal}}]");
    assert_eq!(world.get("a.com", "/"), "outbound|80||a.internal");
    assert_eq!(mirrors(&world), ["100% missing outbound|80||gone.internal"]);
    assert_eq!(
        world.found(Code::REFERENCED_RESOURCE_NOT_FOUND),
        [
            "spec.http[0].mirrors[0].destination: no Service or ServiceEntry has the host `gone.internal`; nothing is mirrored to it"
        ]
    );
}
