//! Which requests are delayed and which are answered with an error.

use std::fmt;
use std::time::Duration;

use crate::base::Share;

/// At least one of both; a share that takes nobody is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fault {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delay {
    pub duration: Duration,
    pub share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Abort {
    pub status: AbortStatus,
    pub share: Share,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbortStatus {
    /// A gRPC client gets the status it maps to.
    Http(u16),
    /// A client that does not speak gRPC gets 200, as from Envoy.
    Grpc(u16),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Delay { duration, share }) = &self.delay {
            write!(f, "delay {share} by {duration:?}")?;
        }
        if let Some(Abort { status, share }) = &self.abort {
            if self.delay.is_some() {
                f.write_str(", then ")?;
            }
            write!(f, "abort {share} with {status}")?;
        }
        Ok(())
    }
}

impl fmt::Display for AbortStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "{status}"),
            Self::Grpc(status) => write!(f, "gRPC status {status}"),
        }
    }
}
