use super::*;

impl<'r> Asked<'r> {
    /// A request for the root of a host, by nobody.
    pub(in crate::policy) fn bare(headers: &'r HeaderMap) -> Self {
        Self {
            client: None,
            headers,
            path: "/",
            query: None,
            target: "/",
            method: "GET",
            authority: "a.com",
            scheme: "http",
            cluster: None,
            connection: 0,
        }
    }
}

fn request(headers: &HeaderMap) -> Asked<'_> {
    Asked {
        client: "10.1.2.3".parse().ok(),
        path: "/users/7",
        query: Some("q=1&p=2&q=3"),
        target: "/users/7?q=1&p=2&q=3",
        cluster: Some("outbound|80||a"),
        ..Asked::bare(headers)
    }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn each(source: Source) -> Part {
    Part::Each {
        source,
        shared: true,
    }
}

fn keys(parts: Vec<Part>, requests: &[Asked<'_>]) -> Vec<Option<u64>> {
    let (ways, seed) = ([parts.into_boxed_slice()], RandomState::new());
    requests
        .iter()
        .map(|asked| hash(&ways, asked, &seed))
        .collect()
}

/// Which of some headers have one key: the first with the same for each.
fn same(source: Source, lines: &[&[(&'static str, &str)]]) -> Vec<usize> {
    let maps: Vec<HeaderMap> = lines.iter().map(|lines| headers(lines)).collect();
    let requests: Vec<Asked<'_>> = maps.iter().map(request).collect();
    let keys = keys(vec![each(source)], &requests);
    let first = |key| keys.iter().position(|known| known == key).unwrap();
    keys.iter().map(first).collect()
}

#[test]
fn a_header_counts_with_all_its_values_and_an_empty_or_missing_one_is_one_key() {
    let source = Source::Header(HeaderName::from_static("x-key"));
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[("x-key", "")],
        &[("x-key", "a")],
        &[("x-key", "a"), ("other", "b")],
        &[("x-key", "a"), ("x-key", "b")],
        &[("x-key", "a,b")],
        &[("x-key", "b"), ("x-key", "a")],
    ];
    assert_eq!(same(source, cases), [0, 0, 2, 2, 4, 4, 6]);
}

#[test]
fn a_cookie_counts_with_every_value_that_a_request_gives_it() {
    let source = Source::Cookie("id".into());
    let cases: &[&[(&str, &str)]] = &[
        &[("cookie", "id=1; a=b")],
        &[("cookie", "a=b"), ("cookie", "id=1")],
        &[("cookie", "id=1; id=2")],
        &[("cookie", "idx=1")],
        &[("cookie", "id=")],
        &[],
    ];
    assert_eq!(same(source, cases), [0, 0, 2, 3, 3, 3]);
}

#[test]
fn parts_of_a_key_cannot_run_into_each_other() {
    let part = |name| each(Source::Header(HeaderName::from_static(name)));
    let maps = [
        headers(&[("x-a", "1"), ("x-b", "23")]),
        headers(&[("x-a", "12"), ("x-b", "3")]),
        headers(&[("x-b", "123")]),
    ];
    let requests: Vec<Asked<'_>> = maps.iter().map(request).collect();
    let keys = keys(vec![part("x-a"), part("x-b")], &requests);
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

#[test]
fn clients_are_told_apart_by_as_many_bits_as_count() {
    let map = HeaderMap::new();
    let from = |text: &str| Asked {
        client: text.parse().ok(),
        ..request(&map)
    };
    let requests = [
        "10.0.0.1",
        "10.0.0.2",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::1",
    ]
    .map(from);
    let keys_of = |v4, v6| keys(vec![each(Source::Client { v4, v6 })], &requests);
    let keys = keys_of(32, 64);
    assert!(keys[0] != keys[1] && keys[2] == keys[3] && keys[3] != keys[4]);
    let keys = keys_of(24, 128);
    assert!(keys[0] == keys[1] && keys[2] != keys[3]);
    let keys = keys_of(0, 0);
    assert!(keys[0] == keys[1] && keys[2] == keys[4]);
}

#[test]
fn a_path_template_concerns_its_paths_and_tells_named_places_apart() {
    let map = HeaderMap::new();
    let at = |path| Asked {
        path,
        ..request(&map)
    };
    let requests = [
        "/users/7",
        "/users//7/",
        "/users/8",
        "/users",
        "/users/7/x",
        "/shop/7",
    ]
    .map(at);
    let keys_of = |text| {
        let template = PathTemplate::parse(text).unwrap();
        keys(vec![each(Source::Path(template))], &requests)
    };
    let keys = keys_of("/users/{id}");
    assert!(keys[0].is_some() && keys[0] == keys[1] && keys[0] != keys[2]);
    assert_eq!(keys[3..], [None; 3]);
    let keys = keys_of("/users/*");
    assert!(keys[0].is_some() && keys[0] == keys[2]);
    let keys = keys_of("/users/{id}/**");
    assert!(keys[0] == keys[4] && keys[3].is_none() && keys[5].is_none());
    for text in ["users", "/a*b", "/{}", "/a?b", "/**/a"] {
        assert!(PathTemplate::parse(text).is_err(), "{text}");
    }
    assert_eq!(
        PathTemplate::parse("/a/{b}/*/**").unwrap().to_string(),
        "/a/{b}/*/**"
    );
}

#[test]
fn a_part_for_one_value_lets_only_that_value_go_its_way() {
    let map = headers(&[("x-a", "1"), ("x-a", "2")]);
    let asked = request(&map);
    let is = |source, value: &[u8]| Part::Is {
        source,
        value: value.into(),
    };
    let header = || Source::Header(HeaderName::from_static("x-a"));
    for (part, holds) in [
        (is(header(), b"1,2"), true),
        (is(header(), b"1"), false),
        (is(header(), b"1,2,3"), false),
        (is(Source::Target, b"/users/7?q=1&p=2&q=3"), true),
        (is(Source::Query("q".into()), b"1,3"), true),
        (is(Source::Cluster, b"outbound|80||a"), true),
        (
            is(Source::Header(HeaderName::from_static("x-b")), b""),
            false,
        ),
        (is(Source::Client { v4: 32, v6: 128 }, &[10, 1, 2, 3]), true),
    ] {
        let shown = part.to_string();
        assert_eq!(keys(vec![part], &[asked])[0].is_some(), holds, "{shown}");
    }
}

#[test]
fn conditions_hold_as_envoys_header_matchers_do() {
    let map = headers(&[("x-a", "Hello")]);
    let asked = request(&map);
    let exact = |text: &str| Test::Exact {
        text: text.into(),
        ignore_case: false,
    };
    let contains = Test::Contains {
        text: "ell".into(),
        ignore_case: false,
    };
    let any_case = Test::Prefix {
        text: "hel".into(),
        ignore_case: true,
    };
    for (name, test, inverted, holds) in [
        ("x-a", exact("Hello"), false, true),
        ("x-a", exact("hello"), false, false),
        ("x-a", exact("hello"), true, true),
        ("x-a", any_case, false, true),
        ("x-a", contains, false, true),
        (
            "x-a",
            Test::Regex(Regex::new("^(?:H.*o)$").unwrap()),
            false,
            true,
        ),
        ("x-b", Test::Present, false, false),
        ("x-b", Test::Present, true, true),
        ("x-b", exact("x"), true, false),
    ] {
        let condition = Condition {
            source: Source::Header(HeaderName::from_static(name)),
            test,
            inverted,
            missing_is_empty: false,
        };
        let part = Part::When {
            conditions: Box::new([condition]),
            expected: true,
        };
        let shown = part.to_string();
        assert_eq!(keys(vec![part], &[asked])[0].is_some(), holds, "{shown}");
    }
}

#[test]
fn envoy_reads_the_first_of_a_query_parameter_and_decodes_it() {
    let map = HeaderMap::new();
    let read = |query: &str| {
        let asked = Asked {
            query: Some(query),
            ..Asked::bare(&map)
        };
        Source::Parameter("q".into())
            .text(&asked)
            .map(Cow::into_owned)
    };
    // Each as Envoy 1.40 told a rate limit service.
    for (query, expected) in [
        ("q=a&q=b", Some("a")),
        ("p=x&q=a%20b+c%2Bd", Some("a b+c+d")),
        ("q=", Some("")),
        ("q", Some("")),
        ("%71=enc", Some("enc")),
        ("q=%zz%2", Some("%zz%2")),
        ("Q=a&qq=b", None),
        ("", None),
    ] {
        assert_eq!(read(query).as_deref(), expected, "{query}");
    }
}
