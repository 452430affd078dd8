//! The certificates that servers show, and how long they are valid.

use jiff::Timestamp;
use serde::Serialize;

use crate::base::tls_material::KeyKind;
use crate::plan::{Plan, TlsService};

/// One certificate of one server.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// `namespace/gateway/port name`.
    server: String,
    origin: String,
    key: &'static str,
    /// Seconds since the Unix epoch.
    until: i64,
}

pub(super) fn shown(plan: &Plan) -> Vec<Shown> {
    let servers = plan.tls.iter().flat_map(|socket| &socket.servers);
    servers
        .filter_map(|server| match &server.service {
            TlsService::Http { terms, .. } | TlsService::Tcp { terms, .. } => Some((server, terms)),
            _ => None,
        })
        .flat_map(|(server, terms)| {
            terms.pairs.iter().map(|pair| Shown {
                server: server.name.to_string(),
                origin: server.origin.to_string(),
                key: match pair.kind() {
                    KeyKind::Rsa => "RSA",
                    KeyKind::Ecdsa => "ECDSA",
                    KeyKind::Other => "other",
                },
                until: pair.validity().until,
            })
        })
        .collect()
}

pub(super) fn text(certificates: &[Shown]) -> String {
    if certificates.is_empty() {
        return "no server has a certificate\n".to_owned();
    }
    certificates
        .iter()
        .map(|it| {
            let until = Timestamp::from_second(it.until).unwrap_or_default();
            format!(
                "{}  {}  until {until}  ({})\n",
                it.server, it.key, it.origin
            )
        })
        .collect()
}
