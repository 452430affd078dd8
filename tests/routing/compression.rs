//! Which responses a Compression is for, and what it says.

use pingress::base::Code;

use crate::support::{EDGE, World, answers, routes, world};

fn compression(name: &str, target: &str, rest: &str) -> String {
    format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {{name: {name}}}\nspec:\n  targetRef: {{{target}}}\n  {rest}\n"
    )
}

/// Two hosts on one Gateway; `shop` has two rules, the first is named `cart`.
fn site(policies: &[&str]) -> World {
    let cart = answers("{uri: {prefix: /cart}}", "cart").replace("  - {", "  - {name: cart, ");
    let shop = routes("shop", "a.com", &(cart + &answers("", "a")));
    let other = routes("other", "b.com", &answers("", "other"));
    world(&[&[EDGE, &*shop, &*other], policies].concat())
}

/// The policies in force, as the plan prints them, in its order of rules.
fn printed(world: &World) -> Vec<String> {
    let text = world.compiled.plan.render();
    let lines = text.lines().filter_map(|line| line.split_once("passes "));
    let lines = lines.map(|(_, policy)| policy.split(" at ").next().unwrap_or_default());
    lines.map(str::to_owned).collect()
}

const GATEWAY: &str = "kind: Gateway, name: edge";
const SHOP: &str = "kind: VirtualService, name: shop";
const CART: &str = "kind: VirtualService, name: shop, sectionName: cart";

#[test]
fn a_policy_says_what_it_does_and_its_defaults() {
    for (rest, expected) in [
        (
            "",
            "zstd at level 3, br at level 4, gzip at level 5, from 1024 bytes on, texts",
        ),
        (
            "algorithms: [gzip, br]\n  minBytes: 0\n  contentTypes: [text/*, Application/JSON]\n  level: {gzip: 9}",
            "gzip at level 9, br at level 4, from 0 bytes on, text/*, application/json",
        ),
        ("algorithms: []", "no compression"),
    ] {
        let world = site(&[&compression("c", GATEWAY, rest)]);
        assert_eq!(world.troubles(), [""; 0], "{rest}");
        let expected = format!("Compression default/c ({expected})");
        assert_eq!(
            world.compiled.plan.render().matches(&expected).count(),
            1,
            "{rest}"
        );
    }
}

#[test]
fn the_policy_of_the_nearest_target_is_in_force() {
    let (far, near, nearest) = (
        compression("c", GATEWAY, ""),
        compression("b", SHOP, "minBytes: 5"),
        compression("a", CART, "algorithms: []"),
    );
    for policies in [[&far, &near, &nearest], [&nearest, &far, &near]] {
        let world = site(&policies.map(String::as_str));
        assert_eq!(world.troubles(), [""; 0]);
        let names = |host: &str, path: &str| world.compressed(host, path);
        assert_eq!(names("a.com", "/cart"), "Compression default/a");
        assert_eq!(names("a.com", "/"), "Compression default/b");
        assert_eq!(names("b.com", "/"), "Compression default/c");
        assert_eq!(names("c.com", "/"), "Compression default/c");
    }
    let world = site(&[&nearest]);
    assert_eq!(world.compressed("a.com", "/cart"), "Compression default/a");
    assert_eq!(world.compressed("a.com", "/"), "");
}

#[test]
fn of_two_policies_for_the_same_requests_one_is_in_force_and_the_other_says_so() {
    for target in [GATEWAY, SHOP, CART] {
        let world = site(&[
            &compression("b", target, "minBytes: 2"),
            &compression("a", target, "minBytes: 1"),
        ]);
        let found = world.found(Code::SHADOWED);
        assert_eq!(found.len(), 1, "{target}");
        assert!(
            found[0].contains("it is not in force: Compression default/"),
            "{found:?}"
        );
        assert_eq!(world.paths(Code::SHADOWED), ["spec.targetRef"]);
        let text = world.compiled.plan.render();
        let shown = |name: &str| text.contains(&format!("Compression default/{name} "));
        assert!(shown("a") != shown("b"), "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_path_and_compresses_and_fences_nothing() {
    for (rest, paths) in [
        ("algorithms: [gzip, deflate]", vec!["spec.algorithms[1]"]),
        ("algorithms: [gzip, br, gzip]", vec!["spec.algorithms[2]"]),
        (
            "contentTypes: [text/html, html]",
            vec!["spec.contentTypes[1]"],
        ),
        (
            "contentTypes: ['text/html; charset=utf-8']",
            vec!["spec.contentTypes[0]"],
        ),
        ("contentTypes: ['*/*/*']", vec!["spec.contentTypes[0]"]),
        (
            "level: {gzip: 0, br: 10, zstd: 300}",
            vec!["spec.level.gzip", "spec.level.br", "spec.level.zstd"],
        ),
    ] {
        let world = site(&[&compression("c", SHOP, rest)]);
        assert_eq!(world.paths(Code::SCHEMA_VALIDATION), paths, "{rest}");
        assert_eq!(world.get("a.com", "/"), "a", "{rest}");
        assert_eq!(printed(&world), [""; 0], "{rest}");
    }
    for (rest, code) in [
        ("level: {deflate: 1}", Code::UNKNOWN_FIELD),
        ("minBytes: -1", Code::WRONG_TYPE),
        ("oops: 1", Code::UNKNOWN_FIELD),
    ] {
        let world = site(&[&compression("c", SHOP, rest)]);
        assert_eq!(world.found(code).len(), 1, "{rest}");
        assert_eq!(world.get("a.com", "/"), "a", "{rest}");
    }
}

#[test]
fn a_target_that_is_not_there_or_not_served_is_told() {
    for (target, code) in [
        (
            "kind: VirtualService, name: gone",
            Code::REFERENCED_RESOURCE_NOT_FOUND,
        ),
        (
            "kind: VirtualService, name: shop, sectionName: gone",
            Code::REFERENCED_RESOURCE_NOT_FOUND,
        ),
        (
            "kind: Gateway, name: gone",
            Code::REFERENCED_RESOURCE_NOT_FOUND,
        ),
        ("kind: Service, name: shop", Code::SCHEMA_VALIDATION),
    ] {
        let world = site(&[&compression("c", target, "")]);
        assert_eq!(world.found(code).len(), 1, "{target}");
    }
}
