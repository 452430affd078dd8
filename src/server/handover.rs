//! Replacing the running binary without closing a port.
//!
//! The running process listens on a Unix socket in a private [`folder`]. A successor, started by
//! `pingress upgrade`, by SIGQUIT or by hand with `--upgrade`, [takes](taker) the listening sockets
//! from it, reads the same manifests, and says when it is prepared to accept. Only then does the
//! [giver] let it, and only when it accepts does the giver drain and end. Whatever goes wrong
//! before that ends the successor, and the giver serves on.
//!
//! Pingora's own hand-over is not used: it sends at most 32 descriptors through a socket that
//! anyone may open, and ends the old process even when nobody took them.

mod folder;
mod giver;
mod taker;
#[cfg(test)]
mod tests;
mod wire;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use folder::Folder;
pub use giver::{Giver, Launch, Predecessor};
pub use taker::{Successor, Taken, ask_to_upgrade, take, upgrade_in_background};

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Traffic, with the address that the plan asked for.
    Listener(SocketAddr),
    Admin,
    Status,
    Metrics,
}

/// What giver, successor and `pingress upgrade` say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// A successor wants the sockets.
    Take { version: String },
    /// Comes with one descriptor for each role.
    Sockets(Vec<Role>),
    /// No more sockets.
    Complete,
    /// The successor could accept now.
    Prepared {
        /// Tells equal program files: only theirs must make equal plans.
        program: String,
        plan: String,
        listeners: Vec<SocketAddr>,
    },
    /// It shall.
    Accept,
    /// It does.
    Accepting,
    /// `pingress upgrade` wants a successor to be started.
    Upgrade,
    /// How far that is.
    Progress(String),
    /// The successor has taken over.
    Done { pid: u32 },
    /// Nothing comes of it, and the running process serves on.
    Failed(String),
}

/// Why a successor does not take over.
#[derive(Debug, Error)]
pub enum HandoverError {
    #[error(
        "no gateway answers at {path} ({source}); start one with `pingress run`, or name the settings file of the running one with --settings"
    )]
    NobodyThere {
        path: String,
        source: std::io::Error,
    },
    #[error("the other process belongs to user {0}")]
    Stranger(u32),
    #[error("the other process said something unexpected: {0}")]
    Confused(String),
    #[error("{0}")]
    Refused(String),
    #[error("the other process ended or is silent: {0}")]
    Io(#[from] std::io::Error),
}
