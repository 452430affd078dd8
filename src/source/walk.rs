//! What files there are below the paths a user named.
//!
//! Folders are walked in the order of names and symlinks are followed, as ConfigMap mounts need
//! it: `routes.yaml -> ..data/routes.yaml` is read, `..data` itself and everything else whose
//! name begins with two dots is passed over. No folder and no file is visited twice.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file or folder on its device.
pub(super) type Identity = (u64, u64);

/// A folder and when it was made, as far as its file system says: a folder made in the place of a
/// removed one may get its number.
pub(super) type FolderIdentity = (Identity, Option<SystemTime>);

/// What tells that a file has changed without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) identity: Identity,
    pub(super) length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            identity: identity(metadata),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the file last changed, in seconds since the epoch.
    pub(super) fn age_mark(&self) -> i64 {
        self.modified.0.max(self.changed.0)
    }
}

/// The outcome of a walk.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) files: Vec<(PathBuf, Stamp)>,
    /// Folders seen, with how many entries they hold.
    pub(super) folders: Vec<(PathBuf, FolderIdentity, usize)>,
    /// Paths that could not be looked into: named paths, folders, dangling links.
    pub(super) failures: Vec<(PathBuf, io::Error)>,
    /// Whether some file was left out because it is reached on another path too.
    pub(super) aliased: bool,
    seen_files: HashSet<Identity>,
    seen_folders: HashSet<Identity>,
}

/// Looks below all paths.
pub(super) fn survey(paths: &[PathBuf]) -> Survey {
    let mut survey = Survey::default();
    let mut roots: Vec<&PathBuf> = paths.iter().collect();
    roots.sort();
    roots.dedup();
    for root in roots {
        survey.visit(root.clone());
    }
    survey
}

/// Whether a walk reads a file of this name.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !is_hidden(name) && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Whether a walk passes over a name: a ConfigMap's own, or an editor's lock.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"..") || name.starts_with(b".#")
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

impl Survey {
    // The depth of folders is bounded by the length of a path; links cannot add to it, since no
    // folder is entered twice.
    fn visit(&mut self, path: PathBuf) {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => return self.failures.push((path, error)),
        };
        if metadata.is_dir() {
            self.enter(path, &metadata);
        } else if !metadata.is_file() {
            // Opening a pipe would wait for its writer for ever.
            self.failures
                .push((path, io::Error::other("it is not a regular file")));
        } else if self.seen_files.insert(identity(&metadata)) {
            self.files.push((path, Stamp::of(&metadata)));
        } else {
            self.aliased = true;
        }
    }

    fn enter(&mut self, path: PathBuf, metadata: &Metadata) {
        if !self.seen_folders.insert(identity(metadata)) {
            self.aliased = true;
            return;
        }
        let entries = fs::read_dir(&path).and_then(|entries| {
            entries
                .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))))
                .collect::<io::Result<Vec<_>>>()
        });
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.failures.push((path, error)),
        };
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let folder = (identity(metadata), metadata.created().ok());
        self.folders.push((path.clone(), folder, entries.len()));
        for (name, kind) in entries {
            let below = path.join(&name);
            let is_folder = || {
                kind.is_dir() || kind.is_symlink() && fs::metadata(&below).is_ok_and(|m| m.is_dir())
            };
            if is_manifest(&name) || !is_hidden(&name) && is_folder() {
                self.visit(below);
            }
        }
    }
}
