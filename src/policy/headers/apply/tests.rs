use super::*;

/// Knows a few parts; the rest is not known yet.
struct Known;

impl Substitutions for Known {
    fn value(&self, part: &TemplatePart) -> Option<Cow<'_, str>> {
        match part {
            TemplatePart::Protocol => Some("HTTP/1.1".into()),
            TemplatePart::ResponseCode => Some("200".into()),
            TemplatePart::Hostname => Some("bad\r\nvalue".into()),
            TemplatePart::Request { name, .. } if name == ":scheme" => Some("https".into()),
            _ => None,
        }
    }
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

fn value(text: &str) -> ValueTemplate {
    ValueTemplate::parse(text).unwrap()
}

fn request() -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/a?b=1", None).unwrap();
    request.insert_header("host", "a.com:80").unwrap();
    request.insert_header("X-One", "first").unwrap();
    request.append_header("x-one", "second").unwrap();
    request
        .insert_header("x-raw", HeaderValue::from_bytes(b"\xff\xfe").unwrap())
        .unwrap();
    request
}

/// What `x` is after `set x: text` on a request.
fn set(text: &str) -> Option<String> {
    let mut request = request();
    edit_request(
        &HeaderEdits(vec![HeaderEdit::Set(name("x"), value(text))]),
        &mut request,
        &Known,
    );
    request
        .headers
        .get("x")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[test]
fn edits_run_in_their_order() {
    let edits = HeaderEdits(vec![
        HeaderEdit::Remove(name("x-one")),
        HeaderEdit::Set(name("x-two"), value("a")),
        HeaderEdit::Add(name("x-two"), value("b")),
        HeaderEdit::Add(name("x-one"), value("c")),
        HeaderEdit::Set(name("x-raw"), value("d")),
    ]);
    let mut request = request();
    edit_request(&edits, &mut request, &Known);
    let all = |name: &str| -> Vec<_> {
        request
            .headers
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect()
    };
    assert_eq!(all("x-one"), ["c"]);
    assert_eq!(all("x-two"), ["a", "b"]);
    assert_eq!(all("x-raw"), ["d"]);
}

#[test]
fn gotcha_21_the_level_that_sets_last_wins() {
    let edits = |first: &str, second: &str| {
        HeaderEdits(vec![
            HeaderEdit::Set(name("x"), value(first)),
            HeaderEdit::Set(name("x"), value(second)),
        ])
    };
    let mut request = request();
    edit_request(&edits("route", "destination"), &mut request, &Known);
    assert_eq!(request.headers["x"], "destination");
    edit_request(&edits("destination", "route"), &mut request, &Known);
    assert_eq!(request.headers["x"], "route");
}

#[test]
fn request_headers_are_substituted() {
    assert_eq!(set("%REQ(X-ONE)%").as_deref(), Some("first"));
    assert_eq!(set("<%REQ(missing?x-one):3%>").as_deref(), Some("<fir>"));
    assert_eq!(
        set("%REQ(:method)% %REQ(:path)% %REQ(:authority)%").as_deref(),
        Some("GET /a?b=1 a.com:80")
    );
    assert_eq!(set("%REQ(:scheme)%").as_deref(), Some("https"));
    assert_eq!(set("%PROTOCOL%/%%").as_deref(), Some("HTTP/1.1/%"));
    let mut request = request();
    edit_request(
        &HeaderEdits(vec![HeaderEdit::Set(name("x"), value("%REQ(x-raw)%"))]),
        &mut request,
        &Known,
    );
    assert_eq!(request.headers["x"].as_bytes(), b"\xff\xfe");
}

#[test]
fn a_value_that_comes_out_empty_or_invalid_changes_nothing() {
    for empty in ["", "%REQ(missing)%", "%RESP(x-one)%", "%UPSTREAM_HOST%"] {
        assert_eq!(set(empty), None, "{empty}");
    }
    assert_eq!(
        set("%HOSTNAME%"),
        None,
        "a line break never reaches a header"
    );
    let mut request = request();
    let edits = HeaderEdits(vec![HeaderEdit::Set(
        name("x-one"),
        value("%REQ(missing)%"),
    )]);
    edit_request(&edits, &mut request, &Known);
    assert_eq!(request.headers["x-one"], "first");
}

#[test]
fn a_response_sees_its_own_headers_and_the_request() {
    let mut response = ResponseHeader::build(200, None).unwrap();
    response.insert_header("x-version", "v1").unwrap();
    let edits = HeaderEdits(vec![
        HeaderEdit::Set(
            name("x"),
            value("%RESP(x-version)% %REQ(x-one)% %RESPONSE_CODE%"),
        ),
        HeaderEdit::Remove(name("x-version")),
        HeaderEdit::Add(name("x"), value("more")),
    ]);
    edit_response(&edits, &mut response, Some(&request()), &Known);
    let all: Vec<_> = response.headers.get_all("x").iter().collect();
    assert_eq!(all, ["v1 first 200", "more"]);
    assert!(response.headers.get("x-version").is_none());
}
