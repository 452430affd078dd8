//! A real Redis that can be killed and comes back with nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::{PATIENCE, await_until, free_port, loopback};

/// A running server; killed when dropped.
pub struct RedisServer {
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl RedisServer {
    pub fn start() -> Self {
        let mut server = Self {
            port: free_port(),
            folder: tempfile::tempdir().unwrap(),
            child: None,
        };
        server.start_again();
        server
    }

    /// Starts the server on its port, with nothing in it.
    pub fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        await_until("Redis answers", || {
            let stream = TcpStream::connect(loopback(self.port)).ok()?;
            (exchange(stream, &["PING"]) == ["PONG"]).then_some(())
        });
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The keys of the first database.
    pub fn keys(&self) -> Vec<String> {
        self.run(&["KEYS", "*"])
    }

    /// Whether a key goes by itself.
    pub fn expires(&self, key: &str) -> bool {
        let left = self.run(&["PTTL", key]);
        left.first()
            .is_some_and(|left| left.parse::<i64>().unwrap() > 0)
    }

    fn run(&self, command: &[&str]) -> Vec<String> {
        exchange(TcpStream::connect(loopback(self.port)).unwrap(), command)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The words of an answer.
fn exchange(mut stream: TcpStream, command: &[&str]) -> Vec<String> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut call = format!("*{}\r\n", command.len());
    for word in command {
        call += &format!("${}\r\n{word}\r\n", word.len());
    }
    if stream.write_all(call.as_bytes()).is_err() {
        return Vec::new();
    }
    let mut stream = BufReader::new(stream);
    let mut words = Vec::new();
    let mut left = 1;
    while left > 0 {
        left -= 1;
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return words;
        }
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "*" => left += rest.parse::<usize>().unwrap(),
            "$" => {
                let mut word = vec![0; rest.parse::<usize>().unwrap() + 2];
                stream.read_exact(&mut word).unwrap();
                words.push(String::from_utf8_lossy(&word).trim_end().to_owned());
            }
            _ => words.push(rest.to_owned()),
        }
    }
    words
}
