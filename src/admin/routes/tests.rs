use super::*;
use crate::admin::explain::tests::plan;

#[test]
fn the_table_shows_every_rule_in_order_with_its_place() {
    let (mut plan, _) = plan();
    plan.listeners[0].virtual_hosts.remove(1);
    assert_eq!(
        text(&plan),
        "\
listener 0.0.0.0:8080 (port 80)
  HOST                MATCH                                                ACTION                                                        ORIGIN
  shop.example.com    uri.prefix \"/cart\", headers[end-user].exact \"jason\"  cart.default.svc.cluster.local:80 subset v2                   shop.yaml:10
                      uri.prefix \"/cart\"                                   90/100 cart.default.svc.cluster.local:80                      shop.yaml:20
                                                                           10/100 cart.default.svc.cluster.local:80 subset v2
                      uri.prefix \"/c\"                                      503: the regex is not valid                                   shop.yaml:30
                      uri.prefix \"/old\"                                    redirect 302                                                  shop.yaml:40
                      uri.prefix \"/tea\"                                    answer 418                                                    shop.yaml:45
                      uri.prefix \"/lost\"                                   outbound|80|v9|cart.default.svc.cluster.local (missing: 503)  shop.yaml:47
  secure.example.com  everything                                           redirect to https                                             shop.yaml:5

"
    );
    assert_eq!(text(&Plan::default()), "no listener\n");
}

#[test]
fn the_json_table_has_a_row_for_every_rule() {
    let (plan, _) = plan();
    let value = json(&plan);
    let rows = value.as_array().unwrap();
    assert_eq!(rows.len(), 67);
    assert_eq!(
        rows[0],
        serde_json::json!({
            "listener": "0.0.0.0:8080", "port": 80, "host": "shop.example.com",
            "match": "uri.prefix \"/cart\", headers[end-user].exact \"jason\"",
            "actions": ["cart.default.svc.cluster.local:80 subset v2"], "name": "rule-10",
            "object": "VirtualService default/shop", "path": "spec.http[10]", "origin": "shop.yaml:10",
        })
    );
}
