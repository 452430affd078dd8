//! The life of the process: settings, boot, configuration swaps, drain and signals.
//!
//! [`boot::run`] builds Pingora's server with one service of ours ([`service`]); that service owns
//! the listeners, the operator's endpoints and the configuration loop ([`config`]). [`signals`]
//! decides when the process ends, [`drain`] lets it end without losing a request, and [`handover`]
//! gives its sockets to a successor.

pub mod boot;
mod collector;
mod config;
mod drain;
mod expiry;
pub mod handover;
mod life;
pub mod logging;
mod notify;
mod service;
pub mod settings;
mod signals;
mod witness;

pub use settings::Settings;
