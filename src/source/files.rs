//! The loader: files and folders in, inventory out.
//!
//! It remembers what every file said last. A file that cannot be read or parsed keeps saying
//! that; a folder that disappears as a whole, as an unmounted volume does, keeps its files. Only
//! a file that is gone from a folder that is still there takes its objects with it.

mod file;
mod findings;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::model::tls_files::WorkloadFiles;
use crate::model::{Inventory, Object};

use super::certificates::Certificates;
use super::merge::Merge;
use super::walk::{self, FolderIdentity, Stamp};
use super::yaml::KeyNames;
use file::File;

/// What a load needs to know beside the paths.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Namespace of objects that name none.
    pub namespace: Arc<str>,
    /// Files larger than this are refused unread.
    pub max_file_bytes: u64,
    /// Where the mesh's certificates are, if an object asks for them.
    pub workload: WorkloadFiles,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            max_file_bytes: 16 * 1024 * 1024,
            workload: WorkloadFiles::default(),
        }
    }
}

/// Reads paths into inventories and remembers what it read.
#[derive(Debug)]
pub struct Loader {
    paths: Vec<PathBuf>,
    /// The same paths as a watcher names them.
    absolute: Vec<PathBuf>,
    options: LoadOptions,
    files: BTreeMap<PathBuf, File>,
    /// Folders as last seen, to tell an emptied one from another one in its place.
    folders: HashMap<PathBuf, FolderIdentity>,
    /// Paths that could not be looked into, and why.
    failures: BTreeMap<PathBuf, io::Error>,
    aliased: bool,
    keys: KeyNames,
    merge: Merge,
    certificates: Certificates,
    changes: Changes,
    last: Option<Arc<Inventory>>,
}

/// Objects that came and went since the last inventory.
#[derive(Debug, Default)]
struct Changes {
    removed: Vec<Arc<Object>>,
    added: Vec<Arc<Object>>,
}

impl Loader {
    pub fn new(paths: Vec<PathBuf>, options: LoadOptions) -> Self {
        let absolute = paths
            .iter()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            .collect();
        Self {
            paths,
            absolute,
            options,
            files: BTreeMap::new(),
            folders: HashMap::new(),
            failures: BTreeMap::new(),
            aliased: false,
            keys: KeyNames::default(),
            merge: Merge::default(),
            certificates: Certificates::default(),
            changes: Changes::default(),
            last: None,
        }
    }

    /// The paths as given.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The files that objects name for TLS, to be watched beside the paths.
    pub fn certificate_files(&self) -> Vec<PathBuf> {
        self.certificates.paths().cloned().collect()
    }

    /// Looks at everything; reads again only files that changed.
    pub fn load(&mut self) -> Arc<Inventory> {
        with_room(|| self.look_at_everything())
    }

    /// Looks again at the changed paths only; at everything if none is named.
    pub fn reload(&mut self, changed: &[PathBuf]) -> Arc<Inventory> {
        with_room(|| self.look_at(changed))
    }

