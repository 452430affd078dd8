use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;

use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::plan::endpoints::Endpoint;
use crate::plan::{Pool, Resolution};
use crate::upstream::fixture::{cluster, first, plan, table};
use crate::upstream::kept::PATIENCE;
use crate::upstream::{DnsOptions, Upstreams};

use super::*;

const METHOD: &str = "/test.Service/Method";
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

/// What a test server does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Gives the message back.
    Echoes,
    Stalls,
    /// Says that it has not seen the stream.
    Refuses,
    Status(&'static str),
    NoTrailers,
    /// A message that says that it is compressed.
    Compresses,
    TooLong,
}

/// A server on loopback that does something with each call of its connections, in turn.
struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// `script` gives what becomes of a call, by the numbers of its connection and of itself.
    async fn start(script: impl Fn(usize, usize) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(listener, script)
    }

    fn on(
        listener: TcpListener,
        script: impl Fn(usize, usize) -> Does + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, script) = (connections.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.ok()?;
                    let mut calls = 0;
                    let mut stalled = Vec::new();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let does = script(number, calls);
                        calls += 1;
                        match does {
                            Does::Refuses => respond.send_reset(Reason::REFUSED_STREAM),
                            Does::Stalls => stalled.push((request, respond)),
                            does => drop(tokio::spawn(answer(request, respond, does))),
                        }
                    }
                    Some(())
                });
            }
        });
        Self { addr, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    does: Does,
) -> Option<()> {
    assert_eq!(request.uri().path(), METHOD);
    assert_eq!(request.uri().authority()?.as_str(), "service:80");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    assert!(request.headers().contains_key("grpc-timeout"));
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        message.put(data.ok()?);
    }
    let status = match does {
        Does::Status(status) => status,
        _ => "0",
    };
    let mut head = http::Response::new(());
    if does == Does::Compresses {
        message[0] = 1;
    }
    if let Does::Status(_) = does {
        head.headers_mut()
            .insert("grpc-status", status.parse().ok()?);
        respond.send_response(head, true).ok()?;
        return Some(());
    }
    let mut stream = respond.send_response(head, false).ok()?;
    if does == Does::TooLong {
        message.resize(LONGEST + 1, 0);
    }
    stream
        .send_data(message.freeze(), does == Does::NoTrailers)
        .ok()?;
    if does != Does::NoTrailers {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().ok()?);
        stream.send_trailers(trailers).ok()?;
    }
    Some(())
}

/// A caller of these addresses.
fn caller(addresses: &[SocketAddr]) -> (Arc<Upstreams>, Arc<GrpcCaller>) {
    let endpoint = |addr: &SocketAddr| Endpoint {
        addr: *addr,
        weight: 1,
        place: Default::default(),
        origin: None,
    };
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    let endpoints = Resolution::Static(addresses.iter().map(endpoint).collect());
    upstreams.publish(&table(&[("a", endpoints)]));
    let definition = crate::plan::Cluster {
        pool: Pool {
            connect_timeout: LONG,
            ..Pool::default()
        },
        ..cluster("a")
    };
    let serving = upstreams.serve(plan([definition]));
    let caller = GrpcCaller::new(first(&serving), Arc::default(), Handle::current());
    (upstreams, caller)
}

