//! A collector that takes spans over OTLP, by gRPC or HTTP, or takes nothing at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status};

use crate::harness::{await_until, loopback};

type Taken = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A listening collector; it ends with the test.
pub struct Collector {
    pub port: u16,
    taken: Taken,
    _runtime: Option<Runtime>,
}

impl Collector {
    pub fn grpc() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let taken = Taken::default();
        let service = TraceServiceServer::new(Service(taken.clone()));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(loopback(0)))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                let connection = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            port,
            taken,
            _runtime: Some(runtime),
        }
    }

    pub fn http() -> Self {
        let taken = Taken::default();
        let all = taken.clone();
        let port = listen(move |stream| {
            let all = all.clone();
            std::thread::spawn(move || take(stream, &all));
        });
        Self {
            port,
            taken,
            _runtime: None,
        }
    }

    /// Accepts connections and never says anything.
    pub fn stalling() -> Self {
        let held = Mutex::new(Vec::new());
        let port = listen(move |stream| held.lock().unwrap().push(stream));
        Self {
            port,
            taken: Taken::default(),
            _runtime: None,
        }
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Span> {
        let taken = self.taken.lock().unwrap();
        let resources = taken.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits until there are this many spans, and none beyond.
    pub fn await_spans(&self, count: usize) -> Vec<Span> {
        let spans = await_until(&format!("{count} spans arrive"), || {
            let spans = self.spans();
            (spans.len() >= count).then_some(spans)
        });
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// An attribute of the resource that the spans are of.
    pub fn resource(&self, name: &str) -> String {
        let taken = self.taken.lock().unwrap();
        let resource = taken[0].resource_spans[0].resource.as_ref().unwrap();
        find(&resource.attributes, name)
    }
}

/// An attribute's value as text; empty if there is none.
pub fn attribute(span: &Span, name: &str) -> String {
    find(&span.attributes, name)
}

fn find(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|it| it.key == name);
    match found.and_then(|it| it.value.clone()) {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => text,
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => number.to_string(),
        None => String::new(),
        other => panic!("{name}: {other:?}"),
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listen(mut accept: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            accept(stream);
        }
    });
    port
}

/// Reads requests of one connection; `None` at its end.
fn take(stream: TcpStream, taken: &Taken) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_ascii_lowercase());
        }
        assert_eq!(head[0], "post /v1/traces http/1.1");
        assert!(
            head.iter()
                .any(|line| line == "content-type: application/x-protobuf")
        );
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).ok()?;
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        taken.lock().unwrap().push(request);
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.get_mut().write_all(answer).ok()?;
    }
}

struct Service(Taken);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
