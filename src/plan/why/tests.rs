use std::sync::Arc;

use proptest::prelude::*;

use super::super::fixture::{
    Asked, anchored, exact, header, host, is, listener, origin, prefix, query, route, without,
};
use super::*;

#[test]
fn every_loser_says_its_first_failed_condition_with_both_values() {
    let regex = |pattern| StringMatch::Regex(anchored(pattern));
    let routes = vec![
        route(1, prefix("/api"), vec![]),
        route(2, exact("/api"), vec![]),
        route(3, UriMatch::Regex(anchored("/v[0-9]")), vec![]),
        route(
            4,
            UriMatch::Any,
            vec![header("end-user", is("jason")), header("x", is("2"))],
        ),
        route(
            5,
            UriMatch::Any,
            vec![header("x", StringMatch::Present), header("x", is("2"))],
        ),
        route(
            6,
            UriMatch::Any,
            vec![header("x", StringMatch::Prefix("2".into()))],
        ),
        route(
            7,
            UriMatch::Any,
            vec![Predicate::Method(http::Method::POST)],
        ),
        route(8, UriMatch::Any, vec![Predicate::Authority(is("a.com"))]),
        route(9, UriMatch::Any, vec![query("q", is("2"))]),
        route(10, UriMatch::Any, vec![query("r", StringMatch::Present)]),
        route(11, UriMatch::Any, vec![without("x", StringMatch::Present)]),
        route(12, UriMatch::Any, vec![without("x", is("1"))]),
        route(13, UriMatch::Any, vec![without("end-user", regex(".*"))]),
        route(
            14,
            UriMatch::Prefix {
                text: "/b".into(),
                ignore_case: true,
            },
            vec![],
        ),
    ];
    let listener = listener(vec![host("a.com", routes)]);
    let asked = Asked::get("/shop?q=1").with("x", b"1");
    let explanation = listener.why(&asked.request());
    assert!(matches!(explanation.decision, Decision::NoRoute { .. }));
    let said: Vec<&str> = explanation
        .losers
        .iter()
        .map(|loser| loser.failed.as_str())
        .collect();
    assert_eq!(
        said,
        [
            r#"uri.prefix "/api" does not start "/shop""#,
            r#"uri.exact "/api" is not "/shop""#,
            r#"uri.regex "/v[0-9]" does not match "/shop""#,
            r#"headers[end-user].exact "jason": header is absent"#,
            r#"headers[x].exact "2" is not "1""#,
            r#"headers[x].prefix "2" does not start "1""#,
            r#"method.exact "POST" is not "GET""#,
            r#"authority.exact "a.com" is not "a.com:8080""#,
            r#"queryParams[q].exact "2" is not "1""#,
            "queryParams[r] present: parameter is absent",
            r#"withoutHeaders[x] present: the header is there, with "1""#,
            r#"withoutHeaders[x].exact "1" is the header's value"#,
            r#"withoutHeaders[end-user].regex ".*": header is absent, which counts as empty"#,
            r#"uri.prefix "/b" (ignoreUriCase) does not start "/shop""#,
        ]
    );
}

#[test]
fn rules_after_the_winner_that_match_too_are_shadowed() {
    let routes = vec![
        route(1, exact("/a"), vec![]),
        route(2, prefix("/b"), vec![]),
        route(3, exact("/c"), vec![]),
        route(4, prefix("/"), vec![]),
    ];
    let listener = listener(vec![host("a.com", routes)]);
    let asked = Asked::get("/b");
    let explanation = listener.why(&asked.request());
    assert_eq!(explanation.losers.len(), 1);
    let shadowed: Vec<_> = explanation
        .shadowed
        .iter()
        .map(|route| route.origin.clone())
        .collect();
    assert_eq!(shadowed, [origin(4)]);
}

#[test]
fn where_no_rule_was_asked_there_are_no_losers() {
    let mut listener = listener(vec![host("a.com", vec![route(1, exact("/a"), vec![])])]);
    Arc::make_mut(&mut listener.virtual_hosts[0]).https_redirect = Some(origin(3));
    let asked = Asked::get("/b");
    let explanation = listener.why(&asked.request());
    assert!(matches!(
        explanation.decision,
        Decision::HttpsRedirect { .. }
    ));
    assert!(explanation.virtual_host.is_some() && explanation.losers.is_empty());
    let unknown = Asked {
        host: "b.com".into(),
        ..asked
    };
    let explanation = listener.why(&unknown.request());
    assert!(matches!(explanation.decision, Decision::NoHost));
    assert!(explanation.virtual_host.is_none() && explanation.losers.is_empty());
}

fn some_route() -> impl Strategy<Value = Route> {
    let uri = prop_oneof![
        Just(UriMatch::Any),
        "/[ab]{0,3}".prop_map(|text| exact(&text)),
        "/[ab]{0,2}".prop_map(|text| prefix(&text)),
        "/[ab]{0,2}".prop_map(|text| UriMatch::Prefix {
            text: text.into(),
            ignore_case: true
        }),
        "/[ab]{0,2}".prop_map(|text| UriMatch::Regex(anchored(&format!("{text}.*b")))),
    ];
    let predicate = prop_oneof![
        "[ab]{0,2}".prop_map(|text| header("x", is(&text))),
        "[ab]{0,1}".prop_map(|text| header("y", StringMatch::Prefix(text.into()))),
        "[ab]{0,1}"
            .prop_map(|text| without("x", StringMatch::Regex(anchored(&format!("{text}.*"))))),
        Just(without("y", StringMatch::Present)),
        "[ab]{0,1}".prop_map(|text| query("q", is(&text))),
        Just(Predicate::Method(http::Method::POST)),
        Just(Predicate::Unreadable { text: "?".into() }),
    ];
    (uri, proptest::collection::vec(predicate, 0..3))
        .prop_map(|(uri, predicates)| route(1, uri, predicates))
}

proptest! {
    #[test]
    fn why_agrees_with_decide_and_with_a_scan_in_order(
        routes in proptest::collection::vec(some_route(), 0..30),
        target in "/[abAB]{0,3}(\\?q=[ab]?)?",
        x in proptest::option::of("[ab]{0,2}"),
        y in proptest::collection::vec("[ab]{0,1}", 0..3),
        post in any::<bool>(),
    ) {
        let listener = listener(vec![host("a.com", routes)]);
        let mut asked = Asked::get(&target);
        if let Some(x) = x {
            asked = asked.with("x", x.as_bytes());
        }
        for y in y {
            asked = asked.with("y", y.as_bytes());
        }
        if post {
            asked.method = http::Method::POST;
        }
        let request = asked.request();
        let routes = &listener.virtual_hosts[0].routes;
        let scanned = routes.iter().position(|route| route.holds(&request));
        let explanation = listener.why(&request);
        let explained = match explanation.decision {
            Decision::Route { index, .. } => Some(index as usize),
            _ => None,
        };
        let decided = match listener.decide(&request) {
            Decision::Route { index, route, .. } => {
                prop_assert!(std::ptr::eq(route, &*routes[index as usize]));
                Some(index as usize)
            }
            _ => None,
        };
        prop_assert_eq!(decided, scanned);
        prop_assert_eq!(explained, scanned);
        // Every rule is the winner, a loser with a reason, shadowed, or after the winner and no match.
        prop_assert_eq!(explanation.losers.len(), scanned.unwrap_or(routes.len()));
        let after = scanned.map_or(routes.len(), |index| index + 1);
        prop_assert_eq!(explanation.shadowed.len(), routes[after..].iter().filter(|route| route.holds(&request)).count());
    }
}