async fn call(caller: &GrpcCaller, within: Duration) -> Result<Bytes, Failed> {
    let message = Bytes::from_static(b"question");
    caller.call(METHOD, "service:80", &message, within).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_calls_go_over_one_connection_that_the_first_ones_wait_for() {
    let server = Server::start(|_, _| Does::Echoes).await;
    let (_upstreams, caller) = caller(&[server.addr]);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { call(&caller, LONG).await })
        })
        .collect();
    for call in calls {
        assert_eq!(&call.await.unwrap().unwrap()[..], b"question");
    }
    assert_eq!(&call(&caller, LONG).await.unwrap()[..], b"question");
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_answered_ends_in_time_and_the_connection_is_given_up_at_last() {
    let server = Server::start(|connection, _| match connection {
        0 => Does::Stalls,
        _ => Does::Echoes,
    })
    .await;
    let (_upstreams, caller) = caller(&[server.addr]);
    let mut unanswered = 0;
    while call(&caller, SHORT).await == Err(Failed::TimedOut) {
        unanswered += 1;
        assert!(unanswered < 100);
    }
    assert!(unanswered >= PATIENCE);
    assert!(call(&caller, LONG).await.is_ok());
    // Where the machine is slow, answers of the second come too late as well.
    assert!(server.connections() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_service_has_not_seen_is_asked_once_more() {
    let server = Server::start(|_, call| match call {
        0 => Does::Refuses,
        _ => Does::Echoes,
    })
    .await;
    let (_upstreams, caller) = caller(&[server.addr]);
    assert!(call(&caller, LONG).await.is_ok());
    let server = Server::start(|_, _| Does::Refuses).await;
    let (_upstreams, caller) = self::caller(&[server.addr]);
    assert_eq!(call(&caller, LONG).await, Err(Failed::Broken));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_a_good_one_is_none() {
    for (does, failed) in [
        (Does::Status("14"), Failed::Refused),
        (Does::NoTrailers, Failed::Broken),
        (Does::Compresses, Failed::Broken),
        (Does::TooLong, Failed::Broken),
    ] {
        let server = Server::start(move |_, _| does).await;
        let (_upstreams, caller) = caller(&[server.addr]);
        assert_eq!(call(&caller, LONG).await, Err(failed), "{does:?}");
        assert_eq!(call(&caller, LONG).await, Err(failed), "{does:?}");
        assert_eq!(server.connections(), 1, "{does:?}");
    }
}

/// A server that closes connections as they come, and says so.
async fn closing() -> (SocketAddr, UnboundedReceiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (closed, closes) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
            if closed.send(()).is_err() {
                return;
            }
        }
    });
    (addr, closes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_cannot_be_reached_is_not_dialled_for_every_call() {
    let (addr, mut closes) = closing().await;
    let (_upstreams, caller) = caller(&[addr]);
    for _ in 0..500 {
        assert!(call(&caller, LONG).await.is_err());
    }
    let mut dialled = 0;
    while closes.try_recv().is_ok() {
        dialled += 1;
    }
    assert!((1..50).contains(&dialled), "{dialled}");
    // Nobody listens.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (_upstreams, caller) = self::caller(&[addr]);
    assert_eq!(call(&caller, LONG).await, Err(Failed::Unconnected));
    let (_upstreams, caller) = self::caller(&[]);
    assert_eq!(call(&caller, LONG).await, Err(Failed::NoEndpoint));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_comes_back_is_asked_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (_upstreams, caller) = caller(&[addr]);
    assert!(call(&caller, LONG).await.is_err());
    let _server = Server::on(TcpListener::bind(addr).await.unwrap(), |_, _| Does::Echoes);
    let asked = async {
        while call(&caller, LONG).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, asked).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_slow_to_make_is_made_for_the_next_call() {
    // It stands in the queue of a listener that does not accept: TCP is there, HTTP/2 is not.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (_upstreams, caller) = caller(&[listener.local_addr().unwrap()]);
    assert_eq!(call(&caller, SHORT).await, Err(Failed::TimedOut));
    let server = Server::on(listener, |_, _| Does::Echoes);
    assert!(call(&caller, LONG).await.is_ok());
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_endpoints_that_are_gone_are_given_up() {
    let (one, two) = (
        Server::start(|_, _| Does::Echoes).await,
        Server::start(|_, _| Does::Echoes).await,
    );
    let (upstreams, caller) = caller(&[one.addr]);
    assert!(call(&caller, LONG).await.is_ok());
    let endpoint = Endpoint {
        addr: two.addr,
        weight: 1,
        place: Default::default(),
        origin: None,
    };
    upstreams.publish(&table(&[("a", Resolution::Static(vec![endpoint]))]));
    assert!(call(&caller, LONG).await.is_ok());
    assert_eq!((one.connections(), two.connections()), (1, 1));
    assert_eq!(caller.lines.load().len(), 1);
}
