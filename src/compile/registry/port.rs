//! A service's ports and the protocol they speak, as Istio reads it from `appProtocol` or the
//! port's name. Called when services are indexed.

use std::sync::Arc;

use crate::plan::Protocol;

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub number: u16,
    /// Empty for the only port of a service.
    pub name: Arc<str>,
    pub speech: Speech,
    pub target: TargetPort,
}

/// Where the traffic of a port goes on the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetPort {
    /// The port's own number.
    Same,
    Number(u16),
    /// A named container port.
    Name(Arc<str>),
}

impl TargetPort {
    /// From text: a name, unless all of it is a number.
    pub(super) fn of_text(text: &str) -> Self {
        match text.parse() {
            Ok(0) => Self::Same,
            Ok(number) => Self::Number(number),
            Err(_) if text.is_empty() => Self::Same,
            Err(_) => Self::Name(text.into()),
        }
    }
}

/// What a port speaks, as far as the gateway cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// It says HTTP.
    Http1,
    /// It says nothing, or another protocol; routed to, it is asked in HTTP/1.1.
    Unsaid,
    Http2,
    /// Not a stream of bytes: there is no cluster for it.
    Datagram,
}

impl Speech {
    /// From a Kubernetes Service port.
    pub(super) fn of_service_port(
        transport: Option<&str>,
        app_protocol: Option<&str>,
        name: &str,
    ) -> Self {
        if transport.is_some_and(|transport| !transport.eq_ignore_ascii_case("tcp")) {
            return Self::Datagram;
        }
        match app_protocol {
            Some("kubernetes.io/h2c") => Self::Http2,
            Some("kubernetes.io/ws") => Self::Http1,
            Some(protocol) => Self::of_protocol(protocol),
            None => Self::of_port_name(name),
        }
    }

    /// From the `protocol` of a ServiceEntry port.
    pub(super) fn of_protocol(protocol: &str) -> Self {
        let is = |name: &str| protocol.eq_ignore_ascii_case(name);
        if is("http2") || is("grpc") || is("grpc-web") {
            Self::Http2
        } else if is("udp") {
            Self::Datagram
        } else if is("http") {
            Self::Http1
        } else {
            Self::Unsaid
        }
    }

    /// `grpc-web` is the one protocol name with a dash; every other name ends at the first.
    fn of_port_name(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        let protocol = match lower.strip_prefix("grpc-web") {
            Some("") => "grpc-web",
            Some(rest) if rest.starts_with('-') => "grpc-web",
            _ => lower.split('-').next().unwrap_or_default(),
        };
        Self::of_protocol(protocol)
    }

    /// What is spoken to the endpoints unless a DestinationRule upgrades it.
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Http2 => Protocol::H2c,
            Self::Http1 | Self::Unsaid | Self::Datagram => Protocol::Http1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gotcha_37_a_port_speaks_what_its_app_protocol_or_name_says_and_http_1_otherwise() {
        for (app, name, expected) in [
            (None, "", Speech::Unsaid),
            (None, "http", Speech::Http1),
            (None, "http-web", Speech::Http1),
            (None, "http2", Speech::Http2),
            (None, "http2-api", Speech::Http2),
            (None, "http2api", Speech::Unsaid),
            (None, "grpc", Speech::Http2),
            (None, "GRPC-web", Speech::Http2),
            (None, "grpc-web-x", Speech::Http2),
            (None, "grpc-webs", Speech::Http2),
            (None, "https", Speech::Unsaid),
            (None, "tcp-http2", Speech::Unsaid),
            (None, "metrics", Speech::Unsaid),
            (Some("kubernetes.io/h2c"), "http", Speech::Http2),
            (Some("kubernetes.io/ws"), "http2", Speech::Http1),
            (Some("kubernetes.io/wss"), "http2", Speech::Unsaid),
            (Some("grpc"), "web", Speech::Http2),
            (Some("http"), "grpc", Speech::Http1),
        ] {
            assert_eq!(
                Speech::of_service_port(Some("TCP"), app, name),
                expected,
                "{app:?} {name}"
            );
        }
    }

    #[test]
    fn a_port_that_is_no_tcp_port_takes_no_requests() {
        assert_eq!(
            Speech::of_service_port(Some("UDP"), None, "http2"),
            Speech::Datagram
        );
        assert_eq!(Speech::of_service_port(None, None, "http2"), Speech::Http2);
        assert_eq!(Speech::of_protocol("UDP"), Speech::Datagram);
    }
}
