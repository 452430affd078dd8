//! Our Gateways: which ones select this gateway, and what each of their servers asks for.
//!
//! [`Gateways::read`] gives every server of every selected Gateway in the stable order, with its
//! hosts parsed; [`listen`] then decides which of them share a socket.
//! Called by `compile`.

pub(crate) mod listen;
pub(crate) mod reach;
pub(crate) mod tls;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::{Code, Finding, Findings, HostPattern, Origin, Severity};
use crate::model::istio::gateway::{Server as ServerSpec, ServerTls};
use crate::model::{FieldPath, Object, Spec, istio};
use crate::plan::Fence;

use super::Options;
use super::damage::Damage;
use super::version::Versions;

/// What a server's port carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerProtocol {
    /// HTTP, HTTP2, GRPC, GRPC-WEB: plaintext HTTP.
    Http,
    Https,
    Tls,
    /// TCP, MONGO, REDIS, MYSQL.
    Tcp,
}

impl ServerProtocol {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, ServerProtocol); 10] = [
            ("HTTP", ServerProtocol::Http),
            ("HTTP2", ServerProtocol::Http),
            ("GRPC", ServerProtocol::Http),
            ("GRPC-WEB", ServerProtocol::Http),
            ("HTTPS", ServerProtocol::Https),
            ("TLS", ServerProtocol::Tls),
            ("TCP", ServerProtocol::Tcp),
            ("MONGO", ServerProtocol::Tcp),
            ("REDIS", ServerProtocol::Tcp),
            ("MYSQL", ServerProtocol::Tcp),
        ];
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, protocol)| *protocol)
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

/// What is done with a server's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Plaintext HTTP.
    Http,
    /// TLS ends here, and HTTP is inside.
    Https,
    /// Bytes from the first one on.
    Tcp,
    /// TLS ends here, and bytes are inside.
    TlsTcp,
    /// TLS goes on to the origin that a `tls` rule names.
    Passthrough,
    /// TLS goes on to the origin that the server name itself names.
    AutoPassthrough,
    /// Not done yet.
    Unsupported,
}

/// A Gateway that selects this gateway.
#[derive(Debug)]
pub(crate) struct Gateway<'a> {
    pub object: &'a Object,
    /// Whether its selector can be read; if not, nothing is served for it.
    pub servers: std::ops::Range<usize>,
}

/// One server of one of our Gateways.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    pub object: &'a Object,
    /// Index in `spec.servers`.
    pub index: usize,
    pub origin: Origin,
    pub declared_port: u16,
    /// The sockets it asks for.
    pub addrs: Vec<SocketAddr>,
    pub protocol: ServerProtocol,
    /// Its port says GRPC-WEB, or all servers translate it.
    pub grpc_web: bool,
    pub port_name: &'a str,
    pub hosts: Vec<ServerHost>,
    pub tls: Option<&'a ServerTls>,
    pub https_redirect: bool,
    /// Set when the server has errors: what it routes answers 503.
    pub fence: Option<Arc<Fence>>,
    /// Whether it takes part in a listener; `listen` decides.
    pub serves: bool,
}

/// A host of a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerHost {
    /// The only namespace whose VirtualServices may bind; `None` for all.
    pub namespace: Option<Arc<str>>,
    pub pattern: HostPattern,
    /// As compared between servers: namespace included.
    pub literal: String,
}

/// What a name of a Gateway leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// Index of one of ours.
    Ours(usize),
    /// It exists and selects another gateway.
    Other,
    Missing,
}

/// All Gateways, as this gateway sees them.
#[derive(Debug, Default)]
pub(crate) struct Gateways<'a> {
    pub gateways: Vec<Gateway<'a>>,
    pub servers: Vec<Server<'a>>,
    /// Namespace to name to what it is.
    names: HashMap<&'a str, HashMap<&'a str, Named>>,
}

impl<'a> Gateways<'a> {
    pub(crate) fn read(versions: &'a Versions, options: &Options, findings: &mut Findings) -> Self {
        let mut all = Self::default();
        let mut count = 0_usize;
        for object in versions.others() {
            let Spec::Gateway(spec) = &object.spec else {
                continue;
            };
            count += 1;
            let named = all.add(
                object,
                spec,
                versions.damage(&object.key),
                options,
                findings,
            );
            all.names
                .entry(&object.key.namespace)
                .or_default()
                .insert(&object.key.name, named);
        }
        if all.gateways.is_empty() && !versions.objects.is_empty() {
            let message = match count {
                0 => "there is no Gateway, so no port is opened".to_owned(),
                _ => format!(
                    "none of the {count} Gateways selects this gateway, so no port is opened"
                ),
            };
            let hint = format!(
                "add a Gateway with the selector {}",
                show_labels(&options.labels)
            );
            findings.push(Finding::new(Code::NO_GATEWAY, message).hint(hint));
        }
        all
    }

