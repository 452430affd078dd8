//! What a Gateway's terminated servers agree on with their clients: certificates, who may come,
//! versions and ciphers.
//!
//! Certificates come parsed, with Secrets. What cannot be had fails the handshakes of its own
//! server and nothing else.

pub(crate) mod credentials;

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use foldhash::{HashMap, HashMapExt};

use crate::base::tls_material::{Fingerprint, KeyPair};
use crate::base::{Code, Finding, Findings, HostPattern};
use crate::model::istio::gateway::ServerTls;
use crate::model::{FieldPath, Object};
use crate::plan::hosts::HostIndex;
use crate::plan::{
    ClientCertificates, ClientRules, TlsServer, TlsService, TlsSocket, TlsTerms, TlsVersion,
};

use credentials::{Credentials, Missing, Trust};

use super::listen::Sockets;
use super::{Gateways, Options, Role, Server, Versions};
use crate::compile::stream::Streams;

/// What BoringSSL knows for TLS up to 1.2, with Istio's spelling.
const CIPHERS: [&str; 17] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
];

/// What the TLS sockets of a plan are made of. Listeners are numbered as `sockets.http` is.
pub(crate) struct Terminating<'t, 'a> {
    pub sockets: &'t Sockets,
    pub gateways: &'t Gateways<'a>,
    pub streams: &'t Streams,
}

impl Terminating<'_, '_> {
    pub(crate) fn sockets(
        &self,
        versions: &Versions,
        options: &Options,
        findings: &mut Findings,
    ) -> Vec<TlsSocket> {
        if self.sockets.tls.is_empty() {
            return Vec::new();
        }
        let mut reader = Reader {
            credentials: Credentials::index(versions, options),
            findings,
            terms: HashMap::new(),
        };
        let all = self.sockets.tls.iter();
        let all = all.map(|(addr, servers)| self.socket(*addr, servers, &mut reader));
        // A port of which nothing can be served is not opened.
        all.filter(|socket| {
            let mut servers = socket.servers.iter();
            servers.any(|server| !matches!(server.service, TlsService::Unsupported))
        })
        .collect()
    }

    fn declared_port(&self, servers: &[usize]) -> Option<u16> {
        let first = self.gateways.servers.get(*servers.first()?)?;
        Some(first.declared_port)
    }

    fn socket(&self, addr: SocketAddr, servers: &[usize], reader: &mut Reader<'_>) -> TlsSocket {
        let mut socket = TlsSocket {
            addr,
            declared_port: self.declared_port(servers).unwrap_or(addr.port()),
            names: HostIndex::default(),
            servers: Vec::with_capacity(servers.len()),
            has_client_rules: false,
        };
        for index in servers {
            let Some(server) = self.gateways.servers.get(*index) else {
                continue;
            };
            let mut add = |names: &mut dyn Iterator<Item = &HostPattern>, service: TlsService| {
                let number = u32::try_from(socket.servers.len()).unwrap_or(u32::MAX);
                names.for_each(|name| socket.names.insert(name, number));
                let key = &server.object.key;
                socket.servers.push(TlsServer {
                    origin: server.origin.clone(),
                    name: format!("{}/{}/{}", key.namespace, key.name, server.port_name).into(),
                    service,
                });
            };
            let mut hosts = server.hosts.iter().map(|host| &host.pattern);
            match server.role() {
                Role::Https => {
                    let terms = reader.terms(*index, server);
                    if let Some(listener) = listener_of(self.sockets, addr, *index) {
                        add(&mut hosts, TlsService::Http { listener, terms });
                    }
                }
                Role::TlsTcp => {
                    let terms = reader.terms(*index, server);
                    // Without a route there is no filter chain, as in Istio.
                    if let Some(route) = self.streams.tcp.get(index).cloned() {
                        add(&mut hosts, TlsService::Tcp { route, terms });
                    }
                }
                Role::Passthrough | Role::AutoPassthrough => {
                    let chains = self.streams.passthrough.get(&(addr, *index));
                    for chain in chains.into_iter().flatten() {
                        let service = TlsService::Passthrough {
                            route: chain.route.clone(),
                            mesh_only: chain.mesh_only,
                        };
                        add(&mut chain.names.iter(), service);
                    }
                }
                Role::Http | Role::Tcp | Role::Unsupported => {
                    add(&mut hosts, TlsService::Unsupported);
                }
            }
        }
        socket.has_client_rules = socket.servers.iter().any(|server| {
            let terms = server.service.terms();
            terms.is_some_and(|terms| terms.client.rules().is_some())
        });
        socket
    }
}

