//! The private folder with the socket that a successor and `pingress upgrade` connect to.
//!
//! Nobody but the process's own user may enter it: who can take the sockets can take the traffic.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::wire::Wire;
use super::{HandoverError, Role};

/// Its place: of the settings, or by the operator's port, which only one process of a machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder named in the settings; if none is, one below systemd's `RUNTIME_DIRECTORY`,
    /// `XDG_RUNTIME_DIR`, `/run` for root, or the folder for temporary files.
    pub fn of(setting: &str, admin_port: u16) -> Self {
        if !setting.is_empty() {
            return Self(setting.into());
        }
        let user = rustix::process::geteuid();
        let named = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"];
        let named = named.iter().find_map(std::env::var_os);
        let base = match named.filter(|path| !path.is_empty()) {
            Some(path) => PathBuf::from(path).join(format!("pingress-{admin_port}")),
            None if user.is_root() => format!("/run/pingress-{admin_port}").into(),
            None => std::env::temp_dir().join(format!("pingress-{}-{admin_port}", user.as_raw())),
        };
        Self(base)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn socket(&self) -> PathBuf {
        self.0.join("upgrade.sock")
    }

    /// Makes the folder and listens in it. A socket that a killed process left is replaced.
    ///
    /// # Errors
    /// It cannot be made, or others may enter it.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        let facts = fs::symlink_metadata(&self.0)?;
        if !facts.is_dir() || facts.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(
                "it is no folder, or belongs to somebody else",
            ));
        }
        if facts.mode() & 0o077 != 0 {
            fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))?;
        }
        // Whoever holds the operator's port is the only one to listen here, so what lies here was
        // left behind, or belongs to the process that is handing over.
        match fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(self.socket())
    }

    /// A conversation with the process that listens here.
    pub(super) fn connect(&self) -> Result<Wire, HandoverError> {
        let stream =
            UnixStream::connect(self.socket()).map_err(|source| HandoverError::NobodyThere {
                path: self.socket().display().to_string(),
                source,
            })?;
        Wire::new(stream)
    }

    /// Takes the socket away when the process ends without a successor.
    pub fn leave(&self) {
        let _ = fs::remove_file(self.socket());
    }
}

impl Role {
    /// The settings key of an operator's endpoint.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::Listener(_) => None,
            Self::Admin => Some("gateway.admin.bind"),
            Self::Status => Some("gateway.status.bind"),
            Self::Metrics => Some("gateway.metrics.bind"),
        }
    }
}
