//! Host names as a user's destination writes them, made into the registry's full names.
//!
//! A name without a dot is short: it belongs to the namespace of the config that writes it.
//! Everything else is literal. Called by the registry and its rule index.

use std::borrow::Cow;
use std::sync::Arc;

/// The full, lower-case name of a host written in a config of `namespace`.
pub(super) fn expand<'h>(host: &'h str, namespace: &str, domain: &str) -> Cow<'h, str> {
    if is_short(host) {
        return Cow::Owned(service_host(&host.to_ascii_lowercase(), namespace, domain));
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

/// Whether a host is a bare service name, to be completed with namespace and domain.
pub(super) fn is_short(host: &str) -> bool {
    !host.is_empty() && !host.contains(['.', ':', '*'])
}

/// The full name of a Kubernetes Service.
pub(super) fn service_host(name: &str, namespace: &str, domain: &str) -> String {
    format!("{name}.{namespace}.svc.{domain}")
}

/// Istio's name of a cluster.
pub(super) fn cluster_name(host: &str, port: u32, subset: Option<&str>) -> Arc<str> {
    format!("outbound|{port}|{}|{host}", subset.unwrap_or_default()).into()
}

/// Whether an object is visible in `viewer`, by its `exportTo` or else the mesh's default.
pub(super) fn exported<'t>(
    export_to: impl Iterator<Item = &'t str>,
    defaults: &'t [String],
    own: &str,
    viewer: &str,
) -> bool {
    let mut export_to = export_to
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .peekable();
    let visible = |entry: &str| match entry {
        "*" => true,
        "~" => false,
        "." => own == viewer,
        namespace => namespace == viewer,
    };
    if export_to.peek().is_none() {
        return defaults.is_empty() || defaults.iter().any(|entry| visible(entry));
    }
    export_to.any(visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_dot_belongs_to_the_namespace_of_its_config() {
        assert_eq!(
            expand("Reviews", "prod", "cluster.local"),
            "reviews.prod.svc.cluster.local"
        );
    }

    #[test]
    fn a_name_with_a_dot_an_address_or_a_star_is_literal() {
        for host in ["reviews.prod", "reviews.prod.svc", "10.0.0.1", "::1", "*"] {
            assert_eq!(expand(host, "prod", "cluster.local"), host);
        }
        assert_eq!(
            expand("API.Example.com", "prod", "cluster.local"),
            "api.example.com"
        );
    }

    #[test]
    fn export_to_decides_visibility_and_falls_back_to_the_mesh_default() {
        let all = ["*".to_owned()];
        let private = [".".to_owned()];
        let check = |list: &[&str], defaults: &[String], own: &str| {
            exported(list.iter().copied(), defaults, own, "edge")
        };
        assert!(check(&[], &all, "prod"));
        assert!(!check(&[], &private, "prod"));
        assert!(check(&[], &private, "edge"));
        assert!(!check(&["."], &all, "prod"));
        assert!(check(&["staging", "edge"], &all, "prod"));
        assert!(!check(&["~"], &all, "edge"));
    }
}
