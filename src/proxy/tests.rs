//! The request path over real sockets.
