//! The loader: files and folders in, inventory out.

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::Inventory;

/// What a load needs to know beside the paths.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Namespace of objects that name none.
    pub namespace: Arc<str>,
    /// Files larger than this are refused unread.
    pub max_file_bytes: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            max_file_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Reads paths into inventories and remembers what it read.
pub struct Loader {
    paths: Vec<PathBuf>,
    last: Arc<Inventory>,
}

impl Loader {
    pub fn new(paths: Vec<PathBuf>, _options: LoadOptions) -> Self {
        Self {
            paths,
            last: Arc::default(),
        }
    }

    /// The paths as given.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Looks at everything; reads again only files that changed.
    pub fn load(&mut self) -> Arc<Inventory> {
        self.last.clone()
    }

    /// Looks again at the changed paths only; at everything if none is named.
    pub fn reload(&mut self, _changed: &[PathBuf]) -> Arc<Inventory> {
        self.last.clone()
    }
}
