//! What opening and closing a port can come to. `server` turns failures into findings.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Linux error numbers for "this process" and "this machine" having too many files open.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Why a port could not be opened, and what to do about it.
#[derive(Debug, Error)]
pub enum ListenerError {
    #[error(
        "port {port} is in use by another process; stop that process (`ss -ltnp 'sport = :{port}'` \
         names it), or map the port to a free one in the settings, `gateway.ports: {{{port}: {other}}}`",
        port = .0.port(), other = other_port(.0.port())
    )]
    InUse(SocketAddr),
    #[error(
        "no permission to listen on port {port}; map it to a port from 1024 up in the settings, \
         `gateway.ports: {{{port}: {other}}}`, or grant the capability CAP_NET_BIND_SERVICE",
        port = .0.port(), other = other_port(.0.port())
    )]
    NotPermitted(SocketAddr),
    #[error(
        "this machine has no address {ip} to listen on; use one of its own, or 0.0.0.0 or [::] for all",
        ip = .0.ip()
    )]
    AddressNotAvailable(SocketAddr),
    #[error(
        "{0} cannot be opened, too many files are open; raise the limit (`ulimit -n`, LimitNOFILE)"
    )]
    TooManyFiles(SocketAddr),
    #[error("{0} cannot be opened: {1}")]
    Other(SocketAddr, #[source] io::Error),
}

impl ListenerError {
    /// The reading of an error that the system gave for `address`.
    pub(super) fn new(address: SocketAddr, error: io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::AddrInUse, _) => Self::InUse(address),
            (io::ErrorKind::PermissionDenied, _) => Self::NotPermitted(address),
            (io::ErrorKind::AddrNotAvailable, _) => Self::AddressNotAvailable(address),
            (_, Some(EMFILE | ENFILE)) => Self::TooManyFiles(address),
            _ => Self::Other(address, error),
        }
    }

    /// The address that could not be opened.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::InUse(address)
            | Self::NotPermitted(address)
            | Self::AddressNotAvailable(address)
            | Self::TooManyFiles(address)
            | Self::Other(address, _) => *address,
        }
    }
}

/// What became of one address in [`Listeners::apply`](super::Listeners::apply).
#[derive(Debug)]
pub enum ListenerOutcome {
    Opened(SocketAddr),
    Kept(SocketAddr),
    Closed(SocketAddr),
    Failed(SocketAddr, ListenerError),
}

/// The port people use in place of a low or taken one: 8080 for 80, 8443 for 443.
fn other_port(port: u16) -> u16 {
    if port < 1024 {
        port + 8000
    } else {
        port.checked_add(1).unwrap_or(8080)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(port: u16, kind: io::ErrorKind) -> String {
        let address = SocketAddr::from(([0, 0, 0, 0], port));
        ListenerError::new(address, io::Error::from(kind)).to_string()
    }

    #[test]
    fn a_refused_low_port_names_the_setting_and_the_capability() {
        let text = sentence(80, io::ErrorKind::PermissionDenied);
        assert!(text.contains("gateway.ports: {80: 8080}"), "{text}");
        assert!(text.contains("CAP_NET_BIND_SERVICE"), "{text}");
    }

    #[test]
    fn a_taken_port_is_named_with_a_free_neighbour() {
        let text = sentence(8443, io::ErrorKind::AddrInUse);
        assert!(text.contains("port 8443 is in use"), "{text}");
        assert!(text.contains("{8443: 8444}"), "{text}");
    }

    #[test]
    fn running_out_of_files_says_which_limit_to_raise() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let error = ListenerError::new(address, io::Error::from_raw_os_error(EMFILE));
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
