//! Where connections go that are not HTTP.
//!
//! [`super::serve`] hands them on after PROXY protocol and TLS, as far as these are ours; `server`
//! gives the listeners who serves them, which is `proxy`.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::protocols::Stream;

use super::connection::Connection;

/// Serves connections that are not HTTP.
#[async_trait]
pub trait StreamHandler: Send + Sync + 'static {
    /// Serves one until it ends. Bytes of a passed-through ClientHello are still to be read from it;
    /// [`Connection::passed`] tells what is known of it.
    async fn serve(&self, stream: Stream, connection: Arc<Connection>);
}

/// Closes them at once: for listeners that serve HTTP alone.
#[async_trait]
impl StreamHandler for () {
    async fn serve(&self, _stream: Stream, _connection: Arc<Connection>) {}
}
