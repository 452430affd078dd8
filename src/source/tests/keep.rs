//! What happens to objects when their files change, break or go away.

use super::*;
use std::os::unix::fs::symlink;

#[test]
fn a_broken_file_keeps_what_it_said_until_it_is_mended() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", service("a"));
    let mut loader = folder.loader();
    assert_eq!(names(&loader.load()), ["default/a"]);

    folder.write("a.yaml", "spec: [");
    let broken = loader.reload(std::slice::from_ref(&path));
    assert_eq!(names(&broken), ["default/a"]);
    assert_eq!(codes(&broken), ["InvalidYaml a.yaml:1"]);
    assert!(messages(&broken).contains("stays in force"));
    assert!(!broken.incomplete);

    folder.write("a.yaml", service("b"));
    let mended = loader.reload(&[path]);
    assert_eq!(names(&mended), ["default/b"]);
    assert_eq!(codes(&mended), [""; 0]);
}

#[test]
fn a_broken_file_without_an_earlier_version_leaves_the_load_incomplete() {
    let folder = Folder::new();
    folder.write("a.yaml", "spec: [");
    let mut loader = folder.loader();
    assert!(loader.load().incomplete);
    folder.write("a.yaml", service("a"));
    assert!(!loader.load().incomplete);
}

#[test]
fn a_document_that_stops_being_an_object_keeps_the_file_as_it_was() {
    let folder = Folder::new();
    folder.write("a.yaml", service("a"));
    let mut loader = folder.loader();
    loader.load();
    let path = folder.write("a.yaml", service("a").replace("kind:", "kin:"));
    let inventory = loader.reload(&[path]);
    assert_eq!(names(&inventory), ["default/a"]);
    assert_eq!(codes(&inventory), ["NotAnObject a.yaml:1"]);
}

#[test]
fn a_file_that_is_emptied_first_and_filled_later_never_loses_its_objects() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", service("a"));
    let mut loader = folder.loader();
    loader.load();
    folder.write("a.yaml", "");
    let inventory = loader.reload(std::slice::from_ref(&path));
    assert_eq!(names(&inventory), ["default/a"]);
    assert_eq!(codes(&inventory), ["InvalidYaml a.yaml"]);
    folder.write("a.yaml", "# emptied for good");
    assert_eq!(names(&loader.reload(&[path])), [""; 0]);
}

#[test]
fn a_removed_file_takes_its_objects_with_it() {
    let folder = Folder::new();
    folder.write("b.yaml", service("b"));
    let path = folder.write("a.yaml", service("a"));
    let mut loader = folder.loader();
    loader.load();
    fs::remove_file(&path).unwrap();
    assert_eq!(names(&loader.reload(&[path])), ["default/b"]);
    fs::remove_file(folder.at("b.yaml")).unwrap();
    assert_eq!(names(&loader.load()), [""; 0]);
}

#[test]
fn a_removed_subfolder_takes_its_objects_with_it() {
    let folder = Folder::new();
    folder.write("a.yaml", service("a"));
    folder.write("sub/b.yaml", service("b"));
    let mut loader = folder.loader();
    loader.load();
    fs::remove_dir_all(folder.at("sub")).unwrap();
    assert_eq!(
        names(&loader.reload(&[folder.at("sub/b.yaml"), folder.at("sub")])),
        ["default/a"]
    );
}

