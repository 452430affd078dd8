//! An HTTP/1 origin that does with each request what a script says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::origins::{raw, read_head};

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// These bytes; the connection stays open.
    Say(&'static str),
    /// These bytes, and the end of the connection.
    SayAndClose(&'static str),
    /// No byte, and the end of the connection.
    Close,
    /// No byte, and a reset of the connection.
    Reset,
    /// Nothing at all.
    Stall,
}

pub const OK: Act = Act::Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

/// A running origin.
pub struct Script {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// The first request meets the first act and so on; the last act goes on for ever.
    pub async fn of(acts: &[Act]) -> Self {
        let acts = acts.to_vec();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let addr = raw(move |stream| play(stream, acts.clone(), log.clone())).await;
        Self { addr, seen }
    }

    /// Heads and bodies of the requests that came completely.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn play(mut stream: TcpStream, acts: Vec<Act>, seen: Arc<Mutex<Vec<String>>>) {
    loop {
        let head = read_head(&mut stream).await;
        if head.is_empty() {
            return;
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(head + &String::from_utf8_lossy(&body));
            seen.len() - 1
        };
        match acts[number.min(acts.len() - 1)] {
            Act::Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Act::SayAndClose(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::Close => return,
            Act::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Act::Stall => {
                let _ = stream.read_u8().await;
                return;
            }
        }
    }
}
