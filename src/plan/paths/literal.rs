//! The text that every match of an anchored regex begins with.
//!
//! `/orders/[0-9]+` can only hold for paths that begin with `/orders/`, so the index need not
//! try it for others.

use regex::Regex;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, Look};

/// The longest text that is known; empty if there is none or the regex is not anchored.
pub fn beginning(regex: &Regex) -> Vec<u8> {
    match regex_syntax::parse(regex.as_str()) {
        Ok(hir) if is_anchored(&hir) => Extractor::new()
            .kind(ExtractKind::Prefix)
            .extract(&hir)
            .longest_common_prefix()
            .map(<[u8]>::to_vec)
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Whether every match begins at the beginning of the text.
fn is_anchored(hir: &Hir) -> bool {
    hir.properties().look_set_prefix().contains(Look::Start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> String {
        String::from_utf8(beginning(&Regex::new(pattern).unwrap())).unwrap()
    }

    #[test]
    fn the_literal_beginning_of_a_regex_is_found_through_groups_and_alternatives() {
        assert_eq!(of("^(?:/orders/[0-9]+)$"), "/orders/");
        assert_eq!(of("^(?:/a/(b|bc)/.*)$"), "/a/b");
        assert_eq!(of("^(?:/a|/b)$"), "/");
        assert_eq!(of("^(?:/exact)$"), "/exact");
        assert_eq!(of("^(?:(/v1)?/x)$"), "/");
    }

    #[test]
    fn a_regex_that_can_begin_anyhow_has_no_beginning() {
        for pattern in [
            "^(?:.*)$",
            "^(?:.*/x)$",
            "^(?:a|b)$",
            "^(?:)$",
            "/unanchored",
            "^(?:[ab]x)$",
            "(?m)^(?:/x)$",
        ] {
            assert_eq!(of(pattern), "", "{pattern}");
        }
    }

    #[test]
    fn a_case_insensitive_regex_keeps_only_what_has_no_case() {
        assert_eq!(of("^(?:(?i)/Foo)$"), "/");
    }
}
