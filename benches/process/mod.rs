//! What benches of the whole gateway share: the real binary as a process, what it uses, an origin.

#![allow(dead_code, reason = "each bench takes what it needs")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The body of every answer of [`origin`].
pub const BODY: [u8; 1024] = [b'x'; 1024];

/// A process that listens, killed when it is dropped.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
    folder: TempDir,
}

impl Process {
    /// Runs `command` and waits until somebody listens on `port`. `folder` lives as long.
    pub fn spawn(command: Command, port: u16, folder: TempDir) -> Self {
        Self::spawn_with(command, Stdio::null(), port, folder)
    }

    /// The same with another standard output than none.
    pub fn spawn_with(mut command: Command, output: Stdio, port: u16, folder: TempDir) -> Self {
        let mut child = command
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let started = Instant::now();
        while TcpStream::connect(addr).is_err() {
            let is_alive = child.try_wait().unwrap().is_none();
            assert!(is_alive, "{command:?} has ended");
            assert!(started.elapsed() < Duration::from_secs(120), "{command:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self {
            child,
            addr,
            folder,
        }
    }

    /// A gateway with these manifests, by file name, that serves the `declared` port on one
    /// thread and logs to `/dev/null`.
    pub fn gateway(files: &[(String, String)], declared: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        for (name, text) in files {
            std::fs::write(manifests.join(name), text).unwrap();
        }
        let [port, admin, status, metrics] = [(); 4].map(|()| free_port());
        let settings = folder.path().join("settings.yaml");
        let text = format!(
            "threads: 1\ngateway:\n  ports: {{{declared}: {port}}}\n  bind: [127.0.0.1]\n  mesh: {{accessLogFile: /dev/null}}\n  admin: {{bind: \"127.0.0.1:{admin}\"}}\n  status: {{bind: \"127.0.0.1:{status}\"}}\n  metrics: {{bind: \"127.0.0.1:{metrics}\"}}\n"
        );
        std::fs::write(&settings, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pingress"));
        command.args(["run", "--settings"]).arg(&settings);
        command.arg("--config").arg(&manifests);
        Self::spawn(command, port, folder)
    }

    /// The folder of a gateway's manifests.
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// A folder of the same file system, beside the manifests.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// User and system time of the process in clock ticks, of 10 ms on Linux.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Answers every request with [`BODY`] on connections that stay open.
pub fn origin() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n".to_vec();
    answer.extend_from_slice(&BODY);
    let mut buffer = [0; 8192];
    let mut held = 0;
    loop {
        let got = stream.read(&mut buffer[held..])?;
        if got == 0 {
            return Ok(());
        }
        held += got;
        if buffer[..held].ends_with(b"\r\n\r\n") {
            held = 0;
            stream.write_all(&answer)?;
        }
    }
}

/// Asks for a path so many times on one connection, one request at a time.
pub fn ask(addr: SocketAddr, path: &str, count: usize) {
    let mut stream = connect(addr);
    let mut buffer = vec![0; 65536];
    for _ in 0..count {
        request(&mut stream, path, &mut buffer);
    }
}

/// The same, with the time that each answer took.
pub fn ask_timed(addr: SocketAddr, path: &str, count: usize) -> Vec<Duration> {
    let mut stream = connect(addr);
    let mut buffer = vec![0; 65536];
    let times = (0..count).map(|_| {
        let started = Instant::now();
        request(&mut stream, path, &mut buffer);
        started.elapsed()
    });
    times.collect()
}

/// A connection on which one answer came.
pub fn ask_once(addr: SocketAddr, path: &str) -> TcpStream {
    let mut stream = connect(addr);
    request(&mut stream, path, &mut vec![0; 65536]);
    stream
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn request(stream: &mut TcpStream, path: &str, buffer: &mut [u8]) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench.example.com\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut got = 0;
    while !(got > BODY.len() && buffer[..got].ends_with(&BODY)) {
        let more = stream.read(&mut buffer[got..]).unwrap();
        assert!(more > 0, "{}", String::from_utf8_lossy(&buffer[..got]));
        got += more;
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200"));
}

/// Median, least and most.
pub fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    (values[values.len() / 2], values[0], values[last])
}
