//! A TLS client that says everything the tests want to vary, and HTTP/1.1 inside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use boring::pkey::PKey;
use boring::ssl::{
    SslConnector, SslMethod, SslSession, SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use boring::x509::X509;

use super::Issued;
use crate::harness::PATIENCE;

/// How to connect.
#[derive(Clone)]
pub struct Asking<'a> {
    addr: SocketAddr,
    name: Option<&'a str>,
    certificate: Option<&'a Issued>,
    chain: Vec<&'a str>,
    versions: Option<(SslVersion, SslVersion)>,
    pub session: Arc<Mutex<Option<SslSession>>>,
}

/// An open connection.
pub struct Open {
    pub stream: SslStream<TcpStream>,
    _keep: Arc<Mutex<Option<SslSession>>>,
}

/// What became of a request on a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(u16, String),
    /// The handshake failed, or the connection ended before an answer.
    Refused,
}

impl<'a> Asking<'a> {
    pub fn of(addr: SocketAddr, name: &'a str) -> Self {
        Self {
            addr,
            name: Some(name),
            certificate: None,
            chain: Vec::new(),
            versions: None,
            session: Arc::default(),
        }
    }

    pub fn nameless(mut self) -> Self {
        self.name = None;
        self
    }

    pub fn with(mut self, certificate: &'a Issued) -> Self {
        self.certificate = Some(certificate);
        self
    }

    pub fn through(mut self, intermediate: &'a str) -> Self {
        self.chain.push(intermediate);
        self
    }

    pub fn speaking(mut self, min: SslVersion, max: SslVersion) -> Self {
        self.versions = Some((min, max));
        self
    }

    /// Shakes hands; `None` if that fails. The server's certificate is not verified, but seen.
    pub fn connect(&self) -> Option<Open> {
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_session_cache_mode(SslSessionCacheMode::CLIENT);
        let sessions = self.session.clone();
        builder.set_new_session_callback(move |_, session| {
            *sessions.lock().unwrap() = Some(session);
        });
        if let Some(issued) = self.certificate {
            let leaf = X509::from_pem(issued.certificate.as_bytes()).unwrap();
            let key = PKey::private_key_from_pem(issued.key.as_bytes()).unwrap();
            builder.set_certificate(&leaf).unwrap();
            builder.set_private_key(&key).unwrap();
            for pem in &self.chain {
                let issuer = X509::from_pem(pem.as_bytes()).unwrap();
                builder.add_extra_chain_cert(issuer).unwrap();
            }
        }
        if let Some((min, max)) = self.versions {
            builder.set_min_proto_version(Some(min)).unwrap();
            builder.set_max_proto_version(Some(max)).unwrap();
        }
        let mut ssl = builder
            .build()
            .configure()
            .unwrap()
            .verify_hostname(false)
            .use_server_name_indication(self.name.is_some());
        if let Some(session) = &*self.session.lock().unwrap() {
            // SAFETY: the session comes from a context with the same settings, as documented.
            unsafe { ssl.set_session(session).unwrap() };
        }
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let stream = ssl.connect(self.name.unwrap_or("none"), stream).ok()?;
        Some(Open {
            stream,
            _keep: self.session.clone(),
        })
    }

    /// Connects and asks for `/` of the name (or of `none`).
    pub fn get(&self) -> Outcome {
        self.get_host(self.name.unwrap_or("none"))
    }

    pub fn get_host(&self, host: &str) -> Outcome {
        match self.connect() {
            Some(mut open) => open.get(host),
            None => Outcome::Refused,
        }
    }
}

impl Open {
    /// The first certificate name of the server.
    pub fn server_name(&self) -> String {
        let certificate = self.stream.ssl().peer_certificate().unwrap();
        let names = certificate.subject_alt_names().unwrap();
        names.iter().next().unwrap().dnsname().unwrap().to_owned()
    }

    pub fn get(&mut self, host: &str) -> Outcome {
        self.get_with(host, "")
    }

    /// With further header lines, each with its end.
    pub fn get_with(&mut self, host: &str, headers: &str) -> Outcome {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        self.ask(&head).unwrap_or(Outcome::Refused)
    }

    fn ask(&mut self, head: &str) -> Option<Outcome> {
        self.stream.write_all(head.as_bytes()).ok()?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let status = head.split(' ').nth(1)?.parse().ok()?;
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                });
                if body.len() >= length.unwrap_or(0) {
                    return Some(Outcome::Answered(status, body.to_owned()));
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
    }
}
