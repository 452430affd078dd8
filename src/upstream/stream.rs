//! Connections to origins that carry bytes and not requests.
//!
//! Each is a connection of its own: never pooled, counted against `maxConnections` as in Envoy,
//! and told to outlier detection by whether it could be made. TLS and the PROXY protocol are as the
//! cluster has them.

use std::net::SocketAddr;

use pingora_core::protocols::Stream;
use pingora_core::{Error, ErrorType};

use crate::base::CauseKind;

use super::cluster::ClusterState;
use super::peer::{Caller, Wants};
use super::pick::{Ask, Outcome, Pick, Refused};
use super::queue::Counted;
use super::tls::handshake_failure;

/// A connection to an endpoint, counted as long as it is held.
#[derive(Debug)]
pub struct Dialled {
    pub stream: Stream,
    pub held: Held,
}

/// A connection's part in the counts of its cluster and endpoint.
#[derive(Debug)]
pub struct Held {
    pub pick: Pick,
    _counted: Option<Counted>,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NotDialled {
    /// None was tried.
    Refused(Refused),
    /// It failed at this endpoint, in these words.
    Failed {
        held: Box<Held>,
        kind: CauseKind,
        message: String,
    },
}

impl ClusterState {
    /// Connects to an endpoint for a client whose connection has these two ends. There is one
    /// attempt, as Envoy's TCP proxy makes by default.
    ///
    /// # Errors
    /// No endpoint takes traffic, `maxConnections` is reached, the endpoint cannot be reached
    /// within `connectTimeout`, or its certificate is not accepted.
    pub async fn dial(
        &self,
        ask: &Ask<'_>,
        addresses: Option<(SocketAddr, SocketAddr)>,
    ) -> Result<Dialled, NotDialled> {
        // As Envoy, which would not let one wait for a connection that may never be given back.
        let counted = self.count_stream().map_err(NotDialled::Refused)?;
        let pick = self.pick_for_stream(ask).map_err(NotDialled::Refused)?;
        let caller = Caller {
            addresses,
            ..Caller::of(Wants::Stream)
        };
        let peer = self.peer(&pick, &caller);
        let held = Held {
            pick,
            _counted: counted,
        };
        match self.dialer.dial(peer, None, None).await {
            Ok(stream) => {
                // What Envoy tells its detector of a connection that was made.
                held.pick.report(Outcome::Answered(200));
                Ok(Dialled { stream, held })
            }
            Err(error) => {
                held.pick.report(Outcome::ConnectFailed);
                Err(NotDialled::Failed {
                    held: Box::new(held),
                    kind: CauseKind::UpstreamConnectFailure,
                    message: words(&error),
                })
            }
        }
    }
}

/// Envoy's words for why a connection could not be made, and the system's.
fn words(error: &Error) -> String {
    match error.etype() {
        ErrorType::ConnectTimedout => "connection timeout".to_owned(),
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => {
            let context = error.context.as_ref();
            handshake_failure(context.map_or("", |context| context.as_str()))
        }
        _ => format!("delayed connect error: {}", error.root_cause()),
    }
}
