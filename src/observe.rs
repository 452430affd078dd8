//! What is recorded about requests, connections and plans: access log, metrics and traces.
//!
//! [`Observe`] is the handle all other rooms record through. Everything a client chooses is
//! escaped in the log and absent from the metrics' labels.

mod access_log;
mod counters;
mod exposition;
mod field;
mod format;
mod histogram;
mod line;
mod observer;
mod out;
pub mod record;
mod redact;
mod requests;
mod streams;
mod trace;

pub use access_log::{AccessLogOptions, Wanted};
pub use exposition::Exposition;
pub use format::{FormatError, LogEncoding, LogFormat};
pub use observer::{Observe, ObserveError, ObserveOptions, Totals};
pub use record::{CompressionRecord, EarlyRefusal, Record};
pub use redact::Redaction;
pub use requests::Workload;
pub use streams::Transfer;
pub use trace::{
    AttemptEnd, Dial, Dialing, Duplex, Trace, TraceError, TraceOptions, TraceProtocol,
};
