//! Tells which of the watched paths changed, on Linux's inotify through `notify`.
//!
//! Folders are watched with everything below them. Every named path's parent is watched too, so
//! that a file replaced by renaming another over it, a symlink that is turned elsewhere, and a
//! path that does not exist yet are seen. A watch that the system drops, because what it stood
//! for is gone, is set again when there is something to watch.

mod batch;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use notify::{Event, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, Sender};

use super::walk::is_hidden;
use batch::Batch;

/// How often a path that cannot be watched is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Batches that may wait for the reader.
const WAITING_BATCHES: usize = 16;

/// Watches paths until dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: mpsc::Sender<Message>,
}

/// Why changes cannot be watched for.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot watch for changes: {0}")]
    Start(#[source] notify::Error),
    #[error("cannot watch `{path}` for changes: {source}; {hint}")]
    Path {
        path: PathBuf,
        source: notify::Error,
        hint: &'static str,
    },
    #[error("cannot start the thread that watches for changes: {0}")]
    Thread(#[source] std::io::Error),
}

#[derive(Debug)]
enum Message {
    Event(notify::Result<Event>),
    Also(Vec<PathBuf>),
    Stop,
}

impl Watcher {
    /// Starts watching. Each batch names changed paths; an empty one means that anything may
    /// have changed.
    ///
    /// # Errors
    /// When the system refuses a watch, for example because too many are in use.
    pub fn start(paths: &[PathBuf]) -> Result<(Self, Receiver<Vec<PathBuf>>), WatchError> {
        let (stop, messages) = mpsc::channel();
        let events = stop.clone();
        let handler = move |event| {
            // Fails only when the watching has ended.
            let _ = events.send(Message::Event(event));
        };
        let system = notify::recommended_watcher(handler).map_err(WatchError::Start)?;
        let mut watch = Watch {
            system,
            named: paths.len(),
            roots: paths.iter().map(|path| Root::new(path)).collect(),
        };
        watch.set_all()?;
        let (batches, receiver) = tokio::sync::mpsc::channel(WAITING_BATCHES);
        std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || watch.run(&messages, &batches))
            .map_err(WatchError::Thread)?;
        Ok((Self { stop }, receiver))
    }
}

impl Watcher {
    /// Follows these paths too, in place of those of the call before. What cannot be watched is
    /// logged and tried again.
    pub fn also_follow(&self, paths: Vec<PathBuf>) {
        // Fails only when the watching has ended.
        let _ = self.stop.send(Message::Also(paths));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Fails only when the thread has ended already.
        let _ = self.stop.send(Message::Stop);
    }
}

/// A named path.
#[derive(Debug)]
struct Root {
    /// The path as absolute as events are.
    absolute: PathBuf,
    /// Where it leads to if there is a link on the way.
    real: Option<PathBuf>,
    is_watched: bool,
}

impl Root {
    fn new(path: &Path) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Self {
            absolute,
            real: None,
            is_watched: false,
        }
    }

    /// Whether the path itself, or what it leads to, came, went or points elsewhere.
    fn is_moved_by(&self, path: &Path) -> bool {
        // A ConfigMap's files lead through `..data`, which is exchanged as a whole.
        let is_exchange =
            path.file_name().is_some_and(is_hidden) && path.parent() == self.absolute.parent();
        is_exchange
            || [Some(&self.absolute), self.real.as_ref()]
                .into_iter()
                .flatten()
                .any(|own| own.starts_with(path))
    }

    fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.absolute)
            || self
                .real
                .as_ref()
                .is_some_and(|real| path.starts_with(real))
    }
}

struct Watch {
    system: notify::RecommendedWatcher,
    roots: Vec<Root>,
    /// How many of them were named at the start.
    named: usize,
}

