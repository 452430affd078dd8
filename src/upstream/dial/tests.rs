//! Streams to real endpoints, with and without TLS.

use boring::pkey::PKey;
use boring::ssl::{NameType, Ssl as Session, SslContext, SslMethod};
use boring::x509::X509;
use pingora_core::protocols::tls::SslStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::base::tls_material::Authorities;
use crate::plan::endpoints::{Endpoint, Place};
use crate::plan::{Cluster, OriginRules, OriginTls, ProxyVersion, Resolution, ServerName};
use crate::upstream::fixture::{cluster, first, plan, table};
use crate::upstream::{Ask, ClusterState, DnsOptions, NotDialled, Upstreams};

use super::*;

/// A certificate that vouches for itself, and its key.
fn made(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Listens for one connection, says which name it asked for, and echoes.
async fn echo(
    own: Option<(String, String)>,
) -> (std::net::SocketAddr, UnboundedReceiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (say, said) = unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Some((certificate, key)) = own else {
            say.send(None).unwrap();
            return repeat(stream).await;
        };
        let mut context = SslContext::builder(SslMethod::tls()).unwrap();
        let certificate = X509::from_pem(certificate.as_bytes()).unwrap();
        let key = PKey::private_key_from_pem(key.as_bytes()).unwrap();
        context.set_certificate(&certificate).unwrap();
        context.set_private_key(&key).unwrap();
        let session = Session::new(&context.build()).unwrap();
        let mut tls = SslStream::new(session, stream).unwrap();
        if tls.accept().await.is_ok() {
            let name = tls.ssl().servername(NameType::HOST_NAME);
            say.send(name.map(str::to_owned)).unwrap();
            repeat(tls).await;
        }
    });
    (addr, said)
}

async fn repeat(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut buffer = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..count]).await.unwrap();
    }
}

fn state(addr: std::net::SocketAddr, definition: Cluster) -> Arc<ClusterState> {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    let endpoint = Endpoint {
        addr,
        weight: 1,
        place: Place::default(),
        origin: None,
    };
    let only = Resolution::Static([endpoint].into_iter().collect());
    upstreams.publish(&table(&[(&*definition.name.clone(), only)]));
    first(&upstreams.serve(plan([definition])))
}

/// The stream, or in which words it failed.
async fn dialled(state: &ClusterState) -> Result<Stream, String> {
    let ends = (
        "192.0.2.1:9".parse().unwrap(),
        "192.0.2.2:10".parse().unwrap(),
    );
    match state.dial(&Ask::default(), Some(ends)).await {
        Ok(dialled) => Ok(dialled.stream),
        Err(NotDialled::Failed { message, .. }) => Err(message),
        Err(refused) => panic!("{refused:?}"),
    }
}

async fn says(stream: &mut Stream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    String::from_utf8(back).unwrap()
}

fn secured(authority: &str, sni: Option<&str>, names: &[&str]) -> Cluster {
    let authorities = Authorities::from_pem(authority.as_bytes(), "ca").unwrap();
    Cluster {
        tls: Some(Arc::new(OriginTls {
            certificate: None,
            server_name: sni.map_or(ServerName::OfRequest, |name| ServerName::Fixed(name.into())),
            verify: Some(OriginRules {
                authorities: Some(Arc::new(authorities)),
                revocations: None,
                names: names.iter().map(|name| (*name).into()).collect(),
                request_host: names.is_empty() && sni.is_none(),
            }),
        })),
        ..cluster("one")
    }
}

#[tokio::test]
async fn a_stream_carries_bytes_with_and_without_tls() {
    let own = made("a.example");
    for (definition, tls, name) in [
        (cluster("one"), None, None),
        // Without a request there is no host to ask for, nor to demand.
        (secured(&own.0, None, &[]), Some(own.clone()), None),
        (
            secured(&own.0, Some("sni.example"), &["a.example"]),
            Some(own.clone()),
            Some("sni.example".to_owned()),
        ),
    ] {
        let (addr, mut said) = echo(tls).await;
        let mut stream = dialled(&state(addr, definition)).await.unwrap();
        assert_eq!(says(&mut stream, "hello").await, "hello");
        assert_eq!(said.recv().await.unwrap(), name);
    }
}

#[tokio::test]
async fn a_stream_goes_to_no_endpoint_whose_certificate_is_not_accepted() {
    let (own, other) = (made("a.example"), made("a.example"));
    for (definition, said) in [
        (secured(&other.0, None, &[]), "CERTIFICATE_VERIFY_FAILED"),
        (secured(&own.0, Some("a"), &["b.example"]), "SAN matcher"),
    ] {
        let (addr, _seen) = echo(Some(own.clone())).await;
        let words = dialled(&state(addr, definition)).await.unwrap_err();
        assert!(words.contains(said), "{words}");
    }
}

#[tokio::test]
async fn a_proxy_header_comes_before_everything_else() {
    let (addr, _said) = echo(None).await;
    let definition = Cluster {
        proxy_protocol: Some(ProxyVersion::V1),
        ..cluster("one")
    };
    let mut stream = dialled(&state(addr, definition)).await.unwrap();
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 9 10\r\n";
    let mut back = vec![0; header.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(String::from_utf8(back).unwrap(), header);
    assert_eq!(says(&mut stream, "hello").await, "hello");
}