#[test]
fn a_named_folder_or_file_that_vanishes_keeps_what_was_there() {
    let folder = Folder::new();
    let file = folder.write("single.yaml", service("single"));
    folder.write("conf/a.yaml", service("a"));
    let mut loader = Loader::new(
        vec![folder.at("conf"), file.clone()],
        LoadOptions::default(),
    );
    loader.load();
    fs::remove_dir_all(folder.at("conf")).unwrap();
    fs::remove_file(&file).unwrap();
    for inventory in [
        loader.reload(&[folder.at("conf/a.yaml"), file.clone()]),
        loader.load(),
    ] {
        assert_eq!(names(&inventory), ["default/a", "default/single"]);
        assert_eq!(
            codes(&inventory),
            ["UnreadableFile conf", "UnreadableFile single.yaml"]
        );
        assert!(messages(&inventory).contains("stays in force"));
        assert!(!inventory.incomplete);
    }

    // An empty folder in its place is a mount point without its volume.
    fs::create_dir(folder.at("conf")).unwrap();
    let inventory = loader.load();
    assert_eq!(names(&inventory), ["default/a", "default/single"]);

    folder.write("conf/b.yaml", service("b"));
    fs::write(&file, service("single")).unwrap();
    let inventory = loader.load();
    assert_eq!(names(&inventory), ["default/b", "default/single"]);
    assert_eq!(codes(&inventory), [""; 0]);
}

#[test]
fn a_new_file_is_found_by_its_name_alone() {
    let folder = Folder::new();
    folder.write("a.yaml", service("a"));
    let mut loader = folder.loader();
    let before = loader.load();
    let path = folder.write("b.yaml", service("b"));
    let other = folder.write("notes.txt", "none");
    let after = loader.reload(&[path, other]);
    assert_eq!(names(&after), ["default/a", "default/b"]);
    assert!(
        Arc::ptr_eq(&before.objects[0], &after.objects[0]),
        "unchanged files are not read again"
    );
    assert_eq!(after.revision, before.revision + 1);
}

#[test]
fn nothing_new_is_the_same_inventory() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", service("a"));
    let mut loader = folder.loader();
    let before = loader.load();
    folder.write("a.yaml", service("a"));
    assert!(Arc::ptr_eq(&before, &loader.reload(&[path])));
    assert!(Arc::ptr_eq(&before, &loader.load()));
    assert!(Arc::ptr_eq(&before, &loader.reload(&[])));
}

#[test]
fn a_config_map_is_exchanged_as_a_whole() {
    let folder = Folder::new();
    let version = |name: &str, routes: &str| folder.write(&format!("..{name}/routes.yaml"), routes);
    version("1", &service("one"));
    symlink("..1", folder.at("..data")).unwrap();
    symlink("..data/routes.yaml", folder.at("routes.yaml")).unwrap();
    let mut loader = folder.loader();
    let inventory = loader.load();
    assert_eq!(names(&inventory), ["default/one"]);
    assert!(
        inventory.objects[0]
            .origin
            .to_string()
            .ends_with("/routes.yaml:1")
    );

    version("2", &service("two"));
    symlink("..2", folder.at("..data_tmp")).unwrap();
    fs::rename(folder.at("..data_tmp"), folder.at("..data")).unwrap();
    fs::remove_dir_all(folder.at("..1")).unwrap();
    let inventory = loader.reload(&[folder.at("..data")]);
    assert_eq!(names(&inventory), ["default/two"]);
    assert_eq!(codes(&inventory), [""; 0]);
}

#[test]
fn a_file_reached_on_two_paths_is_read_once_and_outlives_either() {
    let folder = Folder::new();
    folder.write("real/a.yaml", service("a"));
    symlink("real", folder.at("link")).unwrap();
    let paths = vec![
        folder.path().to_path_buf(),
        folder.at("real/a.yaml"),
        folder.at("real"),
    ];
    let mut loader = Loader::new(paths, LoadOptions::default());
    let inventory = loader.load();
    assert_eq!(names(&inventory), ["default/a"]);
    assert_eq!(codes(&inventory), [""; 0]);
    fs::remove_file(folder.at("link")).unwrap();
    assert_eq!(names(&loader.reload(&[folder.at("link")])), ["default/a"]);
}

#[test]
fn an_unreadable_file_keeps_what_it_said() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.write("a.yaml", service("a"));
    let mut loader = folder.loader();
    loader.load();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        eprintln!("skipped: this user reads everything");
        return;
    }
    let inventory = loader.reload(&[path]);
    assert_eq!(names(&inventory), ["default/a"]);
    assert_eq!(codes(&inventory), ["UnreadableFile a.yaml"]);
}
