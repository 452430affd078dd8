//! The demo's origins: small HTTP/1.1 servers on loopback that say who they are and what they got.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A service, its version, and the port it listens on.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub service: &'static str,
    pub version: &'static str,
    pub port: u16,
}

impl Origin {
    fn addr(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

/// Binds all origins and serves them on a thread of their own until the process ends.
///
/// # Errors
/// A port is taken, or the thread cannot start.
pub fn start(origins: &[Origin]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| format!("cannot start the demo's origins: {error}"))?;
    let mut bound = Vec::new();
    for origin in origins {
        let listener = runtime
            .block_on(TcpListener::bind(origin.addr()))
            .map_err(|error| {
                format!(
                    "cannot listen on {} for the demo's {}: {error}; free that port",
                    origin.addr(),
                    origin.service
                )
            })?;
        bound.push((*origin, listener));
    }
    std::thread::Builder::new()
        .name("demo-origins".into())
        .spawn(move || {
            runtime.block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for (origin, listener) in bound {
                    tasks.spawn(accept(origin, listener));
                }
                while tasks.join_next().await.is_some() {}
            });
        })
        .map_err(|error| format!("cannot start the demo's origins: {error}"))?;
    Ok(())
}

async fn accept(origin: Origin, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A client that leaves ends its own connection and nothing else.
            let _ = serve(origin, stream).await;
        });
    }
}

async fn serve(origin: Origin, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) = (
            words.next().unwrap_or("-").to_owned(),
            words.next().unwrap_or("-").to_owned(),
        );
        let (mut body, mut shown) = (0u64, String::new());
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header).await? == 0 {
                return Ok(());
            }
            let header = header.trim_end();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse().unwrap_or(0);
            }
            if name.eq_ignore_ascii_case("host") || name.to_ascii_lowercase().starts_with("x-") {
                shown.push_str(&format!("  {name}: {}\n", value.trim()));
            }
        }
        tokio::io::copy(&mut (&mut stream).take(body), &mut tokio::io::sink()).await?;
        let text = format!(
            "{} {} got {method} {target}\n{shown}",
            origin.service, origin.version
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}
