//! A gateway of one hook, listeners in front of it, and a client that speaks in bytes.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::upstreams::peer::HttpPeer;
use pingora_core::server::configuration::ServerConf;
use pingora_core::{Error, ErrorType, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::listener::{
    Connection, ConnectionObserver, EarlyRefusal, ListenerLimits, ListenerOutcome, Listeners,
};

pub const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers every request itself: `/held` once released, everything else at once, with what the
/// connection says of itself as body.
pub struct Answering(Arc<Door>);

/// Holds requests for `/held`.
pub struct Door {
    pub held: Notify,
    /// One permit lets one request go on, whether it waits already or not yet.
    pub release: Semaphore,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            held: Notify::default(),
            release: Semaphore::new(0),
        }
    }
}

#[async_trait]
impl ProxyHttp for Answering {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "everything is answered here")
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        Connection::of(session.digest()).unwrap().head_received();
        let pipelining = session.req_header().headers.contains_key("pipelining");
        session.set_pipelining_enabled(pipelining);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        if session.req_header().uri.path() == "/held" {
            self.0.held.notify_one();
            self.0.release.acquire().await.unwrap().forget();
        }
        while session.read_request_body().await?.is_some() {}
        let connection = Connection::of(session.digest()).unwrap();
        let body = format!(
            "connection {} request {} at {} from {} to {} by {}",
            connection.id,
            connection.requests(),
            connection.listener,
            session.client_addr().unwrap(),
            session.server_addr().unwrap(),
            if connection.is_http2() {
                "HTTP/2"
            } else {
                "HTTP/1"
            },
        );
        let mut header = ResponseHeader::build(200, None)?;
        header.insert_header("content-length", body.len().to_string())?;
        session
            .write_response_header(Box::new(header), false)
            .await?;
        session.write_response_body(Some(body.into()), true).await?;
        Ok(true)
    }
}

/// Keeps what it hears and wakes whoever waits for more.
#[derive(Default)]
pub struct Ear {
    heard: Mutex<Heard>,
    more: Notify,
}

#[derive(Default)]
pub struct Heard {
    pub opened: usize,
    pub closed: Vec<(u64, u64)>,
    pub refused: Vec<EarlyRefusal>,
}

impl Ear {
    fn hear(&self, note: impl FnOnce(&mut Heard)) {
        note(&mut self.heard.lock().unwrap());
        self.more.notify_waiters();
    }

    /// Waits until `picked` finds something in what was heard.
    pub async fn until<T>(&self, mut picked: impl FnMut(&Heard) -> Option<T>) -> T {
        within(async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if let Some(found) = picked(&self.heard.lock().unwrap()) {
                    return found;
                }
                more.await;
            }
        })
        .await
    }

    pub async fn refusal(&self) -> EarlyRefusal {
        self.until(|heard| heard.refused.first().cloned()).await
    }

    pub fn refusals(&self) -> usize {
        self.heard.lock().unwrap().refused.len()
    }
}

impl ConnectionObserver for Ear {
    fn opened(&self, _: &Connection) {
        self.hear(|heard| heard.opened += 1);
    }
    fn closed(&self, connection: &Connection) {
        let bytes = (connection.bytes_received(), connection.bytes_sent());
        self.hear(|heard| heard.closed.push(bytes));
    }
    fn refused(&self, refusal: EarlyRefusal) {
        self.hear(|heard| heard.refused.push(refusal));
    }
}

pub struct Rig {
    pub listeners: Listeners<HttpProxy<Answering>>,
    pub door: Arc<Door>,
    pub ear: Arc<Ear>,
}

impl Rig {
    pub fn new(limits: ListenerLimits) -> Self {
        Self::inheriting(HashMap::new(), limits)
    }

    pub fn inheriting(inherited: HashMap<SocketAddr, TcpListener>, limits: ListenerLimits) -> Self {
        let ear = Arc::new(Ear::default());
        let door = Arc::new(Door::default());
        let app = Arc::new(http_proxy(
            &Arc::new(ServerConf::default()),
            Answering(door.clone()),
        ));
        Self {
            listeners: Listeners::new(app, inherited, limits, ear.clone(), Arc::new(())),
            door,
            ear,
        }
    }

    /// One listener on a free port of 127.0.0.1.
    pub async fn open(limits: ListenerLimits) -> (Self, SocketAddr) {
        let rig = Self::new(limits);
        let outcomes = rig.listeners.apply(&[any_port()]).await;
        assert!(
            matches!(outcomes[..], [ListenerOutcome::Opened(_)]),
            "{outcomes:?}"
        );
        let address = rig.listeners.open_addresses()[0];
        (rig, address)
    }
}

pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Limits with a head deadline short enough to be waited for.
pub fn impatient() -> ListenerLimits {
    ListenerLimits {
        header_deadline: Duration::from_millis(200),
        ..ListenerLimits::default()
    }
}

/// A client connection.
pub struct Client(pub TcpStream);

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(within(TcpStream::connect(address)).await.unwrap())
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request and returns its whole answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.send(request).await;
        self.answer().await
    }

    /// Reads one answer: its head and as much body as it announces.
    pub async fn answer(&mut self) -> String {
        within(async {
            let mut bytes = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "))
                        .map_or(0, |length| length.parse().unwrap());
                    if body.len() >= length {
                        return String::from_utf8(bytes).unwrap();
                    }
                }
                let byte = self.0.read_u8().await.unwrap_or_else(|error| {
                    panic!("{error} after {:?}", String::from_utf8_lossy(&bytes))
                });
                bytes.push(byte);
            }
        })
        .await
    }

    /// Reads to the end of the connection, however it ends.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = within(self.0.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// No test waits longer than this for anything.
pub async fn within<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), event)
        .await
        .expect("what was waited for did not happen")
}
