//! Changes while the gateway runs: swaps, reloads, listeners, drain.

mod drain;
mod drain_streams;
mod endpoints;
mod reload;
mod tunnels;
mod upgrade;
