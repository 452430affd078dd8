use super::*;

fn redirect() -> Redirect {
    Redirect {
        status: 301,
        path: None,
        authority: None,
        scheme: None,
        port: RedirectPort::Keep,
    }
}

fn to(redirect: &Redirect, authority: &str, path_and_query: &str) -> String {
    location(
        redirect,
        &RedirectRequest {
            scheme: "http",
            authority,
            path_and_query,
            declared_port: 8080,
        },
    )
}

#[test]
fn gotcha_29_a_redirect_keeps_the_query_and_often_the_host_port() {
    let redirect = Redirect {
        path: Some(RedirectPath::Full("/new".into())),
        ..redirect()
    };
    assert_eq!(
        to(&redirect, "a.com:8080", "/old?x=1"),
        "http://a.com:8080/new?x=1"
    );
    assert_eq!(to(&redirect, "a.com:80", "/old"), "http://a.com:80/new");
}

#[test]
fn a_query_in_the_redirect_replaces_the_request_query() {
    let redirect = Redirect {
        path: Some(RedirectPath::Full("/new?y=2".into())),
        ..redirect()
    };
    assert_eq!(to(&redirect, "a.com", "/old?x=1"), "http://a.com/new?y=2");
}

#[test]
fn the_host_port_goes_when_the_scheme_changes_and_it_was_the_old_default() {
    let redirect = Redirect {
        scheme: Some("https".into()),
        ..redirect()
    };
    assert_eq!(to(&redirect, "a.com:80", "/p?q"), "https://a.com/p?q");
    assert_eq!(to(&redirect, "a.com:8080", "/p"), "https://a.com:8080/p");
    assert_eq!(to(&redirect, "a.com", "/p"), "https://a.com/p");
    let same = Redirect {
        scheme: Some("http".into()),
        ..redirect.clone()
    };
    assert_eq!(to(&same, "a.com:80", "/p"), "http://a.com:80/p");
}

#[test]
fn a_port_replaces_the_host_port_and_is_omitted_where_it_is_the_default() {
    let port = |port, scheme: Option<&str>| Redirect {
        port,
        scheme: scheme.map(Into::into),
        ..redirect()
    };
    assert_eq!(
        to(&port(RedirectPort::Fixed(8443), None), "a.com:80", "/p"),
        "http://a.com:8443/p"
    );
    assert_eq!(
        to(&port(RedirectPort::Fixed(80), None), "a.com:8080", "/p"),
        "http://a.com/p"
    );
    assert_eq!(
        to(
            &port(RedirectPort::Fixed(443), Some("https")),
            "a.com:8080",
            "/p"
        ),
        "https://a.com/p"
    );
    assert_eq!(
        to(&port(RedirectPort::Fixed(443), None), "a.com", "/p"),
        "http://a.com:443/p"
    );
    assert_eq!(
        to(&port(RedirectPort::FromRequest, None), "a.com:31000", "/p"),
        "http://a.com:8080/p"
    );
}

#[test]
fn an_authority_replaces_host_and_port() {
    let redirect = Redirect {
        authority: Some("b.com".into()),
        ..redirect()
    };
    assert_eq!(to(&redirect, "a.com:8080", "/p?q=1"), "http://b.com/p?q=1");
    let with_port = Redirect {
        port: RedirectPort::Fixed(81),
        ..redirect
    };
    assert_eq!(to(&with_port, "a.com:8080", "/p"), "http://b.com:81/p");
}

#[test]
fn an_ipv6_host_keeps_its_brackets() {
    let redirect = Redirect {
        port: RedirectPort::Fixed(81),
        ..redirect()
    };
    assert_eq!(to(&redirect, "[::1]:8080", "/"), "http://[::1]:81/");
    assert_eq!(to(&redirect, "[::1]", "/"), "http://[::1]:81/");
}

#[test]
fn a_prefix_redirect_replaces_only_the_matched_text() {
    let path = Some(RedirectPath::Prefix {
        length: "/old".len(),
        with: "/new".into(),
    });
    let redirect = Redirect { path, ..redirect() };
    assert_eq!(
        to(&redirect, "a.com", "/older/x?y=/old"),
        "http://a.com/newer/x?y=/old"
    );
}

#[test]
fn gotcha_7_https_redirect_keeps_the_port_the_path_and_the_query() {
    assert_eq!(
        https_location("a.com:8080", "/p?q=1"),
        "https://a.com:8080/p?q=1"
    );
}