    /// Resolves a name as a VirtualService of `namespace` writes it. `mesh` is no Gateway.
    pub(crate) fn find(&self, name: &str, namespace: &str) -> Named {
        let (namespace, name) = split_name(name, namespace);
        self.names
            .get(namespace)
            .and_then(|names| names.get(name))
            .copied()
            .unwrap_or(Named::Missing)
    }

    fn add(
        &mut self,
        object: &'a Object,
        spec: &'a istio::Gateway,
        damage: Option<&Damage>,
        options: &Options,
        findings: &mut Findings,
    ) -> Named {
        if damage.is_some_and(|damage| damage.under("spec.selector").next().is_some()) {
            let message = "the selector cannot be read, so nothing is served for this Gateway";
            findings.push(
                Finding::new(Code::FENCED, message)
                    .at(&object.origin)
                    .of(&object.key)
                    .path("spec.selector"),
            );
            return Named::Other;
        }
        if !selects(&spec.selector, &options.labels) {
            let message = format!(
                "the selector {} does not select this gateway, whose labels are {}",
                show_labels(&spec.selector),
                show_labels(&options.labels)
            );
            findings.push(
                Finding::new(Code::NOT_FOR_THIS_GATEWAY, message)
                    .at(&object.origin_of(&FieldPath::spec().field("selector")))
                    .of(&object.key)
                    .path("spec.selector"),
            );
            return Named::Other;
        }
        let whole = damage
            .and_then(|damage| damage.of_whole(&["spec.servers"]))
            .map(super::damage::Fault::fence);
        let first = self.servers.len();
        for (index, slot) in spec.servers.iter().enumerate() {
            let printed = format!("spec.servers[{index}]");
            let own = damage
                .and_then(|damage| damage.under(&printed).next())
                .map(super::damage::Fault::fence);
            let fence = own.or_else(|| whole.clone());
            let origin = object.origin.at(slot.position);
            let note = |code: Code, message: String| {
                Finding::new(code, message)
                    .at(&origin)
                    .of(&object.key)
                    .path(printed.clone())
            };
            if let Some(fence) = &fence {
                let message = format!("what this server routes answers 503: {}", fence.reason);
                findings.push(note(Code::FENCED, message));
            }
            let Some(server) = slot.good() else { continue };
            if server.default_endpoint.is_some() {
                let message = "`defaultEndpoint` has no effect, as in Istio".to_owned();
                findings.push(note(Code::INERT_FIELD, message));
            }
            if server
                .bind
                .as_deref()
                .is_some_and(|bind| bind.starts_with("unix:"))
            {
                let message =
                    "a server on a Unix socket is not supported; it is not opened".to_owned();
                findings.push(note(Code::UNSUPPORTED, message).hint("bind to an IP address"));
                continue;
            }
            let Some(read) = read_server(object, index, server, origin.clone(), fence, options)
            else {
                let message = "the port cannot be read, so this server is not opened".to_owned();
                findings.push(note(Code::FENCED, message));
                continue;
            };
            if let Some(text) = unsupported(&read) {
                let hint = "nothing of this server is served, in plaintext neither";
                findings.push(note(Code::UNSUPPORTED, text).hint(hint));
            } else if read.https_redirect && read.protocol.is_tls() {
                let message = "`httpsRedirect` has no effect on a TLS server".to_owned();
                findings.push(note(Code::INERT_FIELD, message).severity(Severity::Warning));
            }
            self.servers.push(read);
        }
        self.gateways.push(Gateway {
            object,
            servers: first..self.servers.len(),
        });
        Named::Ours(self.gateways.len() - 1)
    }
}

