//! Telling systemd how the process is (`Type=notify`, sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use log::warn;

/// This process serves; after an upgrade it is also the one to watch (`NotifyAccess=all`).
pub fn ready() {
    tell(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// This process ends on purpose.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Without systemd, `NOTIFY_SOCKET` is not set and nothing happens.
fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.as_encoded_bytes().strip_prefix(b"@") {
        Some(hidden) => SocketAddr::from_abstract_name(hidden),
        None => SocketAddr::from_pathname(&name),
    };
    let told = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(failure) = told {
        warn!("cannot notify the service manager: {failure}");
    }
}
