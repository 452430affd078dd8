use super::super::fixture::{Asked, anchored, exact, header, is, prefix, query, without};
use super::*;

fn holds(predicate: &Predicate, asked: &Asked) -> bool {
    predicate.holds(&asked.request())
}

fn starts(text: &str) -> StringMatch {
    StringMatch::Prefix(text.into())
}

fn matches(pattern: &str) -> StringMatch {
    StringMatch::Regex(anchored(pattern))
}

#[test]
fn gotcha_14_a_prefix_is_textual() {
    assert!(prefix("/foo").holds("/foobar"));
    assert!(prefix("/foo").holds("/foo"));
    assert!(!prefix("/foo/").holds("/foo"));
    assert!(!prefix("/foo").holds("/Foo"));
    assert!(exact("/foo").holds("/foo") && !exact("/foo").holds("/foo/"));
}

#[test]
fn ignore_case_holds_for_exact_and_prefix_paths() {
    let exact = UriMatch::Exact {
        text: "/foo".into(),
        ignore_case: true,
    };
    let prefix = UriMatch::Prefix {
        text: "/foo".into(),
        ignore_case: true,
    };
    assert!(exact.holds("/FoO") && !exact.holds("/FoO/"));
    assert!(prefix.holds("/FOObar") && !prefix.holds("/fo"));
    assert!(
        !prefix.holds("/fé"),
        "a prefix may end within a character of the path"
    );
}

#[test]
fn gotcha_15_a_regex_is_anchored_and_never_sees_the_query() {
    let uri = UriMatch::Regex(anchored("/v[0-9]|/w"));
    assert!(uri.holds("/v1") && uri.holds("/w"));
    assert!(!uri.holds("/v1/x") && !uri.holds("/x/w"));
    let asked = Asked::get("/v1?q=1");
    assert!(uri.holds(asked.request().path));
}

#[test]
fn gotcha_12_authority_is_tested_raw_with_port_and_case() {
    let asked = Asked {
        authority: "A.com:8080".into(),
        ..Asked::get("/")
    };
    assert!(holds(&Predicate::Authority(is("A.com:8080")), &asked));
    assert!(!holds(&Predicate::Authority(is("a.com")), &asked));
    assert!(!holds(&Predicate::Authority(is("a.com:8080")), &asked));
}

#[test]
fn methods_and_schemes_are_compared_with_case() {
    let asked = Asked {
        method: Method::from_bytes(b"PURGE").unwrap(),
        ..Asked::get("/")
    };
    assert!(holds(
        &Predicate::Method(Method::from_bytes(b"PURGE").unwrap()),
        &asked
    ));
    assert!(!holds(&Predicate::Method(Method::GET), &asked));
    assert!(holds(&Predicate::MethodMatch(starts("PUR")), &asked));
    assert!(!holds(&Predicate::MethodMatch(is("purge")), &asked));
    assert!(holds(&Predicate::Scheme(is("http")), &asked));
    assert!(!holds(&Predicate::Scheme(is("https")), &asked));
}

#[test]
fn header_values_are_case_sensitive_and_a_missing_header_holds_for_nothing() {
    let asked = Asked::get("/")
        .with("end-user", b"jason")
        .with("empty", b"");
    assert!(holds(&header("end-user", is("jason")), &asked));
    assert!(!holds(&header("end-user", is("Jason")), &asked));
    assert!(holds(&header("end-user", starts("ja")), &asked));
    assert!(holds(&header("end-user", matches("ja.*")), &asked));
    assert!(!holds(&header("end-user", matches("ja")), &asked));
    assert!(holds(&header("empty", StringMatch::Present), &asked));
    for matcher in [is(""), starts(""), matches(".*"), StringMatch::Present] {
        assert!(!holds(&header("missing", matcher), &asked));
    }
}

#[test]
fn repeated_header_values_are_joined_with_commas() {
    let asked = Asked::get("/")
        .with("x", b"a")
        .with("x", b"b")
        .with("x", b"");
    assert!(holds(&header("x", is("a,b,")), &asked));
    assert!(!holds(&header("x", is("a")), &asked));
    assert!(holds(&header("x", starts("a,")), &asked));
    assert!(holds(&header("x", matches("[ab,]+")), &asked));
    let long = [b'l'; 300];
    let asked = Asked::get("/").with("x", &long).with("x", &long);
    assert!(holds(&header("x", matches("l{300},l{300}")), &asked));
}

#[test]
fn header_values_that_are_not_utf8_are_compared_by_bytes() {
    let asked = Asked::get("/").with("x", b"a\xffb");
    assert!(holds(&header("x", starts("a")), &asked));
    assert!(!holds(&header("x", is("ab")), &asked));
    assert!(holds(&header("x", matches("a.b")), &asked));
    assert!(
        !holds(&without("x", matches(".*")), &asked),
        "a negated `.*` cannot be slipped past"
    );
}

#[test]
fn gotcha_16_without_headers_counts_a_missing_header_as_empty() {
    let missing = Asked::get("/");
    let there = Asked::get("/").with("x", b"v");
    assert!(!holds(&without("x", matches(".*")), &missing));
    assert!(!holds(&without("x", matches(".*")), &there));
    assert!(holds(&without("x", matches(".+")), &missing));
    assert!(holds(&without("x", is("v")), &missing));
    assert!(!holds(&without("x", is("v")), &there));
    assert!(holds(&without("x", is("w")), &there));
    assert!(holds(&without("x", starts("v")), &missing));
    assert!(!holds(&without("x", starts("v")), &there));
    assert!(!holds(&without("x", is("")), &missing));
    assert!(
        holds(&without("x", StringMatch::Present), &missing),
        "`regex: \"*\"` means absent"
    );
    assert!(!holds(&without("x", StringMatch::Present), &there));
}

#[test]
fn gotcha_17_query_values_are_compared_undecoded_and_the_first_counts() {
    let asked = Asked::get("/?a=%62&b=1&b=2&c&d=&=x&e=1=2");
    assert!(holds(&query("a", is("%62")), &asked));
    assert!(!holds(&query("a", is("b")), &asked));
    assert!(holds(&query("b", is("1")), &asked));
    assert!(!holds(&query("b", is("2")), &asked));
    assert!(holds(&query("e", is("1=2")), &asked));
    for there in ["c", "d", ""] {
        assert!(
            holds(&query(there, StringMatch::Present), &asked),
            "{there}"
        );
    }
    assert!(!holds(&query("missing", StringMatch::Present), &asked));
    assert!(!holds(&query("a", StringMatch::Present), &Asked::get("/")));
}

#[test]
fn a_condition_that_could_not_be_read_holds_for_every_request() {
    assert!(holds(
        &Predicate::Unreadable {
            text: "regex \"[\"".into()
        },
        &Asked::get("/")
    ));
}

#[test]
fn conditions_print_as_the_user_wrote_them() {
    assert_eq!(prefix("/a").to_string(), r#"uri.prefix "/a""#);
    assert_eq!(
        UriMatch::Regex(anchored("/a|/b")).to_string(),
        r#"uri.regex "/a|/b""#
    );
    assert_eq!(header("x", is("v")).to_string(), r#"headers[x].exact "v""#);
    assert_eq!(
        query("x", StringMatch::Present).to_string(),
        "queryParams[x] present"
    );
}
