//! Rules that delegate to another VirtualService.

use pingress::base::Code;

use crate::support::{EDGE, answers, get, routes, service, world};

fn leaf(name: &str, rules: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  http:
{rules}"
    )
}

fn delegates(matches: &str, name: &str, extra: &str) -> String {
    format!("  - {{{matches} {extra} delegate: {{name: {name}}}}}\n")
}

#[test]
fn a_leafs_rules_apply_within_the_roots_match() {
    let root = routes(
        "root",
        "a.com",
        &(delegates("match: [{uri: {prefix: /shop}}],", "leaf", "") + &answers("", "root")),
    );
    let leaf = leaf(
        "leaf",
        &(answers("{uri: {prefix: /shop/cart}}", "cart") + &answers("", "shop")),
    );
    let world = world(&[EDGE, &root, &leaf]);
    assert_eq!(world.get("a.com", "/shop/cart"), "cart");
    assert_eq!(world.get("a.com", "/shop"), "shop");
    assert_eq!(world.get("a.com", "/"), "root");
    assert!(world.troubles().is_empty(), "{:?}", world.troubles());
}

#[test]
fn a_missing_delegate_removes_only_its_rule() {
    let rules = delegates("match: [{uri: {prefix: /gone}}],", "gone", "") + &answers("", "rest");
    let world = world(&[EDGE, &routes("root", "a.com", &rules)]);
    assert_eq!(world.get("a.com", "/gone"), "rest");
    assert_eq!(world.found(Code::REFERENCED_RESOURCE_NOT_FOUND).len(), 1);
}

#[test]
fn an_unexported_delegate_counts_as_missing() {
    let root = routes(
        "root",
        "a.com",
        "  - {delegate: {name: leaf, namespace: shop}}\n",
    );
    let hidden = leaf("leaf", &answers("", "leaf"))
        .replace("{name: leaf}", "{name: leaf, namespace: shop}")
        + "  exportTo: ['.']\n";
    let world = world(&[EDGE, &root, &hidden]);
    assert_eq!(world.get("a.com", "/"), "404 no host");
    assert_eq!(world.found(Code::REFERENCED_RESOURCE_NOT_FOUND).len(), 1);
}

#[test]
fn a_wider_leaf_match_removes_the_leafs_rule() {
    let root = routes(
        "root",
        "a.com",
        &delegates("match: [{uri: {prefix: /a/b}}],", "leaf", ""),
    );
    let leaf = leaf(
        "leaf",
        &(answers("{uri: {prefix: /a}}", "wide") + &answers("{uri: {exact: /a/b/c}}", "narrow")),
    );
    let world = world(&[EDGE, &root, &leaf]);
    assert_eq!(world.get("a.com", "/a/b/c"), "narrow");
    assert_eq!(world.get("a.com", "/a/b"), "404 no route");
    assert_eq!(world.found(Code::UNREACHABLE_RULE).len(), 1);
}

#[test]
fn matches_combine_root_by_leaf_and_names_join() {
    let root = routes(
        "root",
        "a.com",
        "  - {name: r, match: [{name: rm, headers: {x: {exact: '1'}}}, {name: rn, method: {exact: PUT}}], delegate: {name: leaf}}\n",
    );
    let leaf = leaf(
        "leaf",
        "  - {name: l, match: [{name: lm, uri: {prefix: /p}}], directResponse: {status: 200, body: {string: leaf}}}\n",
    );
    let world = world(&[EDGE, &root, &leaf]);
    assert_eq!(world.get("a.com", "/p"), "404 no route");
    let by_header = get("a.com", "/p").header("x", "1");
    assert_eq!(world.ask(&by_header), "leaf");
    assert_eq!(world.route_name(&by_header), "r-l.rm-lm");
    assert_eq!(
        world.route_name(&get("a.com", "/p").method("PUT")),
        "r-l.rn-lm"
    );
}

#[test]
fn the_roots_settings_apply_where_the_leaf_leaves_them_unset() {
    let root = routes(
        "root",
        "a.com",
        &delegates("", "leaf", "timeout: 1s, rewrite: {uri: /root},"),
    );
    let rules = "  - {match: [{uri: {prefix: /own}}], timeout: 2s, route: [{destination: {host: a.internal}}]}
  - {route: [{destination: {host: a.internal}}]}\n";
    let world = world(&[EDGE, &service("a.internal"), &root, &leaf("leaf", rules)]);
    world.forward(&get("a.com", "/own"), |forward| {
        assert_eq!(forward.timeout.unwrap().as_secs(), 2)
    });
    world.forward(&get("a.com", "/"), |forward| {
        assert_eq!(forward.timeout.unwrap().as_secs(), 1);
        assert!(forward.rewrite.path.is_some());
    });
}

#[test]
fn a_delegate_cannot_delegate_and_that_rule_is_fenced() {
    let root = routes("root", "a.com", &delegates("", "leaf", ""));
    let leaf = leaf("leaf", &delegates("", "deeper", ""));
    let world = world(&[EDGE, &root, &leaf]);
    assert!(
        world.get("a.com", "/").starts_with("fenced"),
        "{}",
        world.get("a.com", "/")
    );
}

#[test]
fn a_delegate_that_nothing_names_is_reported() {
    let world = world(&[
        EDGE,
        &routes("vs", "a.com", &answers("", "x")),
        &leaf("leaf", &answers("", "leaf")),
    ]);
    assert_eq!(world.found(Code::UNUSED_OBJECT).len(), 1);
}
