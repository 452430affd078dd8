//! The loader on real folders: what is read, what is kept, what is told.

mod corpus;
mod decode;
mod keep;
mod load;
mod properties;
mod refuse;
mod watching;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{LoadOptions, Loader};
use crate::model::Inventory;

/// A folder of manifests that is gone with the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn loader(&self) -> Loader {
        Loader::new(vec![self.path().to_path_buf()], LoadOptions::default())
    }

    fn load(&self) -> Arc<Inventory> {
        self.loader().load()
    }
}

/// A VirtualService for a host of its own name.
fn service(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: {name}\nspec:\n  hosts: [{name}.example]\n"
    )
}

/// `namespace/name` of all objects in order.
fn names(inventory: &Inventory) -> Vec<String> {
    let keys = inventory.objects.iter().map(|object| &object.key);
    keys.map(|key| format!("{}/{}", key.namespace, key.name))
        .collect()
}

/// `CODE file:line` of all findings, the file without its folder.
fn codes(inventory: &Inventory) -> Vec<String> {
    let findings = inventory.findings.iter();
    findings
        .map(|finding| {
            let origin = finding
                .origin
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let name = Path::new(&origin)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            format!("{} {name}", finding.code.name)
        })
        .collect()
}

fn messages(inventory: &Inventory) -> String {
    inventory
        .findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}
