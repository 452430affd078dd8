//! Listeners tried over real sockets, with Pingora's own proxy behind them.

mod drain;
mod heads;
mod http2;
mod protocols;
mod rig;
mod sockets;
