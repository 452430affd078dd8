//! What the rules of `tls` and of `tcp` have in common, so that both are read by the same code.

use crate::model::istio::Items;
use crate::model::istio::virtual_service::{
    TcpDestination, TcpMatch, TcpRoute, TlsMatch, TlsRoute,
};

/// Which list of a VirtualService.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum List {
    Tls,
    Tcp,
}

impl List {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

/// A rule for connections.
pub(super) trait Rule {
    type Match: Condition;
    const LIST: List;

    fn matches(&self) -> &Items<Self::Match>;

    fn route(&self) -> &Items<TcpDestination>;
}

/// One match of such a rule.
pub(super) trait Condition {
    fn port(&self) -> Option<u32>;

    fn gateways(&self) -> &[String];

    /// `sniHosts`, if it can have them.
    fn names(&self) -> &[String];

    /// The fields that are set and do not count at a gateway.
    fn inert(&self) -> Vec<&'static str>;
}

impl Rule for TlsRoute {
    type Match = TlsMatch;
    const LIST: List = List::Tls;

    fn matches(&self) -> &Items<TlsMatch> {
        &self.matches
    }

    fn route(&self) -> &Items<TcpDestination> {
        &self.route
    }
}

impl Rule for TcpRoute {
    type Match = TcpMatch;
    const LIST: List = List::Tcp;

    fn matches(&self) -> &Items<TcpMatch> {
        &self.matches
    }

    fn route(&self) -> &Items<TcpDestination> {
        &self.route
    }
}

impl Condition for TlsMatch {
    fn port(&self) -> Option<u32> {
        self.port
    }

    fn gateways(&self) -> &[String] {
        &self.gateways
    }

    fn names(&self) -> &[String] {
        &self.sni_hosts
    }

    fn inert(&self) -> Vec<&'static str> {
        set(&[
            ("destinationSubnets", !self.destination_subnets.is_empty()),
            ("sourceLabels", !self.source_labels.is_empty()),
            ("sourceNamespace", is_set(&self.source_namespace)),
        ])
    }
}

impl Condition for TcpMatch {
    fn port(&self) -> Option<u32> {
        self.port
    }

    fn gateways(&self) -> &[String] {
        &self.gateways
    }

    fn names(&self) -> &[String] {
        &[]
    }

    fn inert(&self) -> Vec<&'static str> {
        set(&[
            ("destinationSubnets", !self.destination_subnets.is_empty()),
            ("sourceSubnet", is_set(&self.source_subnet)),
            ("sourceLabels", !self.source_labels.is_empty()),
            ("sourceNamespace", is_set(&self.source_namespace)),
        ])
    }
}

fn is_set(field: &Option<String>) -> bool {
    field.as_deref().is_some_and(|text| !text.is_empty())
}

/// The names of the fields that are set.
fn set(fields: &[(&'static str, bool)]) -> Vec<&'static str> {
    let set = fields.iter().filter(|(_, is_set)| *is_set);
    set.map(|(field, _)| *field).collect()
}