fn listener_of(sockets: &Sockets, addr: SocketAddr, server: usize) -> Option<usize> {
    let mut all = sockets.http.iter();
    all.position(|socket| socket.is_tls && socket.addr == addr && socket.servers == [server])
}

struct Reader<'r> {
    credentials: Credentials<'r>,
    findings: &'r mut Findings,
    /// By server: one that listens on several addresses has the same terms on all.
    terms: HashMap<usize, Arc<TlsTerms>>,
}

impl Reader<'_> {
    fn terms(&mut self, index: usize, server: &Server<'_>) -> Arc<TlsTerms> {
        if let Some(known) = self.terms.get(&index) {
            return known.clone();
        }
        let default = ServerTls::default();
        let at = Place {
            object: server.object,
            path: FieldPath::spec()
                .field("servers")
                .index(server.index)
                .field("tls"),
        };
        let tls = server.tls.unwrap_or(&default);
        self.inert(tls, server.mode() == "SIMPLE", &at);
        let terms = Arc::new(TlsTerms {
            pairs: self.pairs(tls, &at),
            client: match server.mode() {
                "MUTUAL" | "ISTIO_MUTUAL" => ClientCertificates::Required(self.rules(tls, &at)),
                "OPTIONAL_MUTUAL" => ClientCertificates::Optional(self.rules(tls, &at)),
                _ => ClientCertificates::Ignored,
            },
            min: version(tls.min_protocol_version.as_deref()).unwrap_or(TlsVersion::V1_2),
            max: version(tls.max_protocol_version.as_deref()).unwrap_or(TlsVersion::V1_3),
            ciphers: self.ciphers(tls, &at),
        });
        self.terms.insert(index, terms.clone());
        terms
    }

    /// Names the fields that have no effect beside the others.
    fn inert(&mut self, tls: &ServerTls, is_simple: bool, at: &Place<'_>) {
        let is_set = |field: &Option<String>| field.as_deref().is_some_and(|it| !it.is_empty());
        let has_credential = is_set(&tls.credential_name) || !tls.credential_names.is_empty();
        let asks = [
            ("subjectAltNames", !tls.subject_alt_names.is_empty()),
            (
                "verifyCertificateSpki",
                !tls.verify_certificate_spki.is_empty(),
            ),
            (
                "verifyCertificateHash",
                !tls.verify_certificate_hash.is_empty(),
            ),
            ("caCertificates", is_set(&tls.ca_certificates)),
            ("caCertCredentialName", is_set(&tls.ca_cert_credential_name)),
            ("caCrl", is_set(&tls.ca_crl)),
            ("insecureSkipVerify", tls.insecure_skip_verify == Some(true)),
        ];
        for (field, _) in asks.iter().filter(|(_, is_set)| *is_set) {
            let message = match is_simple {
                true => {
                    format!("`{field}` has no effect: mode SIMPLE asks clients for no certificate")
                }
                false if *field == "caCertificates" && has_credential => {
                    "`caCertificates` has no effect: the credential's CA is used".to_owned()
                }
                false => continue,
            };
            let hint = "use MUTUAL or OPTIONAL_MUTUAL, or remove it";
            self.report(Code::INERT_FIELD, at, &at.path.field(field), message, hint);
        }
    }

    /// One pair of each kind of key; what cannot be had is reported.
    fn pairs(&mut self, tls: &ServerTls, at: &Place<'_>) -> Vec<Arc<KeyPair>> {
        let mut pairs: Vec<Arc<KeyPair>> = Vec::new();
        for found in self.credentials.pairs(tls, &at.path) {
            match found {
                Ok(pair) if pairs.iter().any(|known| known.kind() == pair.kind()) => {
                    let message =
                        "two certificates have the same kind of key; only the first is used";
                    let hint = "name one RSA and one ECDSA certificate";
                    self.report(Code::INERT_FIELD, at, &at.path, message.to_owned(), hint);
                }
                Ok(pair) => pairs.push(pair),
                Err(missing) => self.missing(at, &missing, "TLS handshakes for this server fail"),
            }
        }
        pairs
    }

    fn rules(&mut self, tls: &ServerTls, at: &Place<'_>) -> Arc<ClientRules> {
        let skip_verification = tls.insecure_skip_verify == Some(true);
        let trust = self
            .credentials
            .trust(tls, &at.path)
            .unwrap_or_else(|missing| {
                if !skip_verification {
                    let so = "no client certificate is accepted for this server";
                    self.missing(at, &missing, so);
                }
                Trust::default()
            });
        let names = tls.subject_alt_names.iter();
        Arc::new(ClientRules {
            authorities: trust.authorities,
            revocations: trust.revocations,
            names: names.map(|name| name.as_str().into()).collect(),
            keys: self.fingerprints(
                &tls.verify_certificate_spki,
                "verifyCertificateSpki",
                at,
                |text| STANDARD.decode(text).ok(),
            ),
            certificates: self.fingerprints(
                &tls.verify_certificate_hash,
                "verifyCertificateHash",
                at,
                from_hex,
            ),
            skip_verification,
        })
    }

    fn missing(&mut self, at: &Place<'_>, missing: &Missing, so: &str) {
        let (code, hint) = match missing.is_unknown {
            true => (
                Code::REFERENCED_RESOURCE_NOT_FOUND,
                "add it to the manifests; a Secret belongs in the gateway's own namespace (gateway.namespace)",
            ),
            false => (Code::INVALID_VALUE, "mend what is named here"),
        };
        let message = format!("{}; {so}", missing.message);
        self.report(code, at, &missing.path, message, hint);
    }

    fn fingerprints(
        &mut self,
        written: &[String],
        field: &str,
        at: &Place<'_>,
        decode: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Vec<Fingerprint> {
        let mut all = Vec::with_capacity(written.len());
        for (index, text) in written.iter().enumerate() {
            match decode(text).and_then(|bytes| bytes.try_into().ok()) {
                Some(fingerprint) => all.push(fingerprint),
                None => {
                    // Nothing has this hash, so that the rule stays as strict as it was meant.
                    all.push(Fingerprint::default());
                    let path = at.path.field(field).index(index);
                    let message = format!("`{text}` is not a SHA-256 hash");
                    self.report(
                        Code::INVALID_VALUE,
                        at,
                        &path,
                        message,
                        "Spki in base64, Hash in hex",
                    );
                }
            }
        }
        all
    }

    /// Istio drops unknown and repeated names without a word; they are named here.
    fn ciphers(&mut self, tls: &ServerTls, at: &Place<'_>) -> Option<Arc<str>> {
        let mut kept: Vec<&str> = Vec::new();
        for (index, name) in tls.cipher_suites.iter().enumerate() {
            let problem = match CIPHERS.contains(&name.as_str()) {
                false => "is not a cipher suite of BoringSSL for TLS up to 1.2",
                true if kept.contains(&name.as_str()) => "is named twice",
                true => {
                    kept.push(name);
                    continue;
                }
            };
            let path = at.path.field("cipherSuites").index(index);
            let message = format!("`{name}` {problem}; it is left out, as in Istio");
            self.report(Code::INERT_FIELD, at, &path, message, "remove it");
        }
        (!kept.is_empty()).then(|| kept.join(":").into())
    }

    fn report(
        &mut self,
        code: Code,
        at: &Place<'_>,
        path: &FieldPath,
        message: String,
        hint: &str,
    ) {
        self.findings.push(
            Finding::new(code, message)
                .at(&at.object.origin_of(path))
                .of(&at.object.key)
                .path(path.to_string())
                .hint(hint),
        );
    }
}

/// A server's `tls`, for findings.
struct Place<'a> {
    object: &'a Object,
    path: FieldPath,
}

fn version(name: Option<&str>) -> Option<TlsVersion> {
    match name? {
        "TLSV1_0" => Some(TlsVersion::V1_0),
        "TLSV1_1" => Some(TlsVersion::V1_1),
        "TLSV1_2" => Some(TlsVersion::V1_2),
        "TLSV1_3" => Some(TlsVersion::V1_3),
        _ => None,
    }
}

/// Hex with or without colons, as openssl prints fingerprints.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
