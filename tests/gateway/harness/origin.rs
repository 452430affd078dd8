//! Origins that say who they are, echo what they got, count, and misbehave on demand.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::loopback;

/// What an origin does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// 200, or what [`Origin::answer`] says, with its name and the request's head as body.
    Echo,
    /// Reads the request and never answers.
    Stall,
    /// Reads the request and closes.
    Close,
    /// Waits for [`Origin::release`] before it answers.
    Hold,
    /// Answers something that is not HTTP.
    Garbage,
    /// Begins an answer with the content type of the request, and ends it at [`Origin::release`]:
    /// `first` and `last`, in chunks; of a known length, and too long to be gathered in the gateway,
    /// where the path is `/length`.
    Stream,
}

/// A listening origin; it ends with the test.
pub struct Origin {
    pub port: u16,
    pub requests: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    clients: Arc<Mutex<BTreeSet<IpAddr>>>,
    release: Sender<()>,
    status: Arc<AtomicU16>,
}

impl Origin {
    pub fn start(name: &str, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(loopback(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (release, held) = channel();
        let status = Arc::new(AtomicU16::new(200));
        let clients: Arc<Mutex<BTreeSet<IpAddr>>> = Arc::default();
        let known = clients.clone();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            behaviour,
            requests: requests.clone(),
            heads: heads.clone(),
            held: Mutex::new(held),
            status: status.clone(),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let client = stream.peer_addr().map(|client| client.ip());
                known.lock().unwrap().extend(client.ok());
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self {
            port,
            requests,
            heads,
            clients,
            release,
            status,
        }
    }

    /// Addresses that connections came from.
    pub fn clients(&self) -> Vec<IpAddr> {
        self.clients.lock().unwrap().iter().copied().collect()
    }

    pub fn echo(name: &str) -> Self {
        Self::start(name, Behaviour::Echo)
    }

    /// Answers with another status from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Requests received so far.
    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The head of the latest request, as received.
    pub fn last_head(&self) -> String {
        self.heads
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    /// Lets one held request be answered.
    pub fn release(&self) {
        self.release.send(()).unwrap();
    }
}

struct Shared {
    name: String,
    behaviour: Behaviour,
    requests: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    held: Mutex<Receiver<()>>,
    status: Arc<AtomicU16>,
}

impl Shared {
    fn stream(&self, to: &mut TcpStream, head: &str) -> Option<()> {
        let kind = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("content-type:"))
            .unwrap_or("content-type: text/event-stream");
        let (framing, first, last) = match head.contains(" /length ") {
            true => ("content-length: 200004", "first".repeat(40_000), "last"),
            false => (
                "transfer-encoding: chunked",
                "5\r\nfirst\r\n".to_owned(),
                "4\r\nlast\r\n0\r\n\r\n",
            ),
        };
        let begin = format!("HTTP/1.1 200 OK\r\n{kind}\r\n{framing}\r\n\r\n{first}");
        to.write_all(begin.as_bytes()).ok()?;
        self.held.lock().unwrap().recv().ok()?;
        to.write_all(last.as_bytes()).ok()
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            let mut length = 0;
            let mut websocket = false;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if line == "\r\n" {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                websocket |= lower.starts_with("upgrade:") && lower.contains("websocket");
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).ok()?;
            self.heads.lock().unwrap().push(head.clone());
            self.requests.fetch_add(1, Ordering::SeqCst);
            match self.behaviour {
                Behaviour::Stall => {
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                    return None;
                }
                Behaviour::Close => return None,
                Behaviour::Garbage => {
                    stream.get_mut().write_all(b"\0\0 not http \r\n\r\n").ok()?;
                    return None;
                }
                Behaviour::Hold => self.held.lock().unwrap().recv().ok()?,
                Behaviour::Stream => {
                    self.stream(stream.get_mut(), &head)?;
                    continue;
                }
                Behaviour::Echo => {}
            }
            if websocket {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
                stream.get_mut().write_all(answer.as_bytes()).ok()?;
                loop {
                    let mut byte = [0; 1024];
                    let got = stream.read(&mut byte).ok().filter(|got| *got > 0)?;
                    stream.get_mut().write_all(&byte[..got]).ok()?;
                }
            }
            let text = format!("{}\n{head}{}", self.name, String::from_utf8_lossy(&body));
            let answer = format!(
                "HTTP/1.1 {} OK\r\nserver: origin\r\nx-origin: {}\r\ncontent-length: {}\r\n\r\n{text}",
                self.status.load(Ordering::SeqCst),
                self.name,
                text.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).ok()?;
        }
    }
}
