use proptest::prelude::*;

use super::super::fixture::{anchored, exact, prefix};
use super::*;

fn find(uris: &[UriMatch], path: &str) -> Option<u32> {
    PathIndex::build(uris.iter()).find(path, |number| match &uris[number as usize] {
        UriMatch::Regex(regex) => regex.is_match(path),
        _ => true,
    })
}

fn scan(uris: &[UriMatch], path: &str) -> Option<u32> {
    (0..)
        .zip(uris)
        .find(|(_, uri)| uri.holds(path))
        .map(|(number, _)| number)
}

#[test]
fn an_empty_index_finds_nothing() {
    assert_eq!(find(&[], "/"), None);
    assert_eq!(find(&[], ""), None);
}

#[test]
fn the_smallest_number_wins_over_the_longest_text() {
    let uris = [exact("/a/b/c"), prefix("/a"), prefix("/a/b"), UriMatch::Any];
    assert_eq!(find(&uris, "/a/b/c"), Some(0));
    assert_eq!(find(&uris, "/a/b"), Some(1));
    assert_eq!(find(&uris, "/"), Some(3));
    assert_eq!(find(&uris, ""), Some(3));
}

#[test]
fn more_nested_prefixes_than_one_walk_holds_are_all_tried() {
    // The longest first, so that every list met later has a smaller number.
    let text = "/abcdefghijklmnopqrstuvwxyz";
    let uris: Vec<UriMatch> = (0..=text.len())
        .rev()
        .map(|end| prefix(&text[..end]))
        .collect();
    for end in 0..=text.len() {
        assert_eq!(find(&uris, &text[..end]), Some((text.len() - end) as u32));
    }
}

#[test]
fn candidates_are_tried_in_ascending_order_until_one_holds() {
    let uris = [
        prefix("/"),
        exact("/a"),
        prefix("/a"),
        exact("/a"),
        UriMatch::Any,
        exact("/b"),
    ];
    let index = PathIndex::build(uris.iter());
    let mut tried = Vec::new();
    let found = index.find("/a", |number| {
        tried.push(number);
        number == 4
    });
    assert_eq!((found, tried), (Some(4), vec![0, 1, 2, 3, 4]));
}

#[test]
fn a_regex_is_tried_only_below_its_literal_beginning() {
    let uris: Vec<UriMatch> = (0..100)
        .map(|number| UriMatch::Regex(anchored(&format!("/svc-{number}/[a-z]+"))))
        .collect();
    let index = PathIndex::build(uris.iter());
    let mut tried = 0;
    assert_eq!(
        index.find("/svc-42/x", |number| {
            tried += 1;
            number == 42
        }),
        Some(42)
    );
    assert_eq!(tried, 1);
}

#[test]
fn many_children_are_told_apart() {
    let texts: Vec<String> = (1..=127_u8)
        .map(|byte| format!("/{}/x", byte as char))
        .collect();
    let uris: Vec<UriMatch> = texts.iter().map(|text| exact(text)).collect();
    for (number, text) in (0..).zip(&texts) {
        assert_eq!(find(&uris, text), Some(number));
        assert_eq!(find(&uris, &text[..2]), None);
    }
}

#[test]
fn texts_beyond_ascii_are_found_and_folded_only_in_ascii() {
    let folded = UriMatch::Prefix {
        text: "/é/k".into(),
        ignore_case: true,
    };
    let uris = [exact("/é"), exact("/è"), folded];
    assert_eq!(find(&uris, "/é"), Some(0));
    assert_eq!(find(&uris, "/è"), Some(1));
    assert_eq!(find(&uris, "/é/Kx"), Some(2));
    assert_eq!(find(&uris, "/É/k"), None);
    assert_eq!(find(&uris, "/é/\u{212a}"), None);
}

fn text() -> impl Strategy<Value = String> {
    "/?([abAB/]|é){0,7}"
}

fn uri() -> impl Strategy<Value = UriMatch> {
    let folded = |text: &str, ignore_case: bool| -> Box<str> {
        if ignore_case {
            text.to_ascii_lowercase().into()
        } else {
            text.into()
        }
    };
    prop_oneof![
        1 => Just(UriMatch::Any),
        6 => (text(), any::<bool>())
            .prop_map(move |(text, ignore_case)| UriMatch::Exact { text: folded(&text, ignore_case), ignore_case }),
        6 => (text(), any::<bool>())
            .prop_map(move |(text, ignore_case)| UriMatch::Prefix { text: folded(&text, ignore_case), ignore_case }),
        2 => text().prop_map(|text| UriMatch::Regex(anchored(&format!("{text}[ab]*")))),
        1 => text().prop_map(|text| UriMatch::Regex(anchored(&format!("(?i){text}|/b{text}")))),
        1 => text().prop_map(|text| UriMatch::Regex(anchored(&format!(".*{text}")))),
        1 => text().prop_map(|text| UriMatch::Regex(anchored(&format!("({text})+|{text}é?")))),
    ]
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_in_order_finds(
        uris in proptest::collection::vec(uri(), 0..40),
        paths in proptest::collection::vec(text(), 1..20),
        refused in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let index = PathIndex::build(uris.iter());
        for path in &paths {
            // Some routes have another condition that does not hold.
            let holds = |number: u32| !refused[number as usize] && uris[number as usize].holds(path);
            let mut last = None;
            let found = index.find(path, |number| {
                // Every candidate's text fits, and none is asked twice or too late.
                assert!(matches!(uris[number as usize], UriMatch::Regex(_)) || uris[number as usize].holds(path));
                assert!(last < Some(number));
                last = Some(number);
                holds(number)
            });
            prop_assert_eq!(found, (0..uris.len() as u32).find(|number| holds(*number)));
            prop_assert_eq!(find(&uris, path), scan(&uris, path));
        }
    }
}
