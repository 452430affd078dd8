//! The running process's side of the hand-over.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use rustix::event::{PollFd, PollFlags, poll};

use super::taker::program;
use super::wire::{BATCH, Wire};
use super::{Folder, HandoverError, Message, Role};
use crate::base::clock;

/// For a first word, and for answers that need no work at the other end.
const SOON: Duration = Duration::from_secs(10);
/// Nobody needs to be woken in between.
const A_WHILE: Duration = Duration::from_secs(3600);
/// How often a child that was started is looked after.
const LOOK: Duration = Duration::from_millis(10);

/// What the process tells of itself; `server` implements it.
pub trait Predecessor: Send + Sync + 'static {
    /// Handles of all listening sockets.
    ///
    /// # Errors
    /// No descriptors are left, or nothing listens yet.
    fn sockets(&self) -> io::Result<Vec<(Role, TcpListener)>>;
    /// The digest of the plan that is served.
    fn plan(&self) -> String;
    /// Why another process that reads the same files would serve less than this one, if it would.
    fn holds_more(&self) -> Option<String>;
    /// A successor accepts: time to drain and end.
    fn succeeded(&self);
}

/// How a successor is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program's path when this process began: an upgrade puts another file there.
    pub program: PathBuf,
    /// The arguments of this process, without its name.
    pub arguments: Vec<OsString>,
}

impl Launch {
    /// As this process was started.
    ///
    /// # Errors
    /// The system does not say which program this is.
    pub fn like_this_process() -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            arguments: std::env::args_os()
                .skip(1)
                .filter(|argument| argument != "--upgrade")
                .collect(),
        })
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .arg("--upgrade")
            .spawn()
    }
}

/// Waits for successors and for `pingress upgrade`.
pub struct Giver<P> {
    listener: UnixListener,
    launch: Launch,
    /// Time that a successor gets to become able to accept.
    patience: Duration,
    predecessor: Arc<P>,
}

