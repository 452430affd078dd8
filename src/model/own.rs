//! Pingress's own objects (group `gateway.pingress.io`), for what no API it reads can say.
//!
//! As strict as Istio's: an unknown field is a mistake.

pub mod access_list;
pub mod body_limit;
pub mod compression;
pub mod health_check;
pub mod rate_limit;
pub mod target;

pub use access_list::AccessList;
pub use body_limit::BodyLimit;
pub use compression::Compression;
pub use health_check::HealthCheckPolicy;
pub use rate_limit::RateLimit;
pub use target::PolicyTarget;
