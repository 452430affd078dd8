//! Origins behind TLS that tell what they saw of each handshake and request.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use boring::pkey::PKey;
use boring::ssl::{
    AlpnError, NameType, Ssl, SslContext, SslMethod, SslVerifyMode, SslVersion, select_next_proto,
};
use boring::x509::X509;
use boring::x509::store::X509StoreBuilder;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::protocols::tls::SslStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::Issued;

/// What an origin shows and demands.
#[derive(Clone)]
pub struct Shows {
    pub certificate: Issued,
    /// Sent behind the certificate.
    pub issuers: Vec<String>,
    /// Whom clients' certificates must come from; without it none is asked for.
    pub clients: Option<String>,
    /// In ALPN's wire format.
    pub protocols: &'static [u8],
    pub newest: Option<SslVersion>,
    /// A PROXY header comes before the handshake.
    pub proxied: bool,
    /// Where what comes goes on to, in plain text, instead of an answer.
    pub relay: Option<u16>,
}

impl Shows {
    pub fn of(certificate: &Issued) -> Self {
        Self {
            certificate: certificate.clone(),
            issuers: Vec::new(),
            clients: None,
            protocols: b"\x02h2\x08http/1.1",
            newest: None,
            proxied: false,
            relay: None,
        }
    }
}

/// A completed handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub server_name: Option<String>,
    /// First name of the client's certificate.
    pub client: Option<String>,
    pub protocol: Option<String>,
    /// The PROXY header.
    pub header: String,
}

/// A listening origin; it ends with the test.
pub struct TlsOrigin {
    pub port: u16,
    state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
}

struct State {
    shows: Mutex<Shows>,
    seen: Mutex<Vec<Seen>>,
    requests: AtomicUsize,
}

impl TlsOrigin {
    pub fn start(shows: Shows) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State {
            shows: Mutex::new(shows),
            seen: Mutex::default(),
            requests: AtomicUsize::new(0),
        });
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = state.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(stream));
            }
        });
        Self {
            port,
            state,
            _runtime: runtime,
        }
    }

    /// Shows this from the next handshake on.
    pub fn show(&self, shows: Shows) {
        *self.state.shows.lock().unwrap() = shows;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Requests that arrived.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl State {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> Option<()> {
        let shows = self.shows.lock().unwrap().clone();
        let header = match shows.proxied {
            true => header(&mut stream).await?,
            false => String::new(),
        };
        let mut tls = SslStream::new(Ssl::new(&context(&shows)).unwrap(), stream).unwrap();
        tls.accept().await.ok()?;
        let ssl = tls.ssl();
        let client = ssl.peer_certificate().and_then(|certificate| {
            let names = certificate.subject_alt_names()?;
            Some(names.iter().next()?.dnsname()?.to_owned())
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seen = Seen {
            server_name: ssl.servername(NameType::HOST_NAME).map(str::to_owned),
            client,
            protocol: ssl.selected_alpn_protocol().map(text),
            header,
        };
        let number = {
            let mut all = self.seen.lock().unwrap();
            all.push(seen.clone());
            all.len()
        };
        if let Some(port) = shows.relay {
            let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
            copy_bidirectional(&mut tls, &mut plain).await.ok()?;
            return Some(());
        }
        let service = service_fn(|request| {
            self.requests.fetch_add(1, Ordering::SeqCst);
            async move {
                if request.uri().path().starts_with("/echo.Echo/") {
                    return Ok(grpc_echo(request));
                }
                Ok::<_, Infallible>(answer(request, number).map(BodyExt::boxed))
            }
        });
        let io = TokioIo::new(tls);
        if seen.protocol.as_deref() == Some("h2") {
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            return http2.serve_connection(io, service).await.ok();
        }
        let http1 = hyper::server::conn::http1::Builder::new();
        http1
            .serve_connection(io, service)
            .with_upgrades()
            .await
            .ok()
    }
}

/// A gRPC service that sends every message back as it comes, and trailers at the end.
fn grpc_echo(request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let te = request.headers().get("te").cloned();
    let trailers = async move {
        let names = [("grpc-status", "0".parse().unwrap())];
        let te = te.map(|te| ("x-te", te));
        let all = names.into_iter().chain(te);
        let all = all.map(|(name, value)| (name.parse().unwrap(), value));
        Some(Ok(all.collect()))
    };
    let body = request.into_body().map_err(|error| panic!("{error}"));
    let mut response = Response::new(body.with_trailers(trailers).boxed());
    let kind = "application/grpc".parse().unwrap();
    response.headers_mut().insert("content-type", kind);
    response
}

/// The number of its connection and the host it was asked for.
fn answer(mut request: Request<Incoming>, connection: usize) -> Response<Full<Bytes>> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.ok()?);
            let mut buffer = [0; 1024];
            loop {
                let count = stream.read(&mut buffer).await.ok().filter(|it| *it > 0)?;
                stream.write_all(&buffer[..count]).await.ok()?;
            }
            #[allow(unreachable_code)]
            Some(())
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade")] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    if request.uri().path() == "/grpc.health.v1.Health/Check" {
        // SERVING.
        let mut response = Response::new(Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])));
        for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "0")] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.to_string())
        .or_else(|| Some(request.headers().get("host")?.to_str().ok()?.to_owned()));
    let text = format!("connection {connection} {}", host.unwrap_or_default());
    Response::new(Full::new(text.into()))
}

/// Reads a PROXY header of either version; of the binary one, in hex.
async fn header(stream: &mut TcpStream) -> Option<String> {
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.ok()?;
    if first == *b"\r\n\r\n\0\r\nQUIT\n" {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await.ok()?;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[2], fixed[3]]))];
        stream.read_exact(&mut rest).await.ok()?;
        let bytes = fixed.iter().chain(&rest);
        return Some(bytes.map(|byte| format!("{byte:02x}")).collect());
    }
    let mut line = first.to_vec();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn context(shows: &Shows) -> SslContext {
    let x509 = |pem: &String| X509::from_pem(pem.as_bytes()).unwrap();
    let mut context = SslContext::builder(SslMethod::tls()).unwrap();
    context
        .set_certificate(&x509(&shows.certificate.certificate))
        .unwrap();
    for issuer in &shows.issuers {
        context.add_extra_chain_cert(x509(issuer)).unwrap();
    }
    let key = PKey::private_key_from_pem(shows.certificate.key.as_bytes()).unwrap();
    context.set_private_key(&key).unwrap();
    context.set_max_proto_version(shows.newest).unwrap();
    context
        .set_min_proto_version(Some(SslVersion::TLS1))
        .unwrap();
    let protocols = shows.protocols;
    context.set_alpn_select_callback(move |_, offered| {
        select_next_proto(protocols, offered).ok_or(AlpnError::NOACK)
    });
    if let Some(clients) = &shows.clients {
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(x509(clients)).unwrap();
        context.set_cert_store_builder(store);
        context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    context.build()
}
