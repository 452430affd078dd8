//! Answers preflights and marks responses, as Envoy's CORS filter does.
//!
//! `proxy` asks [`Cors::meet`] once per request and keeps the [`Asker`] for the response. A
//! request from an origin that is not allowed is served like any other: it is the browser that
//! keeps the response from its page.

use std::borrow::Cow;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::ResponseHeader;

use super::spec::{Allowed, Cors, OriginMatch};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The origin to name in the response.
    Allowed(HeaderValue),
    Other,
}

/// What a request is to a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// To be served; responses are marked for the asker.
    Served(Asker),
    /// A preflight, answered 200 with these headers beside those of [`Cors::mark`].
    Answered(Asker, Vec<(HeaderName, HeaderValue)>),
}

const TRUE: HeaderValue = HeaderValue::from_static("true");

impl Cors {
    /// Looks at a request. `None` if it names no origin.
    #[must_use]
    pub fn meet(&self, method: &Method, headers: &HeaderMap) -> Option<Meeting> {
        let origin = joined(headers, &ORIGIN).filter(|origin| !origin.is_empty())?;
        let asker = match origin.to_str() {
            Ok(text) if self.allows(text) => Asker::Allowed(origin.into_owned()),
            _ => Asker::Other,
        };
        let asked = joined(headers, &ACCESS_CONTROL_REQUEST_METHOD);
        let asked = asked.filter(|asked| *method == Method::OPTIONS && !asked.is_empty());
        let Some(asked) = asked else {
            return Some(Meeting::Served(asker));
        };
        if asker == Asker::Other && self.forward_unmatched {
            return Some(Meeting::Served(asker));
        }
        let mut answer = Vec::with_capacity(4);
        if self.credentials {
            answer.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        }
        let asked_headers = joined(headers, &ACCESS_CONTROL_REQUEST_HEADERS);
        let lists = [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods, Some(asked)),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers, asked_headers),
        ];
        for (name, allowed, asked) in lists {
            let value = match allowed {
                Allowed::Unsaid => None,
                Allowed::Asked => asked.map(Cow::into_owned),
                Allowed::These(value) => Some(value.clone()),
            };
            answer.extend(value.map(|value| (name, value)));
        }
        let age = self.max_age.clone();
        answer.extend(age.map(|age| (ACCESS_CONTROL_MAX_AGE, age)));
        Some(Meeting::Answered(asker, answer))
    }

    /// Tells the browser in a response that its origin may read it; what the origin server said
    /// about that is overwritten.
    pub fn mark(&self, asker: &Asker, response: &mut ResponseHeader) {
        let Asker::Allowed(origin) = asker else {
            return;
        };
        // Names and values are of the map's own types: this cannot fail.
        let _ = response.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            let _ = response.insert_header(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(expose) = &self.expose {
            let _ = response.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn allows(&self, origin: &str) -> bool {
        let allows = |matcher: &OriginMatch| matcher.holds("*") || matcher.holds(origin);
        self.origins.iter().any(allows)
    }
}

/// All values of a header as one, as Envoy reads them.
fn joined<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    let Some(second) = second else {
        return Some(Cow::Borrowed(first));
    };
    let mut joined = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests;
