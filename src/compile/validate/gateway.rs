//! What Istio refuses in a Gateway.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::base::{Findings, Severity};
use crate::compile::gateway::ServerProtocol;
use crate::model::istio::Gateway;
use crate::model::istio::gateway::{Server, ServerTls};
use crate::model::{FieldPath, Object};

use super::{fault, name};

pub(super) fn check(object: &Object, spec: &Gateway, findings: &mut Findings) {
    if !name::is_label(&object.key.name) {
        let path = FieldPath::default().field("metadata").field("name");
        let message = format!("`{}` is not a DNS label", object.key.name);
        findings.push(fault(
            object,
            &path,
            message,
            "use letters, digits and hyphens, no dots",
        ));
    }
    let servers = FieldPath::spec().field("servers");
    if spec.servers.is_empty()
        && !object
            .issues
            .iter()
            .any(|issue| issue.path.starts_with(&servers))
    {
        findings.push(fault(
            object,
            &servers,
            "a Gateway needs at least one server",
            "add an entry to `servers`",
        ));
    }
    let mut names = HashSet::new();
    for (index, server) in spec.servers.iter().enumerate() {
        let path = servers.index(index);
        let Some(server) = server.good() else {
            continue;
        };
        check_server(object, &path, server, findings);
        let Some(port) = &server.port else { continue };
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty())
            && !names.insert(port_name)
        {
            let path = path.field("port").field("name");
            let message =
                format!("the port name `{port_name}` is used by an earlier server of this Gateway");
            findings.push(fault(
                object,
                &path,
                message,
                "give every server's port its own name",
            ));
        }
    }
}

fn check_server(object: &Object, path: &FieldPath, server: &Server, findings: &mut Findings) {
    let unreadable = |field: &str| object.issues_under(&path.field(field)).next().is_some();
    if server.hosts.is_empty() && !unreadable("hosts") {
        findings.push(fault(
            object,
            &path.field("hosts"),
            "a server needs at least one host",
            "write `hosts: [\"*\"]` for any",
        ));
    }
    for (index, host) in server.hosts.iter().enumerate() {
        let result = match host.split_once('/') {
            Some((namespace, _))
                if !matches!(namespace, "." | "*") && !name::is_label(namespace) =>
            {
                Err(format!("`{namespace}` is not a namespace"))
            }
            Some((_, host)) => name::server_host(host),
            None => name::server_host(host),
        };
        if let Err(message) = result {
            let path = path.field("hosts").index(index);
            findings.push(fault(
                object,
                &path,
                message,
                "write a full name, `*`, or `*.` before a full name",
            ));
        }
    }
    let protocol = check_port(object, path, server, &unreadable, findings);
    if let Some(bind) = server
        .bind
        .as_deref()
        .filter(|bind| !bind.is_empty() && !bind.starts_with("unix:"))
        && bind.parse::<IpAddr>().is_err()
    {
        let message = format!("`{bind}` is not an IP address");
        findings.push(fault(
            object,
            &path.field("bind"),
            message,
            "write an address of this machine, or leave it out",
        ));
    }
    let Some(protocol) = protocol else { return };
    match &server.tls {
        None if protocol.is_tls() && !unreadable("tls") => {
            let message = "an HTTPS or TLS server needs `tls`";
            findings.push(fault(
                object,
                path,
                message,
                "add `tls` with a mode and a certificate",
            ));
        }
        None => {}
        Some(tls) if protocol.is_tls() => check_tls(object, &path.field("tls"), tls, findings),
        Some(tls) if protocol == ServerProtocol::Http => {
            let has_mode = tls
                .mode
                .as_deref()
                .is_some_and(|mode| !mode.is_empty() && mode != "PASSTHROUGH");
            if has_mode || has_certificate(tls) || tls.ca_certificates.is_some() {
                let message =
                    "a plaintext HTTP server cannot have TLS settings except `httpsRedirect`";
                findings.push(fault(
                    object,
                    &path.field("tls"),
                    message,
                    "set the port's protocol to HTTPS",
                ));
            }
        }
        Some(_) => {
            let message = "a TCP server cannot have TLS settings";
            findings.push(fault(
                object,
                &path.field("tls"),
                message,
                "set the port's protocol to TLS",
            ));
        }
    }
}

