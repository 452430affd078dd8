//! Bad input: a clear finding each, no panic, no hang.

use super::*;
use crate::base::Finding;

/// The only finding of a folder with one bad file and one good one, which is served.
fn only_finding(content: impl AsRef<[u8]>) -> Finding {
    let folder = Folder::new();
    folder.write("bad.yaml", content);
    folder.write("good.yaml", service("good"));
    let inventory = folder.load();
    assert_eq!(names(&inventory), ["default/good"]);
    assert_eq!(inventory.findings.len(), 1, "{}", messages(&inventory));
    inventory.findings[0].clone()
}

#[test]
fn broken_yaml_is_told_with_line_column_and_remedy() {
    let cases: &[(&[u8], &str, u32, &str)] = &[
        (
            b"a: 1\nb: 2\na: 3\n",
            "the key `a` is given twice in the same map (column 1)",
            3,
            "keep one",
        ),
        (b"a:\n\tb: 1\n", "tabs disallowed", 2, "indent with spaces"),
        (
            b"a: b: c\n",
            "mapping values are not allowed in this context (column 5)",
            1,
            "correct",
        ),
        (
            b"x: 1\ny: {{ .Values.y }}\n",
            "(column",
            2,
            "render the template",
        ),
        (
            b"a: *nowhere\n",
            "alias references unknown anchor",
            1,
            "correct",
        ),
        (b"a: [1, 2\n", "unclosed bracket", 1, "correct"),
        (
            b"a: 1\nb: \xff\xfe\n",
            "not UTF-8 text: 0xff at byte 8",
            2,
            "save it as UTF-8",
        ),
        (
            b"\x7fELF\0\0",
            "the file is binary: 0x00 at byte 4",
            1,
            "keep it out",
        ),
        (
            b"\xff\xfea\0:\0",
            "not UTF-8 text: 0xff at byte 0",
            1,
            "save it as UTF-8",
        ),
    ];
    for (content, message, line, hint) in cases {
        let finding = only_finding(content);
        assert_eq!(finding.code.name, "InvalidYaml", "{finding}");
        assert!(finding.message.contains(message), "{finding}");
        assert_eq!(
            finding.origin.as_ref().unwrap().position.line,
            *line,
            "{finding}"
        );
        assert!(finding.hint.starts_with(hint), "{finding}");
    }
}

#[test]
fn deep_nesting_of_either_style_is_refused_without_overflowing_the_stack() {
    let flow = "[".repeat(100_000);
    let closed = "[".repeat(5_000) + &"]".repeat(5_000);
    let maps = "{a: ".repeat(5_000) + &"}".repeat(5_000);
    let sequences = "- ".repeat(50_000) + "a";
    let block: String = (0..2_000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    for text in [flow, closed, maps, sequences, block] {
        let finding = only_finding(&text);
        assert!(finding.message.contains("too complex"), "{finding}");
    }
}

#[test]
fn nesting_within_the_limit_is_read() {
    let folder = Folder::new();
    let deep = "[".repeat(60) + &"]".repeat(60);
    folder.write(
        "a.yaml",
        service("a").replace("spec:", &format!("status: {deep}\nspec:")),
    );
    assert_eq!(names(&folder.load()), ["default/a"]);
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let finding = only_finding(bomb);
    assert!(finding.message.contains("too complex"), "{finding}");
    assert!(finding.hint.contains("fewer aliases"), "{finding}");
}

#[test]
fn files_above_the_limit_are_refused_unread() {
    let folder = Folder::new();
    let path = folder.write("big.yaml", service("big"));
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(17 * 1024 * 1024)
        .unwrap();
    let inventory = folder.load();
    assert_eq!(codes(&inventory), ["FileTooLarge big.yaml"]);
    assert!(
        messages(&inventory).contains("17825792 bytes"),
        "{}",
        messages(&inventory)
    );
    assert!(inventory.incomplete);
}

#[test]
fn empty_files_are_fine_and_an_empty_folder_is_a_warning() {
    let folder = Folder::new();
    folder.write("empty.yaml", "");
    folder.write("comment.yaml", "# nothing yet\n---\n");
    let inventory = folder.load();
    assert_eq!(codes(&inventory), ["NoObjects "]);
    assert!(!inventory.incomplete);
    folder.write("a.yaml", format!("\u{feff}{}", service("a")));
    assert_eq!(codes(&folder.load()), [""; 0]);
}

#[test]
fn documents_that_are_no_objects_are_told_and_the_rest_of_the_file_is_read() {
    let folder = Folder::new();
    let text = [
        "just: values\n",
        "- a\n- b\n",
        "kind: VirtualService\nmetadata: {name: a}\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {namespace: x}\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: 5}\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: n}\n",
        "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: a}\n",
        &service("good"),
    ];
    folder.write("a.yaml", text.join("---\n"));
    let inventory = folder.load();
    assert_eq!(names(&inventory), ["default/good"]);
    assert_eq!(
        codes(&inventory),
        [
            "NotAnObject a.yaml:1",
            "NotAnObject a.yaml:3",
            "NotAnObject a.yaml:6",
            "NotAnObject a.yaml:9",
            "NotAnObject a.yaml:13",
            "NotAnObject a.yaml:17",
            "UnknownApiVersion a.yaml:21",
        ]
    );
    let told = messages(&inventory);
    for part in [
        "is a list, not an object",
        "has no `apiVersion`",
        "has no `metadata.name`",
        "`metadata.name` is a number",
        "`metadata.namespace` is a boolean",
        "use `networking.istio.io/v1`",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!inventory.incomplete);
}

#[test]
fn a_named_path_that_does_not_exist_is_an_error_and_the_load_incomplete() {
    let folder = Folder::new();
    let inventory = Loader::new(vec![folder.at("nowhere")], LoadOptions::default()).load();
    assert_eq!(codes(&inventory), ["UnreadableFile nowhere"]);
    assert!(inventory.incomplete);
}

#[test]
fn links_in_circles_and_dangling_ones_do_not_hang() {
    let folder = Folder::new();
    folder.write("sub/a.yaml", service("a"));
    std::os::unix::fs::symlink(folder.path(), folder.at("sub/up")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", folder.at("loop.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.at("dangling.yaml")).unwrap();
    let inventory = folder.load();
    assert_eq!(names(&inventory), ["default/a"]);
    assert_eq!(
        codes(&inventory),
        ["UnreadableFile dangling.yaml", "UnreadableFile loop.yaml"]
    );
    assert!(inventory.incomplete);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let folder = Folder::new();
    let path = folder.at("pipe.yaml");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(codes(&folder.load()), ["UnreadableFile pipe.yaml"]);
}
