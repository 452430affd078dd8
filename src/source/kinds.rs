//! Which documents mean something to a gateway, by API group, version and kind.

use crate::base::Kind;

/// What is done with a document of some kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Decoded.
    Read(Kind),
    /// An Istio kind known by name only; kept so that `compile` can say it is not supported.
    Unsupported(Kind),
    /// A kind of ours in a version that is not served.
    UnknownVersion { known: &'static str },
    /// A kind that our own group does not have: a slip.
    UnknownKind { known: &'static str },
    /// Nothing to a gateway.
    Foreign,
}

/// Looks up an `apiVersion` and a `kind`.
pub(super) fn meaning(api_version: &str, kind: &str) -> Meaning {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    match group {
        "networking.istio.io" => istio(
            version,
            &["v1", "v1beta1", "v1alpha3"],
            kind,
            networking(kind),
        ),
        "security.istio.io" => istio(version, &["v1", "v1beta1"], kind, security(kind)),
        "telemetry.istio.io" => istio(version, &["v1", "v1alpha1"], kind, telemetry(kind)),
        "extensions.istio.io" => istio(version, &["v1alpha1"], kind, None),
        // The operator's own input, which no proxy ever sees.
        "install.istio.io" => Meaning::Foreign,
        _ if group.ends_with(".istio.io") => Meaning::Unsupported(Kind::Other(kind.into())),
        "gateway.pingress.io" => match own(kind) {
            Some(read) if version == "v1alpha1" => Meaning::Read(read),
            Some(_) => Meaning::UnknownVersion { known: "v1alpha1" },
            None => Meaning::UnknownKind {
                known: "HealthCheckPolicy, RateLimit, AccessList, BodyLimit, Compression",
            },
        },
        "" => match core(kind) {
            Some(read) if version == "v1" => Meaning::Read(read),
            Some(_) => Meaning::UnknownVersion { known: "v1" },
            None => Meaning::Foreign,
        },
        "discovery.k8s.io" if kind == "EndpointSlice" => match version {
            "v1" => Meaning::Read(Kind::EndpointSlice),
            _ => Meaning::UnknownVersion {
                known: "discovery.k8s.io/v1",
            },
        },
        _ => Meaning::Foreign,
    }
}

fn istio(version: &str, served: &[&'static str], kind: &str, read: Option<Kind>) -> Meaning {
    if !served.contains(&version) {
        let known = served.first().copied().unwrap_or_default();
        return Meaning::UnknownVersion { known };
    }
    match read {
        Some(kind) => Meaning::Read(kind),
        None => Meaning::Unsupported(Kind::Other(kind.into())),
    }
}

fn networking(kind: &str) -> Option<Kind> {
    Some(match kind {
        "Gateway" => Kind::Gateway,
        "VirtualService" => Kind::VirtualService,
        "DestinationRule" => Kind::DestinationRule,
        "ServiceEntry" => Kind::ServiceEntry,
        "WorkloadEntry" => Kind::WorkloadEntry,
        "EnvoyFilter" => Kind::EnvoyFilter,
        _ => return None,
    })
}

fn security(kind: &str) -> Option<Kind> {
    Some(match kind {
        "AuthorizationPolicy" => Kind::AuthorizationPolicy,
        "RequestAuthentication" => Kind::RequestAuthentication,
        _ => return None,
    })
}

fn telemetry(kind: &str) -> Option<Kind> {
    (kind == "Telemetry").then_some(Kind::Telemetry)
}

fn own(kind: &str) -> Option<Kind> {
    match kind {
        "HealthCheckPolicy" => Some(Kind::HealthCheckPolicy),
        "RateLimit" => Some(Kind::RateLimit),
        "AccessList" => Some(Kind::AccessList),
        "BodyLimit" => Some(Kind::BodyLimit),
        "Compression" => Some(Kind::Compression),
        _ => None,
    }
}

fn core(kind: &str) -> Option<Kind> {
    Some(match kind {
        "Service" => Kind::Service,
        "Endpoints" => Kind::Endpoints,
        "Pod" => Kind::Pod,
        "Secret" => Kind::Secret,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_version_istio_serves_is_read() {
        for version in ["v1", "v1beta1", "v1alpha3"] {
            let api_version = format!("networking.istio.io/{version}");
            assert_eq!(
                meaning(&api_version, "Gateway"),
                Meaning::Read(Kind::Gateway)
            );
        }
        let policy = meaning("security.istio.io/v1beta1", "AuthorizationPolicy");
        assert_eq!(policy, Meaning::Read(Kind::AuthorizationPolicy));
        let telemetry = meaning("telemetry.istio.io/v1alpha1", "Telemetry");
        assert_eq!(telemetry, Meaning::Read(Kind::Telemetry));
    }

    #[test]
    fn a_kind_of_the_same_name_in_another_group_is_foreign() {
        assert_eq!(
            meaning("gateway.networking.k8s.io/v1", "Gateway"),
            Meaning::Foreign
        );
        assert_eq!(
            meaning("serving.knative.dev/v1", "Service"),
            Meaning::Foreign
        );
        assert_eq!(meaning("apps/v1", "Deployment"), Meaning::Foreign);
    }

    #[test]
    fn istio_kinds_without_a_model_are_kept_by_name() {
        for (api_version, kind) in [
            ("networking.istio.io/v1", "Sidecar"),
            ("networking.istio.io/v1beta1", "ProxyConfig"),
            ("security.istio.io/v1", "PeerAuthentication"),
            ("extensions.istio.io/v1alpha1", "WasmPlugin"),
        ] {
            assert_eq!(
                meaning(api_version, kind),
                Meaning::Unsupported(Kind::Other(kind.into()))
            );
        }
    }

    #[test]
    fn our_own_group_has_its_kinds_and_no_others() {
        let policy = meaning("gateway.pingress.io/v1alpha1", "HealthCheckPolicy");
        assert_eq!(policy, Meaning::Read(Kind::HealthCheckPolicy));
        let limit = meaning("gateway.pingress.io/v1alpha1", "RateLimit");
        assert_eq!(limit, Meaning::Read(Kind::RateLimit));
        let version = meaning("gateway.pingress.io/v1", "HealthCheckPolicy");
        assert!(matches!(version, Meaning::UnknownVersion { .. }));
        let kind = meaning("gateway.pingress.io/v1alpha1", "HealthCheck");
        assert!(matches!(kind, Meaning::UnknownKind { .. }));
    }

    #[test]
    fn a_version_that_does_not_exist_is_not_taken_for_foreign() {
        for (api_version, kind) in [
            ("networking.istio.io/v2", "Gateway"),
            ("security.istio.io/v1alpha1", "AuthorizationPolicy"),
            ("v2", "Service"),
            ("discovery.k8s.io/v1beta1", "EndpointSlice"),
        ] {
            let meaning = meaning(api_version, kind);
            assert!(
                matches!(meaning, Meaning::UnknownVersion { .. }),
                "{api_version} {kind}"
            );
        }
    }
}
