use super::super::Predicate;
use super::super::fixture::{Asked, exact, header, host, is, listener, origin, prefix, route};
use super::*;

/// The number of the route that wins.
fn winner(listener: &Listener, asked: &Asked) -> Option<u32> {
    match listener.decide(&asked.request()) {
        Decision::Route { index, .. } => Some(index),
        _ => None,
    }
}

fn fence(reason: &str) -> Option<std::sync::Arc<Fence>> {
    Some(
        Fence {
            origin: origin(7),
            reason: reason.into(),
        }
        .into(),
    )
}

#[test]
fn the_first_rule_that_matches_wins_whatever_its_specificity() {
    let listener = listener(vec![host(
        "a.com",
        vec![
            route(1, exact("/a/b"), vec![header("x", is("1"))]),
            route(2, prefix("/a"), vec![]),
            route(3, exact("/a/b"), vec![]),
            route(4, UriMatch::Any, vec![]),
        ],
    )]);
    assert_eq!(
        winner(&listener, &Asked::get("/a/b").with("x", b"1")),
        Some(0)
    );
    assert_eq!(winner(&listener, &Asked::get("/a/b")), Some(1));
    assert_eq!(winner(&listener, &Asked::get("/b")), Some(3));
}

#[test]
fn gotcha_10_rules_after_a_catch_all_are_dead() {
    let listener = listener(vec![host(
        "*",
        vec![route(1, prefix("/"), vec![]), route(2, exact("/a"), vec![])],
    )]);
    assert_eq!(winner(&listener, &Asked::get("/a")), Some(0));
}

#[test]
fn gotcha_11_an_exact_host_does_not_fall_through_to_a_wildcard() {
    let listener = listener(vec![
        host("*", vec![route(1, UriMatch::Any, vec![])]),
        host("a.com", vec![route(2, exact("/only"), vec![])]),
    ]);
    let asked = Asked::get("/other");
    let Decision::NoRoute { virtual_host } = listener.decide(&asked.request()) else {
        panic!("a rule of another host must not serve")
    };
    assert_eq!(&*virtual_host.name, "a.com:80");
}

#[test]
fn gotcha_12_the_host_is_chosen_without_port_while_authority_keeps_it() {
    let listener = listener(vec![host(
        "a.com",
        vec![
            route(1, UriMatch::Any, vec![Predicate::Authority(is("a.com"))]),
            route(
                2,
                UriMatch::Any,
                vec![Predicate::Authority(is("a.com:8080"))],
            ),
        ],
    )]);
    assert_eq!(winner(&listener, &Asked::get("/")), Some(1));
}

#[test]
fn an_unknown_host_has_no_rules() {
    let listener = listener(vec![host("b.com", vec![route(1, UriMatch::Any, vec![])])]);
    assert!(matches!(
        listener.decide(&Asked::get("/").request()),
        Decision::NoHost
    ));
}

#[test]
fn gotcha_7_https_redirect_comes_before_the_rules_and_needs_none() {
    let mut listener = listener(vec![host("a.com", vec![])]);
    Arc::make_mut(&mut listener.virtual_hosts[0]).https_redirect = Some(origin(3));
    let asked = Asked::get("/");
    assert!(matches!(
        listener.decide(&asked.request()),
        Decision::HttpsRedirect { server, .. } if *server == origin(3)
    ));
    let forwarded = Asked {
        forwarded_https: true,
        ..asked
    };
    assert!(matches!(
        listener.decide(&forwarded.request()),
        Decision::NoRoute { .. }
    ));
}

#[test]
fn a_fence_stands_before_everything_it_covers() {
    let mut listener = listener(vec![
        host("a.com", vec![route(1, UriMatch::Any, vec![])]),
        host("b.com", vec![]),
    ]);
    Arc::make_mut(&mut listener.virtual_hosts[0]).fence = fence("host");
    Arc::make_mut(&mut listener.virtual_hosts[0]).https_redirect = Some(origin(3));
    let asked = Asked::get("/");
    let reason = |listener: &Listener, asked: &Asked| match listener.decide(&asked.request()) {
        Decision::Fenced(fence) => fence.reason.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(reason(&listener, &asked), "host");
    listener.fence = fence("listener");
    assert_eq!(reason(&listener, &asked), "listener");
    assert_eq!(
        reason(
            &listener,
            &Asked {
                host: "unknown".into(),
                ..asked
            }
        ),
        "listener"
    );
}