impl<P: Predecessor> Giver<P> {
    /// # Errors
    /// The folder cannot be made private, or not be written.
    pub fn new(
        folder: &Folder,
        launch: Launch,
        patience: Duration,
        predecessor: Arc<P>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: folder.listen()?,
            launch,
            patience,
            predecessor,
        })
    }

    /// Serves one conversation after the other, until a successor has taken over. Blocks: to be
    /// run on a thread of its own.
    pub fn serve(self) {
        loop {
            let outcome = match self.next_in(A_WHILE) {
                Ok(Some(wire)) => self.converse(&wire),
                Ok(None) => continue,
                Err(failure) => {
                    // For want of descriptors, for instance.
                    std::thread::sleep(LOOK);
                    Err(failure)
                }
            };
            match outcome {
                Ok(pid) => {
                    info!("process {pid} has taken over");
                    self.predecessor.succeeded();
                    return;
                }
                Err(failure) => warn!("no upgrade, this process serves on: {failure}"),
            }
        }
    }

    /// Gives the successor's process number.
    fn converse(&self, wire: &Wire) -> Result<u32, HandoverError> {
        match wire.receive(SOON)? {
            (Message::Take { version }, _) => {
                info!("a successor of version {version} asks for the sockets");
                let given = self.hand_over(wire);
                tell_failure(wire, &given);
                given
            }
            (Message::Upgrade, _) => {
                let started = self.start_successor(wire);
                match &started {
                    Ok(pid) => wire.send(&Message::Done { pid: *pid }, &[])?,
                    Err(_) => tell_failure(wire, &started),
                }
                started
            }
            (other, _) => Err(HandoverError::Confused(format!("{other:?}"))),
        }
    }

    fn start_successor(&self, asking: &Wire) -> Result<u32, HandoverError> {
        let program = self.launch.program.display();
        let mut child = self.launch.start().map_err(|failure| {
            HandoverError::Refused(format!("cannot start {program}: {failure}"))
        })?;
        let _ = asking.send(
            &Message::Progress(format!("started {program} as process {}", child.id())),
            &[],
        );
        let given = self.await_child(&mut child).and_then(|wire| {
            let _ = asking.send(
                &Message::Progress("it runs; waiting until it can serve the same".to_owned()),
                &[],
            );
            let given = self.hand_over(&wire);
            tell_failure(&wire, &given);
            given
        });
        if given.is_err() {
            // It may have ended by itself already.
            let _ = child.kill();
            let _ = child.wait();
        }
        given
    }

    /// Waits until the child connects.
    fn await_child(&self, child: &mut Child) -> Result<Wire, HandoverError> {
        let started = clock::now();
        loop {
            if let Some(wire) = self.next_in(LOOK)? {
                if wire.peer() == Some(child.id()) {
                    return match wire.receive(SOON)? {
                        (Message::Take { .. }, _) => Ok(wire),
                        (other, _) => Err(HandoverError::Confused(format!("{other:?}"))),
                    };
                }
                let busy = HandoverError::Refused("another upgrade is under way".to_owned());
                tell_failure::<()>(&wire, &Err(busy));
            }
            if let Some(status) = child.try_wait()? {
                return Err(HandoverError::Refused(format!(
                    "the new program ended at once ({status}); its own output says why"
                )));
            }
            if started.elapsed() >= self.patience {
                return Err(HandoverError::Refused(format!(
                    "the new program did not ask for the sockets within {:?}",
                    self.patience
                )));
            }
        }
    }

    /// Who connects within a time, if anybody does.
    fn next_in(&self, time: Duration) -> Result<Option<Wire>, HandoverError> {
        let time = rustix::event::Timespec::try_from(time).unwrap_or_default();
        let mut wanted = [PollFd::new(&self.listener, PollFlags::IN)];
        match poll(&mut wanted, Some(&time)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
            Ok(_) => Ok(Some(Wire::new(self.listener.accept()?.0)?)),
            Err(failure) => Err(io::Error::from(failure).into()),
        }
    }

    fn hand_over(&self, wire: &Wire) -> Result<u32, HandoverError> {
        if let Some(reason) = self.predecessor.holds_more() {
            return Err(HandoverError::Refused(reason));
        }
        let sockets = self.predecessor.sockets()?;
        for batch in sockets.chunks(BATCH) {
            let roles = batch.iter().map(|(role, _)| *role).collect();
            let handles: Vec<_> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
            wire.send(&Message::Sockets(roles), &handles)?;
        }
        wire.send(&Message::Complete, &[])?;
        let (theirs, plan, listeners) = match wire.receive(self.patience)? {
            (
                Message::Prepared {
                    program,
                    plan,
                    listeners,
                },
                _,
            ) => (program, plan, listeners),
            (Message::Failed(reason), _) => return Err(HandoverError::Refused(reason)),
            (other, _) => return Err(HandoverError::Confused(format!("{other:?}"))),
        };
        let missing: Vec<String> = missing(&sockets, &listeners);
        if !missing.is_empty() {
            return Err(HandoverError::Refused(format!(
                "the new program would not listen on {}",
                missing.join(", ")
            )));
        }
        let own = self.predecessor.plan();
        if plan != own && theirs == program() {
            return Err(HandoverError::Refused(
                "the successor is the same program and yet makes another plan: it reads other files or settings; give it those of this process, or wait until a change of the files has been taken up".to_owned(),
            ));
        }
        if plan != own {
            info!("the new program makes another plan than the one served until now");
        }
        wire.send(&Message::Accept, &[])?;
        match wire.receive(SOON)? {
            (Message::Accepting, _) => Ok(wire.peer().unwrap_or_default()),
            (Message::Failed(reason), _) => Err(HandoverError::Refused(reason)),
            (other, _) => Err(HandoverError::Confused(format!("{other:?}"))),
        }
    }
}

/// The listeners that the successor has no use for.
fn missing(sockets: &[(Role, TcpListener)], wanted: &[SocketAddr]) -> Vec<String> {
    let ours = sockets.iter().filter_map(|(role, _)| match role {
        Role::Listener(address) => Some(address),
        _ => None,
    });
    ours.filter(|address| !wanted.contains(address))
        .map(ToString::to_string)
        .collect()
}

fn tell_failure<T>(wire: &Wire, outcome: &Result<T, HandoverError>) {
    if let Err(failure) = outcome {
        // The other end may be what failed.
        let _ = wire.send(&Message::Failed(failure.to_string()), &[]);
    }
}
