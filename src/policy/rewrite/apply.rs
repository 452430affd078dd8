//! Rewrites paths.

use super::spec::PathRewrite;

impl PathRewrite {
    /// The path and query an origin sees instead of `path` and `query`.
    ///
    /// Replacing is textual: `/foo` to `/` turns `/foo/x` into `//x`, as in Istio. Only a result
    /// without a slash at its beginning gets one, because it would not be a path: a client could
    /// else choose the origin's request target.
    #[must_use]
    pub fn apply(&self, path: &str, query: Option<&str>) -> String {
        let mut out =
            String::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1) + 32);
        match self {
            Self::Prefix { length, with } => {
                out.push_str(with);
                out.push_str(path.get(*length..).unwrap_or_default());
            }
            Self::Full(whole) => out.push_str(whole),
            Self::Regex { pattern, with } => {
                out.push_str(&pattern.replace_all(path, with.as_str()))
            }
        }
        if !out.starts_with('/') {
            out.insert(0, '/');
        }
        if let Some(query) = query {
            out.push('?');
            out.push_str(query);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(matched: &str, with: &str) -> PathRewrite {
        PathRewrite::Prefix {
            length: matched.len(),
            with: with.into(),
        }
    }

    #[test]
    fn gotcha_14_a_prefix_rewrite_is_textual_and_repairs_no_slash() {
        assert_eq!(prefix("/foo", "/").apply("/foo/x", None), "//x");
        assert_eq!(prefix("/foo", "/").apply("/foo", None), "/");
        assert_eq!(prefix("/foo", "/bar").apply("/foobar", None), "/barbar");
        assert_eq!(prefix("/foo/", "/").apply("/foo/x", Some("a=1")), "/x?a=1");
    }

    #[test]
    fn a_full_rewrite_keeps_the_query() {
        let rewrite = PathRewrite::Full("/new".into());
        assert_eq!(rewrite.apply("/old/path", Some("a=1&b")), "/new?a=1&b");
        assert_eq!(rewrite.apply("/old/path", Some("")), "/new?");
    }

    #[test]
    fn a_regex_rewrite_replaces_every_occurrence_in_the_path_and_none_in_the_query() {
        let pattern = regex::Regex::new("/v([0-9])").unwrap();
        let rewrite = PathRewrite::Regex {
            pattern,
            with: "/version-${1}".into(),
        };
        assert_eq!(
            rewrite.apply("/v1/x/v2", Some("p=/v3")),
            "/version-1/x/version-2?p=/v3"
        );
        assert_eq!(rewrite.apply("/none", None), "/none");
    }

    #[test]
    fn a_rewrite_never_makes_anything_but_a_path() {
        assert_eq!(
            prefix("/proxy/", "").apply("/proxy/http://internal/", None),
            "/http://internal/"
        );
        assert_eq!(prefix("/foo", "").apply("/foo", Some("a")), "/?a");
    }
}
