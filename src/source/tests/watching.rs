//! Changes on disk arrive as batches, and what they name suffices to be up to date.

use std::os::unix::fs::symlink;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::*;
use crate::source::Watcher;

/// Applies batches until the inventory is as expected.
async fn until(
    loader: &mut Loader,
    changes: &mut Receiver<Vec<PathBuf>>,
    expected: &[&str],
) -> Arc<Inventory> {
    let mut latest = loader.reload(&[]);
    let reached = async {
        while names(&latest) != expected {
            let changed = changes.recv().await.expect("the watcher lives");
            latest = loader.reload(&changed);
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), reached).await;
    assert!(
        outcome.is_ok(),
        "expected {expected:?}, got {:?}",
        names(&latest)
    );
    latest
}

/// As [`until`], but what changed must have been named: nothing else is looked at.
async fn until_named(loader: &mut Loader, changes: &mut Receiver<Vec<PathBuf>>, expected: &[&str]) {
    let reached = async {
        loop {
            let changed = changes.recv().await.expect("the watcher lives");
            assert!(!changed.is_empty(), "the change was not named");
            if names(&loader.reload(&changed)) == expected {
                return;
            }
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), reached).await;
    assert!(outcome.is_ok(), "expected {expected:?}");
}

fn watch(paths: Vec<PathBuf>) -> (Loader, Watcher, Receiver<Vec<PathBuf>>) {
    let (watcher, changes) = Watcher::start(&paths).unwrap();
    let mut loader = Loader::new(paths, LoadOptions::default());
    loader.load();
    (loader, watcher, changes)
}

#[tokio::test]
async fn writing_renaming_and_removing_a_file_are_named() {
    let folder = Folder::new();
    folder.write("a.yaml", service("a"));
    let (mut loader, _watcher, mut changes) = watch(vec![folder.path().to_path_buf()]);
    folder.write("a.yaml", service("b"));
    until_named(&mut loader, &mut changes, &["default/b"]).await;

    // Editors write beside the file and rename over it.
    folder.write(".a.yaml.tmp", service("c"));
    fs::rename(folder.at(".a.yaml.tmp"), folder.at("a.yaml")).unwrap();
    until_named(&mut loader, &mut changes, &["default/c"]).await;

    fs::remove_file(folder.at("a.yaml")).unwrap();
    until_named(&mut loader, &mut changes, &[]).await;
}

#[tokio::test]
async fn new_folders_are_watched_too() {
    let folder = Folder::new();
    let (mut loader, _watcher, mut changes) = watch(vec![folder.path().to_path_buf()]);
    folder.write("new/deep/a.yaml", service("a"));
    until(&mut loader, &mut changes, &["default/a"]).await;
    folder.write("new/deep/a.yaml", service("b"));
    until(&mut loader, &mut changes, &["default/b"]).await;
}

#[tokio::test]
async fn the_exchange_of_a_config_map_is_seen_for_folders_and_single_files() {
    for single in [false, true] {
        let folder = Folder::new();
        folder.write("..1/routes.yaml", service("one"));
        symlink("..1", folder.at("..data")).unwrap();
        symlink("..data/routes.yaml", folder.at("routes.yaml")).unwrap();
        let path = if single {
            folder.at("routes.yaml")
        } else {
            folder.path().to_path_buf()
        };
        let (mut loader, _watcher, mut changes) = watch(vec![path]);
        for (version, name) in [(2, "two"), (3, "three")] {
            folder.write(&format!("..{version}/routes.yaml"), service(name));
            symlink(format!("..{version}"), folder.at("..data_tmp")).unwrap();
            fs::rename(folder.at("..data_tmp"), folder.at("..data")).unwrap();
            fs::remove_dir_all(folder.at(&format!("..{}", version - 1))).unwrap();
            until(&mut loader, &mut changes, &[&format!("default/{name}")]).await;
        }
    }
}

#[tokio::test]
async fn a_single_file_is_followed_through_replacement_and_loss() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", service("a"));
    let (mut loader, _watcher, mut changes) = watch(vec![path.clone()]);
    fs::remove_file(&path).unwrap();
    folder.write("other.yaml", service("other"));
    folder.write("tmp", service("b"));
    fs::rename(folder.at("tmp"), &path).unwrap();
    until(&mut loader, &mut changes, &["default/b"]).await;
    folder.write("a.yaml", service("c"));
    until(&mut loader, &mut changes, &["default/c"]).await;
}

#[tokio::test]
async fn a_folder_that_vanishes_and_returns_is_watched_again() {
    let folder = Folder::new();
    folder.write("conf/a.yaml", service("a"));
    let (mut loader, _watcher, mut changes) = watch(vec![folder.at("conf")]);
    fs::remove_dir_all(folder.at("conf")).unwrap();
    let changed = changes.recv().await.unwrap();
    assert_eq!(names(&loader.reload(&changed)), ["default/a"]);
    folder.write("conf/b.yaml", service("b"));
    until(&mut loader, &mut changes, &["default/b"]).await;
    folder.write("conf/b.yaml", service("c"));
    until(&mut loader, &mut changes, &["default/c"]).await;
}

#[tokio::test]
async fn a_link_in_place_of_the_folder_may_be_turned_elsewhere() {
    let folder = Folder::new();
    folder.write("1/a.yaml", service("a"));
    folder.write("2/b.yaml", service("b"));
    symlink("1", folder.at("current")).unwrap();
    let (mut loader, _watcher, mut changes) = watch(vec![folder.at("current")]);
    symlink("2", folder.at("next")).unwrap();
    fs::rename(folder.at("next"), folder.at("current")).unwrap();
    until(&mut loader, &mut changes, &["default/b"]).await;
    folder.write("2/b.yaml", service("c"));
    until(&mut loader, &mut changes, &["default/c"]).await;
}

#[tokio::test]
async fn dropping_the_watcher_ends_the_batches() {
    let folder = Folder::new();
    let (_, watcher, mut changes) = watch(vec![folder.path().to_path_buf()]);
    drop(watcher);
    while changes.recv().await.is_some() {}
}
