//! Whose `rate_limits` hold, and what they say.

use super::*;

#[test]
fn a_filters_own_actions_take_the_place_of_all_others_and_say_what_requests_count_as() {
    let own = |items: &str| {
        format!(
            "{{typed_per_filter_config: {{limit: {{'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, rate_limits: [{items}]}}}}}}"
        )
    };
    let with = |value: &str| {
        let patches = [
            inserted(SERVICE),
            added(STATIC),
            hosts(CLIENTS),
            route("cart", value),
        ];
        site(&[object("l", &patches)])
    };
    let items = "{actions: [{generic_key: {descriptor_value: a}}], hits_addend: {number: 5}}, {actions: [{query_parameters: {query_parameter_name: q, descriptor_key: q}}], hits_addend: {format: '%REQ(X-Hits)%'}}, {actions: [{masked_remote_address: {v6_prefix_mask_len: 48}}]}";
    let world = with(&own(items));
    assert_eq!(world.troubles(), [""; 0]);
    assert_eq!(
        told(&world)[..2],
        [
            vec![
                "generic_key=\"a\"; counts as 5".to_owned(),
                "q=the first query parameter q; counts as the header x-hits says".to_owned(),
                "masked_remote_address=the client network (IPv4 /32, IPv6 /48)".to_owned(),
            ],
            vec![CLIENT.to_owned()],
        ]
    );
    for (item, said) in [
        ("{actions: [{remote_address: {}}], stage: 1}", "stage"),
        (
            "{actions: [{remote_address: {}}], hits_addend: {number: 1000000001}}",
            "more than",
        ),
        (
            "{actions: [{remote_address: {}}], hits_addend: {format: '%RESP(a)%'}}",
            "%RESP(a)%",
        ),
        (
            "{actions: [{remote_address: {}}], hits_addend: {}}",
            "missing",
        ),
        (
            "{actions: [{remote_address: {}}], apply_on_stream_done: true}",
            "apply_on_stream_done",
        ),
    ] {
        let world = with(&own(item));
        let found = world.found(Code::UNENFORCED_PROTECTION);
        assert!(found[0].contains(said), "{found:?}");
        assert!(world.get("a.com", "/cart").starts_with("fenced"), "{item}");
    }
    // In a table, Envoy passes over it.
    let world = with(
        "{route: {rate_limits: [{actions: [{generic_key: {descriptor_value: a}}], hits_addend: {number: 5}}]}}",
    );
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[3]"]);
    assert_eq!(told(&world)[0], ["generic_key=\"a\""]);
}

#[test]
fn the_gateways_own_cluster_is_named_as_istios_agent_names_it() {
    let actions = "{rate_limits: [{actions: [{source_cluster: {}}]}]}";
    let objects = object("l", &[inserted(SERVICE), added(STATIC), hosts(actions)]);
    let mut options = Options::default();
    options.labels.remove("app");
    let world = site_with(std::slice::from_ref(&objects), &options);
    let found = world.found(Code::UNENFORCED_PROTECTION);
    assert!(found[0].contains("the gateway's label `app`"), "{found:?}");
    let world = site(&[objects]);
    assert_eq!(world.troubles(), [""; 0]);
    let expected = "source_cluster=\"istio-ingressgateway.istio-system\"";
    assert_eq!(told(&world)[0], [expected]);
}

#[test]
fn a_routes_actions_take_the_place_of_its_hosts_unless_it_includes_or_ignores_them() {
    let typed =
        "'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";
    let own = "route: {rate_limits: [{actions: [{generic_key: {descriptor_value: x}}]}]}";
    let staged = "{route: {rate_limits: [{actions: [{generic_key: {descriptor_value: x}}]}, {stage: 1, actions: [{generic_key: {descriptor_value: z}}]}]}}";
    let key = "generic_key=\"x\"".to_owned();
    let client = CLIENT.to_owned();
    for (fields, expected) in [
        (own.to_owned(), vec![key.clone()]),
        (
            format!(
                "{own}, typed_per_filter_config: {{limit: {{{typed}, vh_rate_limits: INCLUDE}}}}"
            ),
            vec![key.clone(), client.clone()],
        ),
        (
            format!("typed_per_filter_config: {{limit: {{{typed}, vh_rate_limits: IGNORE}}}}"),
            vec![],
        ),
    ] {
        let value = format!("{{{fields}}}");
        let patches = [
            inserted(SERVICE),
            added(STATIC),
            hosts(CLIENTS),
            route("cart", &value),
        ];
        let world = site(&[object("l", &patches)]);
        assert_eq!(world.troubles(), [""; 0], "{fields}");
        assert_eq!(
            told(&world)[..2],
            [expected, vec![client.clone()]],
            "{fields}"
        );
    }
    let other =
        format!("{{typed_per_filter_config: {{other: {{{typed}, vh_rate_limits: IGNORE}}}}}}");
    let patches = [
        inserted(SERVICE),
        added(STATIC),
        hosts(CLIENTS),
        route("cart", &other),
    ];
    let world = site(&[object("l", &patches)]);
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[3]"]);
    assert_eq!(told(&world)[0], [client]);
    let domain = format!("{{typed_per_filter_config: {{limit: {{{typed}, domain: other}}}}}}");
    let patches = [
        inserted(SERVICE),
        added(STATIC),
        hosts(CLIENTS),
        route("cart", &domain),
    ];
    let world = site(&[object("l", &patches)]);
    assert!(
        policy(&world).contains("for domain other,"),
        "{}",
        policy(&world)
    );
    let filter = inserted(&format!("stage: 1, {SERVICE}"));
    let patches = [filter, added(STATIC), route("cart", staged)];
    let world = site(&[object("l", &patches)]);
    assert_eq!(
        told(&world)[..2],
        [vec!["generic_key=\"z\"".to_owned()], vec![]]
    );
    // No filter is of the other item's stage.
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[2]"]);
}