    fn look_at_everything(&mut self) -> Arc<Inventory> {
        let survey = walk::survey(&self.paths);
        self.aliased = survey.aliased;
        self.failures = survey.failures.into_iter().collect();
        for (path, identity, entries) in survey.folders {
            let before = self.folders.insert(path.clone(), identity);
            let is_another = before.is_some_and(|before| before != identity);
            if entries == 0 && is_another && self.has_files_below(&path) {
                // An empty mount point, or a folder made anew and not yet filled. It counts as
                // gone until something is in it.
                self.folders
                    .extend(before.map(|before| (path.clone(), before)));
                self.failures.insert(
                    path,
                    io::Error::other("another, empty folder is in its place"),
                );
            }
        }
        let found: BTreeMap<PathBuf, Stamp> = survey.files.into_iter().collect();
        for (path, stamp) in &found {
            if !self
                .files
                .get(path)
                .is_some_and(|file| file.is_current(stamp))
            {
                self.read(path);
            }
        }
        let gone: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|path| !found.contains_key(*path) && !self.is_kept(path))
            .cloned()
            .collect();
        gone.iter().for_each(|path| self.forget(path));
        self.publish()
    }

    fn look_at(&mut self, changed: &[PathBuf]) -> Arc<Inventory> {
        if changed.is_empty() || self.aliased || !self.failures.is_empty() || self.last.is_none() {
            return self.look_at_everything();
        }
        let mut paths: Vec<PathBuf> = Vec::with_capacity(changed.len());
        for path in changed {
            match self.as_named(path) {
                Some(path) => paths.push(path),
                None => return self.load(),
            }
        }
        paths.sort();
        paths.dedup();
        for path in &paths {
            if !self.look_again(path) {
                return self.look_at_everything();
            }
        }
        self.publish()
    }

    /// Looks at one path; `false` if that does not tell what happened.
    fn look_again(&mut self, path: &Path) -> bool {
        let is_known = self.files.contains_key(path);
        let is_named = self.paths.iter().any(|named| named == path);
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                let is_manifest = is_named || path.file_name().is_some_and(walk::is_manifest);
                if !is_known && !is_manifest {
                    return true;
                }
                let identity = Stamp::of(&metadata).identity;
                let is_alias = !is_known
                    && self
                        .files
                        .values()
                        .any(|file| file.identity() == Some(identity));
                if !is_alias {
                    self.read(path);
                }
                !is_alias
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {
                let is_gone = std::fs::symlink_metadata(path).is_err();
                let is_folder_there = path.parent().is_some_and(Path::is_dir);
                if is_known && is_gone && is_folder_there {
                    self.forget(path);
                    return true;
                }
                // A temporary file of an editor that was gone before anybody could look.
                !is_known && is_gone && is_folder_there && !self.has_files_below(path)
            }
            _ => false,
        }
    }

    /// The path as a walk from the named paths would reach it; `None` if it would not, or if a
    /// link on the way may have changed where it leads.
    fn as_named(&self, changed: &Path) -> Option<PathBuf> {
        self.paths
            .iter()
            .zip(&self.absolute)
            .find_map(|(root, absolute)| {
                let below = changed
                    .strip_prefix(root)
                    .or_else(|_| changed.strip_prefix(absolute))
                    .ok()?;
                let is_plain = below.components().all(|part| match part {
                    Component::Normal(name) => !walk::is_hidden(name),
                    _ => false,
                });
                let is_root = below.as_os_str().is_empty();
                is_plain.then(|| {
                    if is_root {
                        root.clone()
                    } else {
                        root.join(below)
                    }
                })
            })
    }

    fn has_files_below(&self, folder: &Path) -> bool {
        self.files
            .range(folder.to_path_buf()..)
            .next()
            .is_some_and(|(path, _)| path.starts_with(folder))
    }

    /// Whether a file that was not found is behind a path that could not be looked into.
    fn is_kept(&self, path: &Path) -> bool {
        path.ancestors()
            .any(|above| self.failures.contains_key(above))
    }

    fn read(&mut self, path: &Path) {
        let file = self
            .files
            .entry(path.to_path_buf())
            .or_insert_with(|| File::new(path));
        if let Some((before, after)) = file.read(path, &self.options, &mut self.keys) {
            self.changes.removed.extend(before);
            self.changes.added.extend(after);
        }
    }

    fn forget(&mut self, path: &Path) {
        if let Some(file) = self.files.remove(path) {
            self.changes.removed.extend(file.into_objects());
        }
    }

    /// The inventory as it is now; the last one if nothing changed.
    fn publish(&mut self) -> Arc<Inventory> {
        let Changes { removed, added } = std::mem::take(&mut self.changes);
        let mut is_changed = !removed.is_empty() || !added.is_empty();
        self.merge.apply(&removed, added);
        is_changed |= self
            .certificates
            .refresh(self.merge.ordered(), &self.options.workload);
        let (findings, incomplete) = findings::of(self);
        if let Some(last) = &self.last
            && !is_changed
            && last.incomplete == incomplete
            && last.findings == findings
        {
            return last.clone();
        }
        let inventory = Arc::new(Inventory {
            objects: [self.merge.ordered(), &self.certificates.objects()].concat(),
            findings,
            incomplete,
            revision: self.last.as_ref().map_or(1, |last| last.revision + 1),
        });
        self.last = Some(inventory.clone());
        inventory
    }
}

/// Runs work on a stack that holds the deepest nesting that is read, whoever calls.
fn with_room<T: Default + Send>(work: impl FnOnce() -> T + Send) -> T {
    const STACK_BYTES: usize = 16 * 1024 * 1024;
    let mut work = Some(work);
    let done = std::thread::scope(|scope| {
        let run = || work.take().map(|work| work());
        let thread = std::thread::Builder::new().name("config-load".to_owned());
        match thread.stack_size(STACK_BYTES).spawn_scoped(scope, run) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => None,
        }
    });
    // Without a thread to spare, the caller's own stack has to do.
    done.or_else(|| work.map(|work| work())).unwrap_or_default()
}