fn check_port(
    object: &Object,
    server_path: &FieldPath,
    server: &Server,
    unreadable: &impl Fn(&str) -> bool,
    findings: &mut Findings,
) -> Option<ServerProtocol> {
    let path = server_path.field("port");
    let Some(port) = &server.port else {
        if !unreadable("port") {
            findings.push(fault(
                object,
                &path,
                "a server needs a port",
                "add `port` with number, name and protocol",
            ));
        }
        return None;
    };
    let broken = |field: &str| object.issues_under(&path.field(field)).next().is_some();
    let is_socket_file = server
        .bind
        .as_deref()
        .is_some_and(|bind| bind.starts_with("unix:"));
    let number = port.number.unwrap_or(0);
    let possible = (1..=65535).contains(&number) || (number == 0 && is_socket_file);
    if !possible && !broken("number") {
        let message = format!("the port number {number} is not between 1 and 65535");
        findings.push(fault(
            object,
            &path.field("number"),
            message,
            "write the port that the Gateway's Service declares",
        ));
    }
    if port.name.as_deref().unwrap_or_default().is_empty() && !broken("name") {
        findings.push(fault(
            object,
            &path.field("name"),
            "a port needs a name",
            "name it, for example `http`",
        ));
    }
    if port.target_port.is_some_and(|target| target > 0) {
        let message = "`targetPort` means nothing in a Gateway";
        findings.push(fault(
            object,
            &path.field("targetPort"),
            message,
            "remove it",
        ));
    }
    let text = port.protocol.as_deref().unwrap_or_default();
    let protocol = ServerProtocol::parse(text);
    if protocol.is_none() && !broken("protocol") {
        let message = format!("`{text}` is not a protocol");
        let hint = "write HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS or MYSQL";
        findings.push(fault(object, &path.field("protocol"), message, hint));
    }
    protocol
}

/// Istio's enum of protocol versions, in order; unset and `TLS_AUTO` are 1.2 to 1.3.
fn check_versions(object: &Object, path: &FieldPath, tls: &ServerTls, findings: &mut Findings) {
    const VERSIONS: [&str; 4] = ["TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];
    let bounds = [
        ("minProtocolVersion", &tls.min_protocol_version, "TLSV1_2"),
        ("maxProtocolVersion", &tls.max_protocol_version, "TLSV1_3"),
    ];
    let [min, max] = bounds.map(|(field, written, default)| {
        let name = match written.as_deref() {
            None | Some("" | "TLS_AUTO") => default,
            Some(name) => name,
        };
        let place = VERSIONS.iter().position(|version| *version == name);
        if place.is_none() {
            let message = format!("`{name}` is not a TLS version");
            let hint = "write TLS_AUTO, TLSV1_0, TLSV1_1, TLSV1_2 or TLSV1_3";
            findings.push(fault(object, &path.field(field), message, hint));
        }
        place
    });
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = "no TLS version lies between minProtocolVersion and maxProtocolVersion";
        findings.push(fault(
            object,
            path,
            message,
            "lower the one or raise the other",
        ));
    }
}

fn has_certificate(tls: &ServerTls) -> bool {
    is_set(&tls.server_certificate)
        || is_set(&tls.private_key)
        || is_set(&tls.credential_name)
        || !tls.credential_names.is_empty()
        || !tls.tls_certificates.is_empty()
}

fn is_set(field: &Option<String>) -> bool {
    field.as_deref().is_some_and(|text| !text.is_empty())
}

fn check_tls(object: &Object, path: &FieldPath, tls: &ServerTls, findings: &mut Findings) {
    let mode = tls.mode.as_deref().unwrap_or("PASSTHROUGH");
    let is_mutual = matches!(mode, "MUTUAL" | "OPTIONAL_MUTUAL");
    if !matches!(
        mode,
        "PASSTHROUGH" | "AUTO_PASSTHROUGH" | "SIMPLE" | "ISTIO_MUTUAL"
    ) && !is_mutual
    {
        let message = format!("`{mode}` is not a TLS mode");
        let hint =
            "write PASSTHROUGH, SIMPLE, MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL or AUTO_PASSTHROUGH";
        findings.push(fault(object, &path.field("mode"), message, hint));
        return;
    }
    if tls.mode.is_none() && has_certificate(tls) {
        let message = "without `mode`, TLS is passed through and this certificate is not used";
        findings
            .push(fault(object, path, message, "write `mode: SIMPLE`").severity(Severity::Warning));
    }
    if mode == "ISTIO_MUTUAL" {
        if has_certificate(tls) || is_set(&tls.ca_certificates) {
            let message = "ISTIO_MUTUAL brings its own certificates";
            findings.push(fault(
                object,
                path,
                message,
                "remove the certificates, or use MUTUAL",
            ));
        }
        return;
    }
    check_versions(object, path, tls, findings);
    let has_credential = is_set(&tls.credential_name) || !tls.credential_names.is_empty();
    let sources = [
        is_set(&tls.server_certificate) && is_set(&tls.private_key),
        is_set(&tls.credential_name),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if sources.iter().filter(|set| **set).count() > 1 {
        let message = "a server takes its certificate from one source only";
        let hint = "keep one of credentialName, credentialNames, serverCertificate with privateKey, tlsCertificates";
        findings.push(fault(object, path, message, hint));
    }
    if (mode != "SIMPLE" && !is_mutual) || has_credential {
        return;
    }
    let has_pair = is_set(&tls.server_certificate) && is_set(&tls.private_key);
    if !has_pair && tls.tls_certificates.is_empty() {
        let message = format!("{mode} needs a server certificate and its key");
        findings.push(fault(object, path, message, "add `credentialName`"));
    }
    if is_mutual && !is_set(&tls.ca_certificates) && !is_set(&tls.ca_cert_credential_name) {
        let message = format!("{mode} needs the CA that clients' certificates come from");
        findings.push(fault(
            object,
            path,
            message,
            "add `caCertificates`, or use `credentialName`",
        ));
    }
}
