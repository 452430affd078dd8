//! How a cluster's endpoint is chosen: what DestinationRule's `loadBalancer` comes to.
//!
//! Locality is not here: it is a property of the endpoints (see [`super::endpoints::Place`]).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// Everything about the choice of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Balancing {
    pub policy: Balance,
    /// What of a request [`Balance::Hash`] goes by; a request without it goes to any endpoint.
    pub key: Option<HashKey>,
    /// How new endpoints are led up to their share (`warmup`).
    pub warm_up: Option<WarmUp>,
}

impl From<Balance> for Balancing {
    fn from(policy: Balance) -> Self {
        Self {
            policy,
            key: None,
            warm_up: None,
        }
    }
}

/// How an endpoint is chosen among those of a locality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    /// By a key of the request, so that the same key finds the same endpoint.
    Hash(HashTable),
}

/// What keys are looked up in. Both are built as Envoy builds them, so that all gateways agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashTable {
    /// `ringHash`. Every endpoint has places on a ring; a key belongs to the next one.
    Ring {
        /// Fewest places of all endpoints together.
        minimum_size: u64,
    },
    /// `maglev`.
    Maglev {
        /// Places of all endpoints together; a prime.
        size: u32,
    },
}

impl Default for HashTable {
    /// As Istio's `consistentHash` without an algorithm.
    fn default() -> Self {
        Self::Ring { minimum_size: 1024 }
    }
}

/// A part of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashKey {
    Header(HeaderName),
    /// `Host` or `:authority`, as received.
    Authority,
    /// `:path`: normalised path with query.
    Path,
    /// `:method`.
    Method,
    Cookie(HashCookie),
    /// The client's address, as trusted proxies tell it.
    SourceIp,
    /// First value of this query parameter, undecoded.
    Query(Arc<str>),
}

/// A cookie that holds the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HashCookie {
    pub name: Arc<str>,
    /// Given to clients that come without it; `None` leaves them without.
    pub offer: Option<CookieOffer>,
}

/// How a cookie is given to a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CookieOffer {
    /// `Max-Age`; zero makes it a session cookie, without one.
    pub ttl: Duration,
    /// Everything behind the value but `Max-Age`, ready to be sent: `; Path=/; HttpOnly`.
    pub attributes: Arc<str>,
}

/// How a new endpoint's weight grows from a part to the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WarmUp {
    /// From the moment the endpoint is known.
    pub duration: Duration,
    /// What it has at least, in percent of its weight (`minimumPercent`).
    pub minimum_percent: Number,
    /// Exponent of the growth is 1 by this; 1 is a straight line.
    pub aggression: Number,
}

/// A finite number that can be compared and hashed.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// In a few words, for the operator.
impl fmt::Display for Balancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policy {
            Balance::LeastRequest => write!(f, "least request")?,
            Balance::RoundRobin => write!(f, "round robin")?,
            Balance::Random => write!(f, "random")?,
            Balance::Hash(HashTable::Ring { minimum_size }) => {
                write!(f, "ring hash of {minimum_size}")?;
            }
            Balance::Hash(HashTable::Maglev { size }) => write!(f, "maglev of {size}")?,
        }
        if let Some(key) = &self.key {
            write!(f, " by {key}")?;
        }
        match &self.warm_up {
            Some(warm_up) => write!(
                f,
                ", warm-up within {:?} from {}%, aggression {}",
                warm_up.duration, warm_up.minimum_percent.0, warm_up.aggression.0
            ),
            None => Ok(()),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Authority => write!(f, "authority"),
            Self::Path => write!(f, "path"),
            Self::Method => write!(f, "method"),
            Self::SourceIp => write!(f, "client address"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Cookie(HashCookie { name, offer: None }) => write!(f, "cookie {name}"),
            Self::Cookie(HashCookie {
                name,
                offer: Some(offer),
            }) => write!(
                f,
                "cookie {name} (given for {:?}{})",
                offer.ttl, offer.attributes
            ),
        }
    }
}
