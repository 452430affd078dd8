//! EnvoyFilters, written as most are: one line for each patch.

pub const BEFORE_ROUTER: &str = "{context: GATEWAY, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}";
pub const EVERY_HOST: &str =
    "{context: GATEWAY, routeConfiguration: {vhost: {name: '', route: {action: ANY}}}}";

/// One patch.
pub fn patch(apply_to: &str, matches: &str, operation: &str, value: &str) -> String {
    format!(
        "  - {{applyTo: {apply_to}, match: {matches}, patch: {{operation: {operation}, value: {value}}}}}\n"
    )
}

/// An object for the ingress gateway with these patches.
pub fn object(name: &str, patches: &[String]) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: istio-system}}\nspec:\n  workloadSelector: {{labels: {{istio: ingressgateway}}}}\n  configPatches:\n{}",
        patches.concat()
    )
}
