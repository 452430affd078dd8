//! Names that stand for endpoints: asked at run time, and asked again when answers grow old.
//!
//! One task per name, however many clusters use it; it runs on the runtime handed over at the
//! start, and no request ever waits for it. `serving` says which names to follow and is called
//! back when one has a new answer.
//!
//! - An answer is used for its time to live, within [`DnsOptions::min_ttl`] and `max_ttl`.
//! - A failure (timeout, refusal, server error) keeps the last good answer, for as long as it
//!   takes, and asks again with growing pauses.
//! - "No such name" and "no such record" are answers, but one alone may be a hiccup of a
//!   server that just starts. The last good answer is dropped after three in a row. (Envoy
//!   drops it at the first one, and under its default keeps it for ever.)
//! - IPv4 addresses are used alone where there are any, as Envoy's `V4_PREFERRED`; other
//!   choices are settings.
//! - `DNS_ROUND_ROBIN` takes one address and moves to the next with each answer.

mod follow;
mod name;
mod resolve;

use std::net::SocketAddr;
use std::time::Duration;

pub(super) use follow::Names;
pub(super) use name::Name;

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// The server to ask, without a search list; `None` is what `/etc/resolv.conf` says.
    pub server: Option<SocketAddr>,
    pub ip_family: IpFamily,
    /// No name is asked more often while it answers, whatever its time to live.
    pub min_ttl: Duration,
    /// No answer is used longer without asking again.
    pub max_ttl: Duration,
    /// Pause after the first failure; doubles with each further one.
    pub retry: Duration,
    /// Longest pause between failures.
    pub max_retry: Duration,
    /// How long `server` may take for an answer before it is asked again.
    pub timeout: Duration,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpFamily {
    /// IPv4 if the name has any such address, IPv6 otherwise.
    #[default]
    V4Preferred,
    V4Only,
    V6Only,
    /// All of both.
    All,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            server: None,
            ip_family: IpFamily::default(),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            retry: Duration::from_secs(1),
            max_retry: Duration::from_secs(30),
            timeout: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
