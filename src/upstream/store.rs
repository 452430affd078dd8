//! Redis, for the buckets that gateways share: one connection for all calls, each of which runs one
//! script.

use std::sync::Arc;
use std::time::Duration;

use log::debug;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult, ServerErrorKind,
};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::policy::outcall::Failed;
use crate::policy::rate_limit::store::{Question, SCRIPT};

use super::kept::{Dial, Driver, Kept};

/// For TCP and what Redis is told before the first call.
const CONNECT: Duration = Duration::from_secs(5);

/// A Redis server.
pub struct RedisStore {
    kept: Arc<Kept<Server>>,
    /// Of the script.
    sha: String,
}

struct Server {
    host: String,
    port: u16,
    /// Database and credentials.
    login: RedisConnectionInfo,
}

impl Dial for Server {
    type Client = MultiplexedConnection;

    async fn dial(&self) -> Result<(MultiplexedConnection, Driver), String> {
        let dialled = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
            let stream = stream.map_err(|error| error.to_string())?;
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            // Each call has its own time.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let made = MultiplexedConnection::new_with_config(&self.login, stream, config);
            made.await.map_err(|error| error.to_string())
        };
        let (client, driver) = match timeout(CONNECT, dialled).await {
            Ok(made) => made?,
            Err(_) => return Err("it took too long".to_owned()),
        };
        let driver = async move {
            driver.await;
            "closed".to_owned()
        };
        Ok((client, Box::pin(driver)))
    }

    fn place(&self) -> String {
        format!("redis at {}:{}", self.host, self.port)
    }
}

impl RedisStore {
    /// `None` if the URL is none, which `compile` has looked at.
    pub(super) fn new(url: &str, runtime: Handle) -> Option<Arc<Self>> {
        let info = url.into_connection_info().ok()?;
        let ConnectionAddr::Tcp(host, port) = info.addr().clone() else {
            return None;
        };
        let login = info.redis_settings().clone();
        let server = Server { host, port, login };
        let store = Self {
            kept: Kept::new(server, runtime),
            sha: redis::Script::new(SCRIPT).get_hash().to_owned(),
        };
        Some(Arc::new(store))
    }

    /// Begins the connection that the next call is likely to need.
    pub(super) fn prepare(&self, runtime: &Handle) {
        let kept = self.kept.clone();
        // Whoever calls finds out what is wrong.
        runtime.spawn(async move { kept.client().await.map(drop) });
    }

    /// For messages; without credentials.
    pub fn place(&self) -> String {
        self.kept.dial.place()
    }

    /// Asks about one request.
    ///
    /// # Errors
    /// There is no answer in time, or not a good one.
    pub async fn ask(&self, question: &Question, within: Duration) -> Result<Vec<i64>, Failed> {
        let mut is_sent = false;
        let asked = async {
            let unconnected = |_| Failed::Unconnected;
            let mut client = self.kept.client().await.map_err(unconnected)?;
            is_sent = true;
            self.run(&mut client, question).await
        };
        let answer = timeout(within, asked)
            .await
            .unwrap_or(Err(Failed::TimedOut));
        match &answer {
            Ok(_) | Err(Failed::Refused) => self.kept.heard(),
            Err(Failed::TimedOut) if is_sent => self.kept.missed(),
            Err(_) => {}
        }
        answer
    }

    async fn run(
        &self,
        client: &mut MultiplexedConnection,
        question: &Question,
    ) -> Result<Vec<i64>, Failed> {
        let known = call("EVALSHA", &self.sha, question);
        let mut answer: RedisResult<Vec<i64>> = known.query_async(client).await;
        let is_unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        if matches!(&answer, Err(error) if error.kind() == is_unknown) {
            // Nothing was counted. Redis keeps the script that it runs.
            answer = call("EVAL", SCRIPT, question).query_async(client).await;
        }
        answer.map_err(|error| {
            debug!("{} gives no answer: {error}", self.place());
            match error.is_io_error() || error.is_unrecoverable_error() {
                true => Failed::Broken,
                false => Failed::Refused,
            }
        })
    }
}

fn call(command: &str, script: &str, question: &Question) -> Cmd {
    let mut call = redis::cmd(command);
    call.arg(script)
        .arg(question.keys.len())
        .arg(&question.keys)
        .arg(&question.terms);
    call
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}
