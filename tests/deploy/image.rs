//! The Dockerfile, read as a list of instructions: no container engine runs in the tests.

use super::{read, root};

/// Each instruction with its arguments, continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read(&root("deploy/docker/Dockerfile"));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    lines
        .join("\n")
        .replace("\\\n", " ")
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// What an `apt-get install` of a RUN names.
fn installed(run: &str) -> Vec<&str> {
    let (_, rest) = run.split_once("apt-get install").unwrap();
    let rest = rest.split("&&").next().unwrap();
    rest.split_whitespace()
        .filter(|word| !word.starts_with('-'))
        .collect()
}

#[test]
fn every_stage_is_a_named_and_numbered_version() {
    let stages: Vec<String> = instructions()
        .into_iter()
        .filter(|(word, _)| word == "FROM")
        .map(|(_, rest)| rest)
        .collect();
    assert_eq!(stages.len(), 2);
    for stage in &stages {
        let (image, name) = stage.split_once(" AS ").expect("a named stage");
        let (_, tag) = image.rsplit_once(':').expect("a tag");
        assert!(tag.starts_with(|c: char| c.is_ascii_digit()), "{image}");
        assert!(tag.matches('.').count() >= 1, "{image}");
        assert!(!name.is_empty());
    }
    assert!(!read(&root("deploy/docker/Dockerfile")).contains("latest"));
}

#[test]
fn the_image_builds_with_the_packages_of_the_makefile() {
    let makefile = read(&root("Makefile"));
    let packages = makefile
        .lines()
        .find_map(|line| line.strip_prefix("BUILD_PACKAGES = "))
        .unwrap();
    let instructions = instructions();
    let (_, first) = instructions.iter().find(|(word, _)| word == "RUN").unwrap();
    assert_eq!(
        installed(first),
        packages.split_whitespace().collect::<Vec<_>>()
    );
}

#[test]
fn the_image_runs_as_a_numbered_user_that_is_not_root() {
    let instructions = instructions();
    let last = |wanted: &str| {
        let found = instructions.iter().rev().find(|(word, _)| word == wanted);
        found.unwrap_or_else(|| panic!("no {wanted}")).1.clone()
    };
    let user = last("USER");
    let (user, group) = user.split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    assert_eq!(last("ENTRYPOINT"), r#"["/usr/local/bin/pingress", "run"]"#);
    for port in last("EXPOSE").split_whitespace() {
        assert!(port.parse::<u16>().unwrap() > 1023);
    }
}

#[test]
fn the_build_is_given_all_that_cargo_needs() {
    let ignore = read(&root(".dockerignore"));
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    let given: Vec<&str> = lines.map(|line| line.strip_prefix('!').unwrap()).collect();
    for path in &given {
        assert!(root(path).exists(), "{path}");
    }
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches", "LICENSE"] {
        assert!(given.contains(&needed), "{needed}");
    }
    let embedded = embedded(&root("src"));
    assert!(!embedded.is_empty());
    for folder in embedded {
        assert!(
            given.contains(&&*folder),
            "{folder} is built into the program"
        );
    }
}

/// The folders beside `src` from which the program takes files into itself.
fn embedded(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(embedded(&path));
            continue;
        }
        let source = read(&path);
        for name in source.split("include_str!(\"").skip(1) {
            let mut parts = name.split(['/', '"']).skip_while(|part| *part == "..");
            found.extend(
                parts
                    .next()
                    .filter(|_| name.starts_with("../.."))
                    .map(Into::into),
            );
        }
    }
    found
}
