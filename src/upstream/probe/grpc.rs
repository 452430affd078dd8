//! The gRPC health protocol (grpc.health.v1), over HTTP/2.
//!
//! `pingora-load-balancing` has no gRPC check. The two messages have one field each, so they
//! are written and read by hand here rather than with a protobuf library.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};

const PATH: &str = "/grpc.health.v1.Health/Check";

/// More than any answer needs.
const LONGEST_ANSWER: usize = 4096;

/// `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

/// Asks the server at the other end of a connection about a service.
///
/// # Errors
/// Why it does not serve.
pub(super) async fn serves(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    addr: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let (client, connection) = h2::client::handshake(stream).await.map_err(words)?;
    let mut asked = pin!(ask(client, addr, service));
    tokio::select! {
        biased;
        answer = &mut asked => return answer,
        // The answer may have come with the connection's end.
        _ = connection => {}
    }
    asked.await
}

async fn ask(client: SendRequest<Bytes>, addr: SocketAddr, service: &str) -> Result<(), String> {
    let request = Request::post(format!("http://{addr}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", super::check::USER_AGENT)
        .body(())
        .map_err(|error| error.to_string())?;
    let mut client = client.ready().await.map_err(words)?;
    let (response, mut body) = client.send_request(request, false).map_err(words)?;
    body.send_data(message(service), true).map_err(words)?;
    let response = response.await.map_err(words)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("answered {}", response.status().as_u16()));
    }
    // An answer of trailers alone has its status in the head.
    failed(response.headers())?;
    let mut body = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(words)?;
        body.flow_control()
            .release_capacity(data.len())
            .map_err(words)?;
        if answer.len() + data.len() > LONGEST_ANSWER {
            return Err("the answer is too long".into());
        }
        answer.put(data);
    }
    let trailers = poll_fn(|cx| body.poll_trailers(cx)).await.map_err(words)?;
    failed(&trailers.unwrap_or_default())?;
    match answer.get(5..).and_then(status) {
        Some(SERVING) => Ok(()),
        Some(0) => Err("answered UNKNOWN".into()),
        Some(2) => Err("answered NOT_SERVING".into()),
        Some(3) => Err("answered SERVICE_UNKNOWN".into()),
        _ => Err("the answer is no HealthCheckResponse".into()),
    }
}

/// Whether headers or trailers carry a gRPC status other than OK.
fn failed(headers: &HeaderMap) -> Result<(), String> {
    match headers.get("grpc-status").map(|status| status.to_str()) {
        None | Some(Ok("0")) => Ok(()),
        Some(Ok(status)) => Err(format!("gRPC status {status}")),
        Some(Err(_)) => Err("the gRPC status is unreadable".into()),
    }
}

/// A length-prefixed `HealthCheckRequest`.
fn message(service: &str) -> Bytes {
    let mut request = BytesMut::new();
    if !service.is_empty() {
        // Field 1, a string.
        request.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            request.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        request.put_u8(length as u8);
        request.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(request.len() + 5);
    // Not compressed.
    message.put_u8(0);
    message.put_u32(u32::try_from(request.len()).unwrap_or(u32::MAX));
    message.put(request);
    message.freeze()
}

/// The status in a `HealthCheckResponse`; field 1 left out is 0. `None` if it is none.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut message)?,
            // Fields of later versions are skipped.
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn words(error: h2::Error) -> String {
    match error.reason() {
        Some(reason) => format!("HTTP/2: {}", reason.description()),
        None => "closed the connection".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_framed_as_grpc_asks() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 2]);
    }

    #[test]
    fn a_status_is_read_whatever_else_the_message_has() {
        for (message, expected) in [
            (&[][..], Some(0)),
            (&[8, 1], Some(1)),
            (&[8, 2], Some(2)),
            (&[0x12, 2, 9, 9, 8, 1], Some(1)),
            (&[0x15, 1, 2, 3, 4, 8, 1, 0x18, 0x80, 1], Some(1)),
            (&[8], None),
            (&[8, 0x80], None),
            (&[0x12, 9, 1], None),
            (&[0x0b], None),
            (&[0xff; 12], None),
        ] {
            assert_eq!(status(message), expected, "{message:?}");
        }
    }
}
