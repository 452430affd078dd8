//! Asking DNS for the addresses of a name.
//!
//! Tells an answer that there is none from no answer, which the resolver's own dual-stack
//! lookup does not: it hides the failure of one family behind the emptiness of the other.

use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{TokioResolver, system_conf};
use tokio::sync::{OnceCell, Semaphore};

use crate::base::clock;

use super::name::Outcome;
use super::{DnsOptions, IpFamily};

/// Names asked at the same time, so that a start with thousands of them floods no server and
/// needs no more sockets than that.
const AT_ONCE: usize = 64;

/// The resolver of all names.
#[derive(Debug)]
pub(super) struct Resolve {
    options: DnsOptions,
    /// Made at the first question: a gateway without names does not need the system's settings.
    asked: OnceCell<Asked>,
    slots: Semaphore,
}

#[derive(Debug)]
struct Asked {
    resolver: TokioResolver,
    /// Whether there is a search list for names that are not complete.
    search: bool,
}

impl Resolve {
    pub(super) fn new(options: DnsOptions) -> Self {
        Self {
            options,
            asked: OnceCell::new(),
            slots: Semaphore::new(AT_ONCE),
        }
    }

    /// The addresses of `name`. One with a dot is taken as complete first, and looked for
    /// along the search list only if there is no such name: with Kubernetes' `ndots:5` an
    /// outside name would otherwise be asked under every cluster suffix first.
    pub(super) async fn addresses(&self, name: &str) -> Outcome {
        // An error means closed, which it never is.
        let _slot = self.slots.acquire().await;
        let asked = match self
            .asked
            .get_or_try_init(|| async { asked(&self.options) })
            .await
        {
            Ok(asked) => asked,
            Err(error) => {
                return Outcome::Failed(format!(
                    "the system's DNS settings cannot be read: {error}"
                ));
            }
        };
        let mut name = match Name::from_str_relaxed(name) {
            Ok(name) => name,
            Err(error) => return Outcome::Failed(format!("not a DNS name: {error}")),
        };
        let complete = name.is_fqdn();
        if complete || !asked.search || name.num_labels() > 1 {
            name.set_fqdn(true);
            let outcome = self.families(&asked.resolver, &name).await;
            if complete || !asked.search || !matches!(outcome, Outcome::Empty(_)) {
                return outcome;
            }
            name.set_fqdn(false);
        }
        self.families(&asked.resolver, &name).await
    }

    async fn families(&self, resolver: &TokioResolver, name: &Name) -> Outcome {
        let of = |family| question(resolver, name, family);
        match self.options.ip_family {
            IpFamily::V4Only => of(RecordType::A).await,
            IpFamily::V6Only => of(RecordType::AAAA).await,
            IpFamily::V4Preferred => match of(RecordType::A).await {
                Outcome::Empty(_) => of(RecordType::AAAA).await,
                outcome => outcome,
            },
            IpFamily::All => {
                let (v4, v6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
                both(v4, v6)
            }
        }
    }
}

/// All addresses of two families. Half an answer is better than none: there are servers that
/// fail for AAAA where there is no such record.
fn both(v4: Outcome, v6: Outcome) -> Outcome {
    match (v4, v6) {
        (
            Outcome::Found { mut addresses, ttl },
            Outcome::Found {
                addresses: others,
                ttl: other_ttl,
            },
        ) => {
            addresses.extend(others);
            Outcome::Found {
                addresses,
                ttl: ttl.min(other_ttl),
            }
        }
        (found @ Outcome::Found { .. }, _) | (_, found @ Outcome::Found { .. }) => found,
        (failed @ Outcome::Failed(_), _) | (_, failed @ Outcome::Failed(_)) => failed,
        (empty @ Outcome::Empty(_), Outcome::Empty(_)) => empty,
    }
}

async fn question(resolver: &TokioResolver, name: &Name, family: RecordType) -> Outcome {
    match resolver.lookup(name.clone(), family).await {
        Ok(answer) => {
            let addresses: Vec<_> = answer
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr())
                .collect();
            if addresses.is_empty() {
                return Outcome::Empty(format!("{family}: no such record"));
            }
            let ttl = answer.valid_until().saturating_duration_since(clock::now());
            // The resolver counts whole seconds from a moment ago: round that moment away.
            Outcome::Found {
                addresses,
                ttl: Duration::from_secs(ttl.as_secs_f64().round() as u64),
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            Outcome::Empty(format!("{family}: {}", none.response_code))
        }
        Err(error) => Outcome::Failed(format!("{family}: {error}")),
    }
}

fn asked(options: &DnsOptions) -> Result<Asked, NetError> {
    let (config, mut resolver_options) = match options.server {
        Some(server) => {
            let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp]
                .map(|protocol| {
                    let mut connection = ConnectionConfig::new(protocol);
                    connection.port = server.port();
                    connection
                })
                .into();
            let server = NameServerConfig::new(server.ip(), true, connections);
            let mut resolver_options = ResolverOpts::default();
            resolver_options.timeout = options.timeout;
            (
                ResolverConfig::from_parts(None, Vec::new(), vec![server]),
                resolver_options,
            )
        }
        None => system_conf::read_system_conf()?,
    };
    // Every question is a new one: what stands, and for how long, is ours to say.
    resolver_options.cache_size = 0;
    let search = config.domain().is_some() || !config.search().is_empty();
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(resolver_options)
        .build()?;
    Ok(Asked { resolver, search })
}