impl Server<'_> {
    /// The TLS mode; Istio's enum begins with PASSTHROUGH, so that is what unset means (gotcha 1).
    pub(crate) fn mode(&self) -> &str {
        let written = self.tls.and_then(|tls| tls.mode.as_deref());
        written.unwrap_or("PASSTHROUGH")
    }

    /// Whether TLS ends here and HTTP is inside.
    pub(crate) fn terminates(&self) -> bool {
        self.role() == Role::Https
    }

    /// Whether requests are routed, and not connections.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.role(), Role::Http | Role::Https | Role::Unsupported)
    }

    pub(crate) fn role(&self) -> Role {
        let ends_tls = || {
            matches!(
                self.mode(),
                "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" | "ISTIO_MUTUAL"
            )
        };
        match self.protocol {
            ServerProtocol::Http => Role::Http,
            ServerProtocol::Tcp => Role::Tcp,
            ServerProtocol::Https if ends_tls() => Role::Https,
            ServerProtocol::Tls if ends_tls() => Role::TlsTcp,
            ServerProtocol::Https | ServerProtocol::Tls => match self.mode() {
                "PASSTHROUGH" => Role::Passthrough,
                "AUTO_PASSTHROUGH" => Role::AutoPassthrough,
                _ => Role::Unsupported,
            },
        }
    }
}

/// Why a server's protocol cannot be served yet.
fn unsupported(server: &Server<'_>) -> Option<String> {
    (server.role() == Role::Unsupported).then(|| {
        format!(
            "{} servers are not supported yet; port {} is not opened for this one",
            server.mode(),
            server.declared_port
        )
    })
}

fn read_server<'a>(
    object: &'a Object,
    index: usize,
    spec: &'a ServerSpec,
    origin: Origin,
    fence: Option<Arc<Fence>>,
    options: &Options,
) -> Option<Server<'a>> {
    let port = spec.port.as_ref()?;
    let declared_port = port
        .number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)?;
    let protocol = ServerProtocol::parse(port.protocol.as_deref()?)?;
    let bound = options
        .ports
        .get(&declared_port)
        .copied()
        .unwrap_or(declared_port);
    let addrs = match spec.bind.as_deref().filter(|bind| !bind.is_empty()) {
        Some(bind) => vec![SocketAddr::new(bind.parse::<IpAddr>().ok()?, bound)],
        None => options
            .bind
            .iter()
            .map(|addr| SocketAddr::new(*addr, bound))
            .collect(),
    };
    let hosts = spec
        .hosts
        .iter()
        .filter_map(|host| read_host(host, &object.key.namespace))
        .collect();
    Some(Server {
        object,
        index,
        origin,
        declared_port,
        addrs,
        protocol,
        grpc_web: options.grpc_web || is_grpc_web(port.protocol.as_deref()),
        port_name: port.name.as_deref().unwrap_or_default(),
        hosts,
        tls: spec.tls.as_deref(),
        https_redirect: spec
            .tls
            .as_ref()
            .and_then(|tls| tls.https_redirect)
            .unwrap_or(false),
        fence,
        serves: false,
    })
}

/// Istio puts Envoy's filter on ports of this protocol.
fn is_grpc_web(protocol: Option<&str>) -> bool {
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("GRPC-WEB"))
}

/// Reads `host`, `ns/host`, `./host` or `*/host`.
fn read_host(text: &str, own: &Arc<str>) -> Option<ServerHost> {
    let (namespace, host) = match text.split_once('/') {
        Some(("*", host)) => (None, host),
        Some((".", host)) => (Some(own.clone()), host),
        Some((namespace, host)) => (Some(namespace.into()), host),
        None => (None, text),
    };
    super::validate::name::server_host(host).ok()?;
    let pattern = HostPattern::parse(host)?;
    let literal = match &namespace {
        Some(namespace) => format!("{namespace}/{pattern}"),
        None => pattern.to_string(),
    };
    Some(ServerHost {
        namespace,
        pattern,
        literal,
    })
}

/// Splits a Gateway's name into namespace and name.
pub(crate) fn split_name<'n>(name: &'n str, own: &'n str) -> (&'n str, &'n str) {
    match name.split_once('/') {
        Some((".", name)) => (own, name),
        Some((namespace, name)) => (namespace, name),
        None => match name.split_once('.') {
            // `gw.ns.svc.cluster.local`, from before `ns/gw`.
            Some((name, rest)) => (rest.split('.').next().unwrap_or(rest), name),
            None => (own, name),
        },
    }
}

/// Whether every label asked for is there.
pub(crate) fn selects(
    selector: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

/// Labels as `{a: b, c: d}`.
pub(crate) fn show_labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
