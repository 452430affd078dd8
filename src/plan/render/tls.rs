//! TLS sockets as text: which names, on which terms. Nothing of a key is printed.

use std::fmt::{self, Write};

use crate::plan::{ClientCertificates, ClientRules, Plan, TlsService, TlsSocket, TlsTerms};

use super::stream::route_text;

pub(super) fn text(out: &mut String, plan: &Plan, socket: &TlsSocket) -> fmt::Result {
    writeln!(out, "tls {}", socket.addr)?;
    for (number, server) in (0..).zip(&socket.servers) {
        writeln!(out, "  server {}", server.origin)?;
        match &server.service {
            TlsService::Http { terms, .. } => terms_text(out, terms)?,
            TlsService::Tcp { route, terms } => {
                terms_text(out, terms)?;
                route_text(out, plan, route)?;
            }
            TlsService::Passthrough { route, mesh_only } => {
                let names = socket.names_of(number);
                let whose = if *mesh_only { " of the mesh" } else { "" };
                writeln!(out, "    passed through{whose}: {}", names.join(" "))?;
                route_text(out, plan, route)?;
            }
            TlsService::Unsupported => writeln!(out, "    closed: not supported yet")?,
        }
    }
    Ok(())
}

fn terms_text(out: &mut String, terms: &TlsTerms) -> fmt::Result {
    let TlsTerms {
        pairs,
        client,
        min,
        max,
        ciphers,
    } = terms;
    let kinds: Vec<String> = pairs
        .iter()
        .map(|pair| format!("{:?}", pair.kind()))
        .collect();
    let certificates = match kinds.is_empty() {
        true => "no certificate: handshakes fail".to_owned(),
        false => kinds.join(" and "),
    };
    write!(out, "    {certificates}, {min:?} to {max:?}")?;
    if let Some(ciphers) = ciphers {
        write!(out, ", {ciphers}")?;
    }
    writeln!(out)?;
    match client {
        ClientCertificates::Ignored => Ok(()),
        ClientCertificates::Optional(rules) => rules_text(out, "optional", rules),
        ClientCertificates::Required(rules) => rules_text(out, "required", rules),
    }
}

fn rules_text(out: &mut String, word: &str, rules: &ClientRules) -> fmt::Result {
    let ClientRules {
        authorities,
        revocations,
        names,
        keys,
        certificates,
        skip_verification,
    } = rules;
    write!(out, "    client certificates {word}")?;
    match authorities {
        Some(authorities) => write!(out, ", {} authorities", authorities.certificates().len())?,
        None => write!(out, ", no authority: none is accepted")?,
    }
    if revocations.is_some() {
        write!(out, ", revocation lists")?;
    }
    if !names.is_empty() {
        write!(out, ", names {}", names.join(" "))?;
    }
    if !(keys.is_empty() && certificates.is_empty()) {
        write!(out, ", {} hashes", keys.len() + certificates.len())?;
    }
    if *skip_verification {
        write!(out, ", not verified")?;
    }
    writeln!(out)
}
