//! Leaf value types that every other room may use: origins, findings, causes,
//! object identities, host patterns, address ranges, durations and the clock.
//!
//! Nothing here imports another room.

pub mod cause;
pub mod cidr;
pub mod clock;
pub mod finding;
pub mod grpc;
pub mod host;
pub mod object;
pub mod origin;
pub mod quantity;
pub mod share;
pub mod tls_material;

pub use cause::{Cause, CauseKind};
pub use cidr::Cidr;
pub use finding::{Code, Finding, Findings, Severity};
pub use host::HostPattern;
pub use object::{Kind, ObjectKey};
pub use origin::{Origin, Position};
pub use share::Share;
