//! The rules of the house: which room may import which, how long a file may be, what it starts with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and what they may import, beside themselves.
fn rooms() -> BTreeMap<&'static str, Vec<&'static str>> {
    let all = vec![
        "base", "model", "source", "compile", "plan", "policy", "observe", "upstream", "listener",
        "proxy", "admin",
    ];
    BTreeMap::from([
        ("base", vec![]),
        ("model", vec!["base"]),
        ("source", vec!["base", "model"]),
        ("compile", vec!["base", "model", "plan", "policy"]),
        ("plan", vec!["base", "policy"]),
        ("policy", vec!["base"]),
        ("observe", vec!["base", "plan"]),
        ("upstream", vec!["base", "plan", "policy", "observe"]),
        ("listener", vec!["base", "plan", "observe"]),
        (
            "proxy",
            vec!["base", "plan", "policy", "upstream", "observe", "listener"],
        ),
        // The explanation of a request applies the same rewrites and edits as the proxy does.
        (
            "admin",
            vec!["base", "plan", "policy", "upstream", "observe"],
        ),
        ("server", all.clone()),
        ("cli", [all, vec!["server"]].concat()),
    ])
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in folders {
        if root.join(folder).is_dir() {
            files(&root.join(folder), &mut found);
        }
    }
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root).unwrap().to_owned(), text)
        })
        .collect()
}

fn room(path: &Path) -> Option<String> {
    let name = path
        .components()
        .nth(1)?
        .as_os_str()
        .to_str()?
        .trim_end_matches(".rs")
        .to_owned();
    rooms().contains_key(name.as_str()).then_some(name)
}

/// Files that only a test build contains.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        let name = name.trim_end_matches(".rs");
        name.ends_with("tests") || name == "fixture"
    })
}

/// The text without its trailing test module and without comments.
fn code(text: &str) -> String {
    let text = text
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_room_imports_only_the_rooms_it_may() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for (path, text) in sources(&["src"]) {
        let Some(room) = room(&path).filter(|_| !is_test(&path)) else {
            continue;
        };
        let text = code(&text);
        for part in text.split("crate::").skip(1) {
            let groups: Vec<&str> = match part.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap_or("").split(',').collect(),
                None => vec![part],
            };
            for group in groups {
                let target: String = group
                    .trim()
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                if target != room
                    && rooms.contains_key(target.as_str())
                    && !rooms[room.as_str()].contains(&target.as_str())
                {
                    wrong.push(format!("{} imports {target}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_two_rooms_import_each_other() {
    fn reaches(from: &str, to: &str, rooms: &BTreeMap<&str, Vec<&str>>, depth: usize) -> bool {
        depth > 0
            && rooms[from]
                .iter()
                .any(|next| *next == to || reaches(next, to, rooms, depth - 1))
    }
    let rooms = rooms();
    for room in rooms.keys() {
        assert!(
            !reaches(room, room, &rooms, rooms.len()),
            "{room} reaches itself"
        );
    }
}

#[test]
fn pingora_server_and_session_types_are_named_only_where_requests_and_sockets_live() {
    let allowed = ["listener", "proxy", "upstream", "server", "admin"];
    for (path, text) in sources(&["src"]) {
        let Some(room) = room(&path).filter(|_| !is_test(&path)) else {
            continue;
        };
        let text = code(&text)
            .replace("pingora::http", "")
            .replace("pingora_http", "");
        let named = text.contains("pingora_") || text.contains("pingora::");
        assert!(
            !named || allowed.contains(&room.as_str()),
            "{} names Pingora",
            path.display()
        );
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    for (path, text) in sources(&["src", "tests", "benches"]) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in sources(&["src", "benches"]) {
        assert!(
            text.starts_with("//!") || is_test(&path),
            "{} has no module doc",
            path.display()
        );
    }
}

#[test]
fn nothing_outside_tests_can_panic_on_purpose() {
    for (path, text) in sources(&["src"]) {
        if is_test(&path) {
            continue;
        }
        let text = code(&text);
        for banned in [
            ".unwrap()",
            ".expect(",
            "panic!(",
            "todo!(",
            "unimplemented!(",
            "unsafe {",
        ] {
            assert!(!text.contains(banned), "{} uses {banned}", path.display());
        }
    }
}

#[test]
fn names_are_the_fields_nouns() {
    for (path, text) in sources(&["src"]) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["utils", "util", "common", "misc", "helpers"].contains(&name.as_str()),
            "{}",
            path.display()
        );
        for line in code(&text).lines() {
            for kind in ["struct ", "enum ", "trait "] {
                let Some(rest) = line
                    .trim_start()
                    .trim_start_matches("pub ")
                    .strip_prefix(kind)
                else {
                    continue;
                };
                let noun: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric())
                    .collect();
                for banned in ["Manager", "Helper", "Info"] {
                    assert!(!noun.ends_with(banned), "{}: {noun}", path.display());
                }
            }
        }
    }
}

#[test]
fn time_is_asked_only_from_the_clock() {
    for (path, text) in sources(&["src"]) {
        if is_test(&path) || path.ends_with("base/clock.rs") {
            continue;
        }
        let text = code(&text);
        for banned in ["Instant::now()", "SystemTime::now()"] {
            assert!(!text.contains(banned), "{} asks {banned}", path.display());
        }
    }
}
