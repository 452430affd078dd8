//! Origins and clients that speak in bytes, in TLS or not.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use boring::pkey::PKey;
use boring::ssl::{SslAcceptor, SslMethod};
use boring::x509::X509;

use super::{PATIENCE, loopback};

/// What an origin does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Says its name and a line end, then gives back what it gets.
    Echo,
    /// Reads to the client's end, then says its name and how much that was.
    Collect,
    /// Says its name and ends its side, then reads to the client's end.
    SpeakFirst,
    /// Says its name and a line end, and breaks the connection off once it gets something.
    Break,
}

/// A listening origin; it ends with the test.
pub struct ByteOrigin {
    pub port: u16,
    connections: Arc<AtomicUsize>,
    /// What was read to the end, a text for each connection.
    pub heard: Arc<Mutex<Vec<String>>>,
}

impl ByteOrigin {
    pub fn start(name: &str, manner: Manner) -> Self {
        Self::listen(name, move |stream, name, heard| {
            serve(stream, manner, name, heard)
        })
    }

    pub fn echo(name: &str) -> Self {
        Self::start(name, Manner::Echo)
    }

    /// Speaks TLS, and answers each request with its name.
    pub fn tls(name: &str, certificate: &str, key: &str) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        let certificate = X509::from_pem(certificate.as_bytes()).unwrap();
        let key = PKey::private_key_from_pem(key.as_bytes()).unwrap();
        acceptor.set_certificate(&certificate).unwrap();
        acceptor.set_private_key(&key).unwrap();
        let acceptor = acceptor.build();
        Self::listen(name, move |stream, name, _| {
            let mut stream = acceptor.accept(stream).ok()?;
            let mut received = Vec::new();
            let mut buffer = [0; 4096];
            while !received.ends_with(b"\r\n\r\n") {
                let got = stream.read(&mut buffer).ok().filter(|got| *got > 0)?;
                received.extend_from_slice(&buffer[..got]);
            }
            let length = name.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
            stream.write_all(answer.as_bytes()).ok()?;
            // Until the client is done.
            let _ = stream.read(&mut buffer);
            Some(())
        })
    }

    fn listen(
        name: &str,
        serve: impl Fn(TcpStream, &str, &Mutex<Vec<String>>) -> Option<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(loopback(0)).unwrap();
        let origin = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            heard: Arc::default(),
        };
        let (connections, heard) = (origin.connections.clone(), origin.heard.clone());
        let (serve, name) = (Arc::new(serve), name.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (serve, name, heard) = (serve.clone(), name.clone(), heard.clone());
                std::thread::spawn(move || serve(stream, &name, &heard));
            }
        });
        origin
    }

    /// Connections so far.
    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(
    mut stream: TcpStream,
    manner: Manner,
    name: &str,
    heard: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut all = Vec::new();
    match manner {
        Manner::Echo => {
            stream.write_all(format!("{name}\n").as_bytes()).ok()?;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let got = stream.read(&mut buffer).ok().filter(|got| *got > 0)?;
                stream.write_all(&buffer[..got]).ok()?;
            }
        }
        Manner::Collect => {
            stream.read_to_end(&mut all).ok()?;
            let said = format!("{name} got {}", all.len());
            stream.write_all(said.as_bytes()).ok()?;
        }
        Manner::SpeakFirst => {
            stream.write_all(name.as_bytes()).ok()?;
            stream.shutdown(Shutdown::Write).ok()?;
            stream.read_to_end(&mut all).ok()?;
        }
        Manner::Break => {
            // Closing with bytes unread sends a reset.
            stream.write_all(format!("{name}\n").as_bytes()).ok()?;
            let mut first = [0; 1];
            stream.peek(&mut first).ok()?;
        }
    }
    let text = String::from_utf8_lossy(&all).into_owned();
    heard.lock().unwrap().push(text);
    Some(())
}

/// A client's connection.
pub struct Wire(pub TcpStream);

impl Wire {
    pub fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the gateway accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("the gateway reads");
    }

    /// Ends this side.
    pub fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// The next bytes up to a line end, without it; what there was if the connection ended first.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).is_ok_and(|got| got > 0) && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Exactly so many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("the gateway answers");
        bytes
    }

    /// Everything to the connection's end, however it ends.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the connection is still open")
            }
            _ => String::from_utf8_lossy(&rest).into_owned(),
        }
    }
}

impl Wire {
    /// Looks at the next line and leaves it unread, so that closing this connection resets it.
    pub fn peek_line(&mut self) -> String {
        let mut bytes = [0; 256];
        super::await_until("a line comes", || {
            let got = self.0.peek(&mut bytes).unwrap_or(0);
            let text = String::from_utf8_lossy(&bytes[..got]).into_owned();
            let line = text.split_once('\n').map(|(line, _)| line.to_owned());
            line.or_else(|| (got == 0).then_some(text))
        })
    }
}
