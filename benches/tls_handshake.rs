//! TLS handshakes per second of CPU time of the whole gateway process, in interleaved rounds: full
//! and resumed ones, with an ECDSA and an RSA key, and full ones among 1,000 server names. Prints
//! medians and spread; asserts nothing about time.
//!
//! `cargo bench --bench tls_handshake [-- NAMES]`. A handshake is a whole connection, from `accept`
//! to its end, on which nothing is asked. Resumed ones bring the ticket of an earlier connection.

mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boring::pkey::PKey;
use boring::rsa::Rsa;
use boring::ssl::{
    SslConnector, SslMethod, SslSession, SslSessionCacheMode, SslStream, SslVerifyMode,
};
use process::{Process, spread};
use rcgen::{CertificateParams, KeyPair};

const ROUNDS: usize = 9;
const HANDSHAKES: usize = 2_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Ecdsa,
    Rsa,
}

struct Gateway {
    process: Process,
    names: usize,
    connector: SslConnector,
    /// The last ticket that came.
    session: Arc<Mutex<Option<SslSession>>>,
}

fn name(number: usize) -> String {
    format!("host-{number}.example.com")
}

fn secret(number: usize, key: Key) -> String {
    let key = match key {
        Key::Ecdsa => KeyPair::generate().unwrap(),
        Key::Rsa => {
            let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
            let pem = key.private_key_to_pem_pkcs8().unwrap();
            KeyPair::from_pem(&String::from_utf8(pem).unwrap()).unwrap()
        }
    };
    let certificate = CertificateParams::new(vec![name(number)])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: secret-{number}, namespace: istio-system}}\ndata:\n  tls.crt: {}\n  tls.key: {}\n---\n",
        STANDARD.encode(certificate.pem()),
        STANDARD.encode(key.serialize_pem())
    )
}

/// A gateway with so many HTTPS servers, each with a name and a certificate of its own.
fn start(names: usize, key: Key) -> Gateway {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n",
    );
    for number in 0..names {
        text += &format!(
            "    - port: {{number: 443, name: https-{number}, protocol: HTTPS}}\n      hosts: [{}]\n      tls: {{mode: SIMPLE, credentialName: secret-{number}}}\n",
            name(number)
        );
    }
    text += "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: all}\nspec:\n  hosts: [\"*\"]\n  gateways: [gw]\n  http: [{directResponse: {status: 200}}]\n";
    let secrets = (0..names).map(|number| secret(number, key)).collect();
    let files = [
        ("all.yaml".to_owned(), text),
        ("secrets.yaml".to_owned(), secrets),
    ];
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_session_cache_mode(SslSessionCacheMode::CLIENT);
    let session: Arc<Mutex<Option<SslSession>>> = Arc::default();
    let last = session.clone();
    connector.set_new_session_callback(move |_, session| {
        *last.lock().unwrap() = Some(session);
    });
    Gateway {
        process: Process::gateway(&files, 443),
        names,
        connector: connector.build(),
        session,
    }
}

impl Gateway {
    fn connect(&self, number: usize, session: Option<&SslSession>) -> SslStream<TcpStream> {
        let stream = TcpStream::connect(self.process.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut ssl = self.connector.configure().unwrap().verify_hostname(false);
        if let Some(session) = session {
            // SAFETY: the session comes from this context.
            unsafe { ssl.set_session(session).unwrap() };
        }
        ssl.connect(&name(number), stream).unwrap()
    }

    /// A ticket, which comes with the first answer at the latest.
    fn ticket(&self) -> SslSession {
        let mut stream = self.connect(0, None);
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", name(0));
        stream.write_all(request.as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        self.session.lock().unwrap().take().expect("a ticket")
    }

    /// Handshakes per second of CPU over one round.
    fn round(&self, resumed: bool) -> f64 {
        let ticket = resumed.then(|| self.ticket());
        let before = self.process.ticks();
        for number in 0..HANDSHAKES {
            // Scattered over all names.
            let stream = self.connect(number * 7_919 % self.names, ticket.as_ref());
            assert_eq!(stream.ssl().session_reused(), resumed);
        }
        // A tick is 10 ms on Linux; a round is tens of them at the least.
        HANDSHAKES as f64 * 100.0 / (self.process.ticks() - before) as f64
    }
}

fn main() {
    let names = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(1_000);
    let gateways = [
        start(1, Key::Ecdsa),
        start(1, Key::Rsa),
        start(names, Key::Ecdsa),
    ];
    let rounds = [
        ("ECDSA P-256, full", 0, false),
        ("ECDSA P-256, full, many names", 2, false),
        ("ECDSA P-256, resumed", 0, true),
        ("RSA 2048, full", 1, false),
        ("RSA 2048, resumed", 1, true),
    ];
    let mut rates = [const { Vec::new() }; 5];
    for turn in 0..=ROUNDS {
        for ((_, gateway, resumed), rates) in rounds.iter().zip(&mut rates) {
            let rate = gateways[*gateway].round(*resumed);
            if turn > 0 {
                rates.push(rate);
            }
        }
    }
    let mut base = None;
    for ((what, ..), rates) in rounds.iter().zip(&mut rates) {
        let (median, least, most) = spread(rates);
        let base = *base.get_or_insert(median);
        println!(
            "{what} ({names} names where many): {median:.0} handshakes per CPU second (min {least:.0}, max {most:.0}), {:.2} x the first",
            median / base
        );
    }
}
