//! What a configuration compiles to: `tests/golden/<case>/in/*.yaml` above, `plan.txt` and
//! `findings.txt` below. `UPDATE_GOLDEN=1 cargo test --test golden` rewrites the results, so that a
//! change of meaning is read as a diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pingress::compile::{Compiled, Memory, Options, compile};
use pingress::source::{LoadOptions, Loader};

const FOLDER: &str = "tests/golden";

/// Tests run in the package's folder, so that origins print the same everywhere.
fn compiled(case: &Path) -> Compiled {
    let inventory = Loader::new(vec![case.join("in")], LoadOptions::default()).load();
    compile(&inventory, &mut Memory::default(), &Options::default())
}

fn findings(compiled: &Compiled) -> String {
    let mut text = String::new();
    for finding in &compiled.findings {
        let _ = writeln!(text, "{finding}");
    }
    text
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_compiles_to_what_is_written_beside_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let compiled = compiled(&case);
        for (name, text) in [
            ("plan.txt", compiled.plan.render()),
            ("findings.txt", findings(&compiled)),
        ] {
            let file = case.join(name);
            if update {
                std::fs::write(&file, &text).unwrap();
            } else if std::fs::read_to_string(&file).unwrap_or_default() != text {
                wrong.push(format!("{} differs; it is now:\n{text}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_cases_for_every_part_of_the_semantics() {
    assert!(cases().len() >= 25, "{} cases", cases().len());
}
