//! Requests that policies make of their own accord, beside the client's: what they ask of whoever
//! can reach a cluster.
//!
//! `upstream` implements [`Caller`], one for each cluster. Mirroring streams a copy of the
//! client's request and wants none of the answer. What is asked before a request goes on, like a
//! limit that is counted elsewhere, goes another way (`upstream/grpc.rs`): it must not wait for a
//! connection that only it needs.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};

use super::mirror::apply::Copied;

/// A request of a policy's own.
#[derive(Debug)]
pub struct Outcall {
    /// As over HTTP/1.1: Host among the headers, the target in origin form. The caller frames it
    /// for the protocol that the cluster speaks.
    pub head: RequestHeader,
    pub body: Body,
    /// For everything, from the connection to the end of the answer.
    pub within: Duration,
    /// Bytes of the answer's body to keep; what is beyond is read and dropped.
    pub keep: usize,
}

/// A request's body.
#[derive(Debug)]
pub enum Body {
    Empty,
    Whole(Bytes),
    /// Arrives while it is sent.
    Copied(Copied),
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub head: ResponseHeader,
    /// At most as much as was to be kept.
    pub body: Bytes,
}

/// Why nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    #[error("the cluster has no usable endpoint")]
    NoEndpoint,
    #[error("a limit is reached")]
    Overflow,
    #[error("the connection could not be made")]
    Unconnected,
    #[error("it took too long")]
    TimedOut,
    #[error("the connection broke")]
    Broken,
    /// The client left, or came faster than the copy may lag behind.
    #[error("the body was not copied to its end")]
    Cut,
    /// It answered with an error of its own.
    #[error("it answered with an error")]
    Refused,
}

/// Reaches one cluster.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Sends a request to one of the cluster's endpoints and reads the answer.
    ///
    /// # Errors
    /// There is no answer, or not all of it.
    async fn call(&self, call: Outcall) -> Result<Answer, Failed>;
}
