//! Header edits: the order in which the two levels run.

use pingress::plan::{Action, Decision};
use pingress::policy::headers::spec::HeaderEdits;

use crate::support::{EDGE, get, routes, service, world};

fn edits(rule: &str) -> (String, String) {
    let rules = format!("  - {rule}\n");
    let world = world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", &rules)]);
    assert!(world.troubles().is_empty(), "{:?}", world.troubles());
    world.forward(&get("a.com", "/"), |forward| {
        let destination = &forward.destinations[0];
        (show(&destination.request), show(&destination.response))
    })
}

/// For example `-a =b +c`.
fn show(edits: &HeaderEdits) -> String {
    use pingress::policy::headers::spec::HeaderEdit::{Add, Remove, Set};
    let shown = edits.0.iter().map(|edit| match edit {
        Remove(name) => format!("-{name}"),
        Set(name, _) => format!("={name}"),
        Add(name, _) => format!("+{name}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

const RULE: &str = "headers: {request: {set: {r-set-b: x, r-set-a: x}, add: {r-add: x}, remove: [r-rm]}, response: {set: {r-res: x}}}";
const DESTINATION: &str = "headers: {request: {set: {d-set: x}, add: {d-add: x}, remove: [d-rm]}, response: {remove: [d-res]}}";

#[test]
fn with_one_destination_both_levels_are_one_list_and_the_destination_is_last() {
    let (request, response) = edits(&format!(
        "{{{RULE}, route: [{{destination: {{host: a.internal}}, {DESTINATION}}}]}}"
    ));
    assert_eq!(
        request,
        "-r-rm -d-rm =r-set-a =r-set-b =d-set +r-add +d-add"
    );
    assert_eq!(response, "-d-res =r-res");
}

#[test]
fn with_several_destinations_the_rules_list_follows_the_destinations() {
    let (request, response) = edits(&format!(
        "{{{RULE}, route: [{{destination: {{host: a.internal}}, weight: 1, {DESTINATION}}}, {{destination: {{host: a.internal}}, weight: 1}}]}}"
    ));
    assert_eq!(
        request,
        "-d-rm =d-set +d-add -r-rm =r-set-a =r-set-b +r-add"
    );
    assert_eq!(response, "-d-res =r-res");
}

#[test]
fn response_edits_also_apply_to_direct_responses_and_redirects() {
    for rule in ["directResponse: {status: 200}", "redirect: {uri: /x}"] {
        let rules = format!("  - {{{RULE}, {rule}}}\n");
        let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
        world.decide(&get("a.com", "/"), |decision| {
            let Decision::Route { route, .. } = decision else {
                panic!("{decision:?}")
            };
            let edits = match &*route.action {
                Action::Direct { edits, .. } => edits,
                Action::Redirect { response, .. } => response,
                other => panic!("{other:?}"),
            };
            assert_eq!(show(edits), "=r-res");
        });
    }
}

#[test]
fn the_authority_of_the_rule_beats_the_destinations() {
    let host = |text: &str| format!("headers: {{request: {{add: {{':authority': {text}}}}}}}");
    let rules = format!(
        "  - {{{}, route: [{{destination: {{host: a.internal}}, {}}}]}}\n",
        host("rule.com"),
        host("destination.com")
    );
    let world = world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", &rules)]);
    world.forward(&get("a.com", "/"), |forward| {
        assert_eq!(
            forward.destinations[0].authority.as_ref().unwrap(),
            "rule.com"
        );
    });
}

#[test]
fn a_wrong_header_name_or_value_fences_the_rule() {
    for headers in [
        "{request: {set: {'a b': x}}}",
        "{response: {add: {a: '%UNKNOWN%'}}}",
        "{request: {remove: ['']}}",
    ] {
        let rules =
            format!("  - {{headers: {headers}, route: [{{destination: {{host: a.internal}}}}]}}\n");
        let world = world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", &rules)]);
        assert!(world.get("a.com", "/").starts_with("fenced"), "{headers}");
    }
}
