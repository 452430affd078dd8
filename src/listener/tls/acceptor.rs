//! BoringSSL contexts made from a server's terms.

use std::sync::Arc;

use boring::error::ErrorStack;
use boring::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslVerifyMode,
    SslVersion, select_next_proto,
};
use boring::x509::store::X509StoreBuilder;
use thiserror::Error;

use crate::base::tls_material::{KeyKind, KeyPair};
use crate::plan::{ClientCertificates, ClientRules, TlsTerms, TlsVersion};

use super::client::is_accepted;

/// Always offered, as by Istio.
const PROTOCOLS: &[u8] = b"\x02h2\x08http/1.1";

/// Envoy's default for servers, up to TLS 1.2.
const CIPHERS: &str = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:\
     [ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:\
     ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

/// Sessions are resumed inside one context only; its keys are its own, made and rotated by
/// BoringSSL every two days, so that no session crosses from one server's terms to another's.
const SESSIONS: &[u8] = b"pingress";

/// The contexts of one server: one for each kind of key.
pub(super) struct Acceptors {
    pub terms: Arc<TlsTerms>,
    contexts: Vec<(KeyKind, SslContext)>,
}

/// Why terms cannot be made into a context.
#[derive(Debug, Error)]
pub(super) enum AcceptorError {
    #[error("BoringSSL refuses it: {0}")]
    Library(#[from] ErrorStack),
}

impl Acceptors {
    pub fn new(terms: &Arc<TlsTerms>) -> Result<Self, AcceptorError> {
        let contexts = terms
            .pairs
            .iter()
            .map(|pair| Ok((pair.kind(), context(terms, pair)?)));
        Ok(Self {
            terms: terms.clone(),
            contexts: contexts.collect::<Result<_, AcceptorError>>()?,
        })
    }

    /// A new connection's side, with the certificate the client can use; `None` without any.
    pub fn ssl(&self, takes_ecdsa: bool) -> Option<Result<Ssl, ErrorStack>> {
        let wanted = match takes_ecdsa {
            true => KeyKind::Ecdsa,
            false => KeyKind::Rsa,
        };
        let fitting = self.contexts.iter().find(|(kind, _)| *kind == wanted);
        let (_, context) = fitting.or(self.contexts.first())?;
        Some(Ssl::new(context))
    }
}

fn context(terms: &TlsTerms, pair: &KeyPair) -> Result<SslContext, AcceptorError> {
    let mut context = SslContext::builder(SslMethod::tls())?;
    context.set_options(SslOptions::NO_COMPRESSION | SslOptions::CIPHER_SERVER_PREFERENCE);
    context.set_min_proto_version(Some(version(terms.min)))?;
    context.set_max_proto_version(Some(version(terms.max)))?;
    match &terms.ciphers {
        Some(ciphers) => context.set_strict_cipher_list(ciphers)?,
        None => context.set_strict_cipher_list(CIPHERS)?,
    }
    let mut chain = pair.chain().iter();
    if let Some(leaf) = chain.next() {
        context.set_certificate(leaf)?;
    }
    for issuer in chain {
        context.add_extra_chain_cert(issuer.clone())?;
    }
    context.set_private_key(pair.key())?;
    context.set_session_id_context(SESSIONS)?;
    context.set_alpn_select_callback(|_, offered| {
        select_next_proto(PROTOCOLS, offered).ok_or(AlpnError::NOACK)
    });
    if let Some(staple) = pair.staple() {
        staple_with(&mut context, staple)?;
    }
    match &terms.client {
        ClientCertificates::Ignored => {}
        ClientCertificates::Optional(rules) => verify(&mut context, rules, SslVerifyMode::PEER)?,
        ClientCertificates::Required(rules) => {
            let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
            verify(&mut context, rules, mode)?;
        }
    }
    Ok(context.build())
}

fn staple_with(context: &mut SslContextBuilder, staple: &[u8]) -> Result<(), ErrorStack> {
    let staple = staple.to_vec();
    context.set_status_callback(move |ssl| ssl.set_ocsp_status(&staple).map(|()| true))
}

/// Asks clients for certificates; without authorities none is accepted.
fn verify(
    context: &mut SslContextBuilder,
    rules: &Arc<ClientRules>,
    mode: SslVerifyMode,
) -> Result<(), AcceptorError> {
    let mut store = X509StoreBuilder::new()?;
    let authorities = rules.authorities.iter();
    for authority in authorities.flat_map(|authorities| authorities.certificates()) {
        store.add_cert(authority)?;
        context.add_client_ca(authority)?;
    }
    context.set_cert_store_builder(store);
    let rules = rules.clone();
    let lists = rules.revocations.as_ref();
    let signers = lists.map(|lists| lists.signers());
    context.set_verify_callback(mode, move |is_valid, verifying| {
        let is_accepted = || is_accepted(&rules, signers.as_ref(), verifying);
        rules.skip_verification || (is_valid && is_accepted())
    });
    Ok(())
}

fn version(version: TlsVersion) -> SslVersion {
    match version {
        TlsVersion::V1_0 => SslVersion::TLS1,
        TlsVersion::V1_1 => SslVersion::TLS1_1,
        TlsVersion::V1_2 => SslVersion::TLS1_2,
        TlsVersion::V1_3 => SslVersion::TLS1_3,
    }
}