impl Watch {
    fn run(mut self, messages: &mpsc::Receiver<Message>, batches: &Sender<Vec<PathBuf>>) {
        let mut batch = Batch::default();
        loop {
            let is_complete = self.roots.iter().all(|root| root.is_watched);
            let retry = (!is_complete).then_some(RETRY);
            let message = match batch.remaining().into_iter().chain(retry).min() {
                Some(timeout) => messages.recv_timeout(timeout),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Event(event)) => self.note(event, &mut batch),
                Ok(Message::Also(paths)) => {
                    self.follow(&paths);
                    // What changed before it was watched was seen by nobody.
                    batch.add_everything();
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !is_complete && self.set_missing() {
                batch.add_everything();
            }
            if batch.is_due() && batch.send(batches).is_err() {
                return;
            }
        }
    }

    /// Replaces the roots that were not named at the start; those that stay are not set anew.
    fn follow(&mut self, paths: &[PathBuf]) {
        let mut before = self.roots.split_off(self.named.min(self.roots.len()));
        for path in paths {
            let root = Root::new(path);
            let known = before
                .iter()
                .position(|known| known.absolute == root.absolute);
            self.roots.push(match known {
                Some(index) => before.swap_remove(index),
                None => root,
            });
        }
        self.set_missing();
    }

    fn note(&mut self, event: notify::Result<Event>, batch: &mut Batch) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                log::warn!("watching for changes: {error}");
                return batch.add_everything();
            }
        };
        if event.need_rescan() {
            self.roots
                .iter_mut()
                .for_each(|root| root.is_watched = false);
            return batch.add_everything();
        }
        if !batch::is_change(event.kind) {
            return;
        }
        for path in event.paths {
            let mut is_ours = false;
            for root in &mut self.roots {
                let is_moved = root.is_moved_by(&path);
                root.is_watched &= !is_moved;
                is_ours |= is_moved || root.holds(&path);
            }
            // A parent is watched for the sake of one name in it.
            if is_ours {
                batch.add(path);
            }
        }
    }

    fn set_all(&mut self) -> Result<(), WatchError> {
        let folders = self.folders();
        (0..self.roots.len()).try_for_each(|index| self.set(index, &folders))
    }

    /// Sets the watches that are not set; whether that makes a folder visible again.
    fn set_missing(&mut self) -> bool {
        let folders = self.folders();
        let mut is_new = false;
        for index in 0..self.roots.len() {
            if self.roots.get(index).is_none_or(|root| root.is_watched) {
                continue;
            }
            if let Err(error) = self.set(index, &folders) {
                log::warn!("{error}");
            }
            is_new |= self
                .roots
                .get(index)
                .is_some_and(|root| root.is_watched && root.absolute.is_dir());
        }
        is_new
    }

    fn folders(&self) -> Vec<PathBuf> {
        let paths = self.roots.iter().map(|root| &root.absolute);
        paths.filter(|path| path.is_dir()).cloned().collect()
    }

    /// Watches a folder with all below it, and the nearest parent of any path that exists.
    fn set(&mut self, index: usize, folders: &[PathBuf]) -> Result<(), WatchError> {
        let Some(root) = self.roots.get_mut(index) else {
            return Ok(());
        };
        root.real = root
            .absolute
            .canonicalize()
            .ok()
            .filter(|real| *real != root.absolute);
        for path in [Some(&root.absolute), root.real.as_ref()]
            .into_iter()
            .flatten()
        {
            let parent = path.ancestors().skip(1).find(|parent| parent.is_dir());
            // Watching it alone would end the watch of all below it.
            let is_covered =
                |parent: &&Path| folders.iter().any(|folder| parent.starts_with(folder));
            if let Some(parent) = parent.filter(|parent| !is_covered(parent)) {
                watch(&mut self.system, parent, RecursiveMode::NonRecursive)?;
            }
        }
        if root.absolute.is_dir() {
            // A watch of what stood here before would hide that something else does now. There
            // may be none.
            let _ = self.system.unwatch(&root.absolute);
            watch(&mut self.system, &root.absolute, RecursiveMode::Recursive)?;
        }
        root.is_watched = root.absolute.exists();
        Ok(())
    }
}

fn watch(
    system: &mut notify::RecommendedWatcher,
    path: &Path,
    mode: RecursiveMode,
) -> Result<(), WatchError> {
    system.watch(path, mode).map_err(|source| {
        let hint = match source.kind {
            notify::ErrorKind::MaxFilesWatch => "raise the sysctl fs.inotify.max_user_watches",
            _ => "see that the path can be read",
        };
        WatchError::Path {
            path: path.to_path_buf(),
            source,
            hint,
        }
    })
}
