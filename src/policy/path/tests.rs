use proptest::prelude::*;

use super::*;

fn with(path: &str, normalization: PathNormalization) -> String {
    normalize(path, normalization).unwrap().into_owned()
}

fn base(path: &str) -> String {
    with(path, PathNormalization::Base)
}

#[test]
fn a_target_is_split_at_the_first_question_mark_and_loses_its_fragment() {
    assert_eq!(split_target("/a?b?c"), ("/a", Some("b?c")));
    assert_eq!(split_target("/a#b?c"), ("/a", None));
    assert_eq!(split_target("/a?b#c"), ("/a", Some("b")));
    assert_eq!(split_target("/a?"), ("/a", Some("")));
}

#[test]
fn base_resolves_dot_segments_also_escaped_ones() {
    for (path, normal) in [
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a//../b", "/a/b"),
        ("/a/.../b", "/a/.../b"),
        ("/a/..b/.c", "/a/..b/.c"),
        ("/.", "/"),
    ] {
        assert_eq!(base(path), normal, "{path}");
    }
}

#[test]
fn base_decodes_unreserved_escapes_once_and_keeps_the_others() {
    for (path, normal) in [
        ("/%61%2D%7e%5F%30", "/a-~_0"),
        ("/%2f%5C%2F", "/%2f%5C%2F"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/%2%35", "/%25"),
        ("/%zz%4", "/%zz%4"),
        ("/a%20b%c3%A9", "/a%20b%c3%A9"),
        ("/a//b", "/a//b"),
    ] {
        assert_eq!(base(path), normal, "{path}");
    }
}

#[test]
fn base_turns_backslashes_into_slashes() {
    assert_eq!(base("\\a\\..\\b"), "/b");
    assert_eq!(base("/a\\b"), "/a/b");
}

#[test]
fn base_escapes_what_must_not_stand_raw_in_a_path() {
    assert_eq!(
        base("/a b\"<>^`{|}é"),
        "/a%20b%22%3C%3E%5E%60%7B%7C%7D%C3%A9"
    );
    assert_eq!(base("/!$&'()*+,;=:@[]"), "/!$&'()*+,;=:@[]");
}

#[test]
fn the_other_levels_merge_and_decode_slashes_or_do_nothing() {
    assert_eq!(
        with("//a///b%2F/c", PathNormalization::MergeSlashes),
        "/a/b%2F/c"
    );
    assert_eq!(with("/a/..//b", PathNormalization::MergeSlashes), "/b");
    assert_eq!(
        with("/a%2Fb%5c..%2f/c", PathNormalization::DecodeAndMergeSlashes),
        "/a/c"
    );
    assert_eq!(
        with("/a%252Fb", PathNormalization::DecodeAndMergeSlashes),
        "/a%252Fb"
    );
    assert_eq!(
        with("/a/../%61\\b//c", PathNormalization::None),
        "/a/../%61\\b//c"
    );
    assert_eq!(with("/a#b", PathNormalization::None), "/a");
}

#[test]
fn an_empty_path_is_the_root_and_an_asterisk_stays() {
    assert_eq!(base(""), "/");
    assert_eq!(base("*"), "*");
    assert_eq!(
        normalize("a", PathNormalization::Base),
        Err(BadPath::NoSlash)
    );
}

#[test]
fn an_escaped_nul_is_refused_at_every_level() {
    for level in [
        PathNormalization::None,
        PathNormalization::Base,
        PathNormalization::DecodeAndMergeSlashes,
    ] {
        assert_eq!(normalize("/a%00", level), Err(BadPath::Nul));
    }
    assert_eq!(normalize_edge("/a%00"), Err(BadPath::Nul));
}

#[test]
fn a_normal_path_is_not_copied() {
    for path in ["/", "/a/b.c/..d/", "/%2F%20", "/a//b", "/a/.b", "/a."] {
        assert!(
            matches!(normalize(path, PathNormalization::Base), Ok(Cow::Borrowed(same)) if same == path),
            "{path}"
        );
    }
}

#[test]
fn the_edge_profile_refuses_what_others_could_read_differently() {
    for (path, reason) in [
        ("/%zz", BadPath::BrokenEscape),
        ("/%2", BadPath::BrokenEscape),
        ("/..", BadPath::AboveRoot),
        ("/a/%2e%2e/../b", BadPath::AboveRoot),
        ("/a%2fb", BadPath::EscapedSlash),
        ("/a%5Cb", BadPath::EscapedSlash),
        ("/..;x/b", BadPath::DotParameters),
        ("/a/.;/b", BadPath::DotParameters),
        ("/a b", BadPath::Forbidden),
        ("/é", BadPath::Forbidden),
        ("/a#b", BadPath::Forbidden),
    ] {
        assert_eq!(normalize_edge(path), Err(reason), "{path}");
    }
    assert_eq!(
        normalize_edge("/a;x/../%c3%a9//b").as_deref(),
        Ok("/%C3%A9/b")
    );
    assert!(matches!(
        normalize_edge("/a/b;c"),
        Ok(Cow::Borrowed("/a/b;c"))
    ));
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing_more(path in "[/\\\\]([ab./\\\\%é {]|%2[eEfF5]|%5[cC]|%6[1a]){0,16}") {
        for level in [PathNormalization::None, PathNormalization::MergeSlashes, PathNormalization::DecodeAndMergeSlashes] {
            let once = with(&path, level);
            // What a broken escape and a decoded digit become together is not decoded again.
            if !path.contains('%') {
                prop_assert_eq!(with(&once, level), once.clone());
            }
            if level != PathNormalization::None {
                prop_assert!(once.starts_with('/') && !once.contains('\\'));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(!once.contains("//"));
            }
        }
        let edge = normalize_edge(&path);
        if is_plain(path.as_bytes()) {
            let strictest = Rules { merge: true, decode_slashes: true, upper_case: true };
            prop_assert!(strictest.is_normal(path.as_bytes()));
        }
        prop_assert!(edge.is_err() || normalize_edge(edge.as_deref().unwrap_or_default()).is_ok());
    }
}
