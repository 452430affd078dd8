//! The successor's side of the hand-over.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use log::{info, warn};

use super::wire::Wire;
use super::{Folder, HandoverError, Message, Role};

/// For answers that need no work at the other end.
const SOON: Duration = Duration::from_secs(10);

/// For a successor's start, which the giver bounds.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// What a predecessor gave.
#[derive(Debug)]
pub struct Taken {
    pub successor: Successor,
    /// By the address that the plan asked for.
    pub listeners: HashMap<SocketAddr, TcpListener>,
    /// The operator's endpoints.
    pub operator: HashMap<Role, TcpListener>,
}

/// The conversation with the predecessor, until this process accepts.
#[derive(Debug)]
pub struct Successor {
    wire: Wire,
}

/// Takes the sockets of the process that runs. It goes on accepting on them.
///
/// # Errors
/// Nobody runs there, or it does not want to.
pub fn take(folder: &Folder) -> Result<Taken, HandoverError> {
    let wire = folder.connect()?;
    wire.send(
        &Message::Take {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        &[],
    )?;
    let (mut listeners, mut operator) = (HashMap::new(), HashMap::new());
    loop {
        match wire.receive(SOON)? {
            (Message::Sockets(roles), handles) if roles.len() == handles.len() => {
                for (role, handle) in roles.into_iter().zip(handles) {
                    let socket = TcpListener::from(handle);
                    match role {
                        Role::Listener(address) => drop(listeners.insert(address, socket)),
                        role => drop(operator.insert(role, socket)),
                    }
                }
            }
            (Message::Complete, _) => break,
            (other, _) => return Err(unexpected(other)),
        }
    }
    info!(
        "took {} listening sockets from process {}",
        listeners.len() + operator.len(),
        wire.peer().unwrap_or_default()
    );
    Ok(Taken {
        successor: Successor { wire },
        listeners,
        operator,
    })
}

impl Successor {
    /// Says that this process could accept on these addresses now, and waits until it may.
    ///
    /// # Errors
    /// The predecessor serves on instead, and says why.
    pub fn prepared(&self, plan: &str, listeners: Vec<SocketAddr>) -> Result<(), HandoverError> {
        self.wire.send(
            &Message::Prepared {
                program: program(),
                plan: plan.to_owned(),
                listeners,
            },
            &[],
        )?;
        match self.wire.receive(SOON)? {
            (Message::Accept, _) => Ok(()),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Says that this process accepts: the predecessor drains and ends.
    ///
    /// # Errors
    /// It has ended already.
    pub fn accepting(&self) -> Result<(), HandoverError> {
        self.wire.send(&Message::Accepting, &[])
    }

    /// Says why this process cannot take over.
    pub fn give_up(&self, reason: &str) {
        // It notices in any case: this process ends.
        let _ = self.wire.send(&Message::Failed(reason.to_owned()), &[]);
    }
}

/// Has the running process start its successor, and tells `hear` how far that is. Gives the
/// successor's process number.
///
/// # Errors
/// Nobody runs there, or the successor could not take over; then the old one serves on.
pub fn ask_to_upgrade(folder: &Folder, mut hear: impl FnMut(&str)) -> Result<u32, HandoverError> {
    let wire = folder.connect()?;
    wire.send(&Message::Upgrade, &[])?;
    loop {
        match wire.receive(FOREVER)? {
            (Message::Progress(text), _) => hear(&text),
            (Message::Done { pid }, _) => return Ok(pid),
            (other, _) => return Err(unexpected(other)),
        }
    }
}

/// What `pingress upgrade` does, for a process that asks itself (SIGQUIT). The outcome is logged.
pub fn upgrade_in_background(folder: Folder) {
    let asking = std::thread::Builder::new()
        .name("upgrade-ask".into())
        .spawn(move || {
            let outcome = ask_to_upgrade(&folder, |text| info!("upgrade: {text}"));
            if let Err(failure) = outcome {
                warn!("no upgrade: {failure}");
            }
        });
    if let Err(failure) = asking {
        warn!("no upgrade: {failure}");
    }
}

/// The file this process runs, as far as the system tells: device, inode, size and time.
pub(super) fn program() -> String {
    let facts = std::fs::metadata("/proc/self/exe");
    facts.map_or_else(
        |_| env!("CARGO_PKG_VERSION").to_owned(),
        |it| format!("{} {} {} {}", it.dev(), it.ino(), it.size(), it.mtime()),
    )
}

fn unexpected(message: Message) -> HandoverError {
    match message {
        Message::Failed(reason) => HandoverError::Refused(reason),
        other => HandoverError::Confused(format!("{other:?}")),
    }
}
