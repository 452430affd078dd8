use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::super::fixture::{
    Asked, exact, forward, header, host, is, listener, origin, plan, prefix, route,
};
use super::super::{Predicate, RetryPolicy};
use super::*;
use crate::policy::direct_response::spec::DirectResponse;

#[test]
fn a_plan_is_readable_and_complete() {
    let mut split = route(12, prefix("/shop"), vec![header("end-user", is("jason"))]);
    let mut to = forward(&[90, 10]);
    to.destinations[0].request = HeaderEdits(vec![HeaderEdit::Set(
        HeaderName::from_static("x"),
        ValueTemplate::parse("%REQ(y?z):3% 5%%").unwrap(),
    )]);
    to.destinations[1].target = Target::Missing {
        name: "outbound|80||gone".into(),
        reason: "no such host".into(),
    };
    to.rewrite.path = Some(PathRewrite::Prefix {
        length: 5,
        with: "/".into(),
    });
    to.rewrite.authority = Some(HeaderValue::from_static("shop"));
    to.timeout = Some(std::time::Duration::from_millis(1500));
    to.retry = Some(Arc::new(RetryPolicy {
        source: RetrySource::Rule,
        ..RetryPolicy::default()
    }));
    split.action = Arc::new(Action::Forward(to));

    let mut moved = route(
        20,
        exact("/old"),
        vec![Predicate::Method(http::Method::GET)],
    );
    moved.action = Arc::new(Action::Redirect {
        redirect: Redirect {
            status: 302,
            path: Some(RedirectPath::Full("/new".into())),
            authority: Some("b.com".into()),
            scheme: Some("https".into()),
            port: RedirectPort::Fixed(8443),
        },
        response: HeaderEdits(vec![HeaderEdit::Remove(HeaderName::from_static("server"))]),
    });
    let mut direct = route(25, exact("/ok"), vec![]);
    let response = DirectResponse {
        status: 200,
        body: "fine\n".into(),
    };
    direct.action = Arc::new(Action::Direct {
        response,
        edits: HeaderEdits::default(),
    });
    let mut fenced = route(30, UriMatch::Any, vec![]);
    fenced.action = Arc::new(Action::Fenced(Arc::new(Fence {
        origin: origin(31),
        reason: "bad regex".into(),
    })));

    let mut secure = host("*.b.com", vec![]);
    secure.https_redirect = Some(origin(6));
    let plan = plan(vec![listener(vec![
        host("a.com", vec![split, moved, direct, fenced]),
        secure,
    ])]);

    let expected = r#"listener 0.0.0.0:8080 (port 80)
  server routes.yaml:5
  host a.com (a.com:80)
    1. uri.prefix "/shop", headers[end-user].exact "jason"
       default from VirtualService default/shop spec.http[12] at routes.yaml:12
       -> 90/100 outbound|9080||reviews.default.svc.cluster.local at routes.yaml:90
          request set x: %REQ(y?z):3% 5%%
       -> 10/100 missing outbound|80||gone: no such host at routes.yaml:91
          rewrite prefix of 5 to "/"
          rewrite authority "shop"
          timeout 1.5s
          retries 2 on connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable, backoff 25ms, by the rule
    2. uri.exact "/old", method.exact "GET"
       default from VirtualService default/shop spec.http[20] at routes.yaml:20
       -> redirect 302 scheme https authority b.com path /new port 8443
          response remove server
    3. uri.exact "/ok"
       default from VirtualService default/shop spec.http[25] at routes.yaml:25
       -> answer 200 with "fine\n"
    4. everything
       default from VirtualService default/shop spec.http[30] at routes.yaml:30
       -> fenced: bad regex at routes.yaml:31
  host *.b.com (*.b.com:80)
    redirect everything to https, by routes.yaml:6

clusters
  outbound|9080||reviews.default.svc.cluster.local (http/1.1, least request, connect within 10s) at routes.yaml:40

http
  path normalization Base, trusted proxies 0
  server header "istio-envoy"
  http/1.0 off
  request id on
  attempt count on
  envoy debug headers on
  x-forwarded-host off
  x-forwarded-port off
  edge profile off
"#;
    assert_eq!(plan.render(), expected);
}

#[test]
fn conditions_say_what_explain_says() {
    let one = route(1, prefix("/a"), vec![]);
    assert!(
        one.failed(&Asked::get("/b").request())
            .is_some_and(|said| said.starts_with(&one.conditions()))
    );
}
