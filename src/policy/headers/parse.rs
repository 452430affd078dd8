//! Reads header values with Envoy's `%…%` substitutions.

use http::{HeaderName, HeaderValue};

use super::spec::{TemplatePart, ValueTemplate};

impl ValueTemplate {
    /// Reads a value as a rule writes it. `%%` is a percent sign; `%REQ(name?other):max%` and the
    /// operators of [`TemplatePart`] are substitutions.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text
            .bytes()
            .any(|byte| byte.is_ascii_control() && byte != b'\t')
        {
            return Err(
                "a header value must not contain a line break, NUL or another control character"
                    .into(),
            );
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let (part, after) = operator(after)?;
            if !literal.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut literal)));
            }
            parts.push(part);
            rest = after;
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return HeaderValue::from_bytes(literal.as_bytes())
                .map(Self::Literal)
                .map_err(|_| format!("{text:?} is not a header value"));
        }
        if !literal.is_empty() {
            parts.push(TemplatePart::Text(literal));
        }
        Ok(Self::Parts(parts))
    }
}

/// Reads an operator after its opening `%`; gives it and what follows its closing one.
fn operator(text: &str) -> Result<(TemplatePart, &str), String> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
    let (argument, rest) = match rest.strip_prefix('(') {
        Some(inner) => inner
            .split_once(')')
            .map(|(argument, rest)| (Some(argument), rest))
            .ok_or_else(|| format!("`%{name}(` lacks its closing parenthesis"))?,
        None => (None, rest),
    };
    let (max, rest) = match rest.strip_prefix(':') {
        Some(after) => {
            let (digits, rest) = after.split_at(
                after
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(after.len()),
            );
            let max: usize = digits
                .parse()
                .map_err(|_| format!("`%{name}…:` must be followed by a length"))?;
            (Some(max), rest)
        }
        None => (None, rest),
    };
    let Some(rest) = rest.strip_prefix('%') else {
        return Err("a `%` is not closed; write `%%` for a percent sign".into());
    };
    let part = match name {
        "REQ" | "RESP" => {
            let argument = argument
                .ok_or_else(|| format!("`%{name}%` needs a header name, as in `%{name}(x)%`"))?;
            let (name_text, alternative) = match argument.split_once('?') {
                Some((name, alternative)) => (name, Some(header_name(alternative)?)),
                None => (argument, None),
            };
            let header = header_name(name_text)?;
            if name == "REQ" {
                TemplatePart::Request {
                    name: header,
                    alternative,
                    max,
                }
            } else {
                TemplatePart::Response {
                    name: header,
                    alternative,
                    max,
                }
            }
        }
        _ => {
            let part = plain_operator(name)?;
            if argument.is_some() || max.is_some() {
                return Err(format!("`%{name}%` takes no argument or length here"));
            }
            part
        }
    };
    Ok((part, rest))
}

fn plain_operator(name: &str) -> Result<TemplatePart, String> {
    if name.is_empty() {
        return Err("a `%` begins no substitution; write `%%` for a percent sign".into());
    }
    TemplatePart::OPERATORS
        .into_iter()
        .find_map(|(known, part)| (known == name).then_some(part))
        .ok_or_else(|| format!("the substitution `%{name}%` is not supported"))
}

/// A header name in lower case, or one of the request's pseudo-headers.
fn header_name(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let known = matches!(
        lower.as_str(),
        ":method" | ":path" | ":authority" | ":scheme"
    );
    if known || HeaderName::from_bytes(lower.as_bytes()).is_ok() {
        Ok(lower)
    } else {
        Err(format!("{text:?} is not a header name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_substitutions_is_literal() {
        for (text, literal) in [
            ("a b", "a b"),
            ("100%%", "100%"),
            ("", ""),
            ("%%%%", "%%"),
            ("\tx", "\tx"),
        ] {
            let value = HeaderValue::from_str(literal).unwrap();
            assert_eq!(
                ValueTemplate::parse(text),
                Ok(ValueTemplate::Literal(value)),
                "{text}"
            );
        }
        assert!(matches!(
            ValueTemplate::parse("é"),
            Ok(ValueTemplate::Literal(_))
        ));
    }

    #[test]
    fn substitutions_are_read_with_their_arguments() {
        assert_eq!(
            ValueTemplate::parse("a%REQ(X-Y?:path):12%%%b%START_TIME%"),
            Ok(ValueTemplate::Parts(vec![
                TemplatePart::Text("a".into()),
                TemplatePart::Request {
                    name: "x-y".into(),
                    alternative: Some(":path".into()),
                    max: Some(12)
                },
                TemplatePart::Text("%b".into()),
                TemplatePart::StartTime,
            ]))
        );
        for (name, part) in TemplatePart::OPERATORS {
            assert_eq!(part.operator(), name);
            assert_eq!(
                ValueTemplate::parse(&format!("%{name}%")),
                Ok(ValueTemplate::Parts(vec![part]))
            );
        }
    }

    #[test]
    fn what_cannot_be_substituted_is_refused_with_a_reason() {
        for (text, reason) in [
            ("50%", "write `%%`"),
            ("50% off", "write `%%`"),
            ("%UNKNOWN%", "`%UNKNOWN%` is not supported"),
            ("%REQ%", "needs a header name"),
            ("%REQ(%", "closing parenthesis"),
            ("%REQ()%", "is not a header name"),
            ("%REQ(:bad)%", "is not a header name"),
            ("%REQ(x):%", "a length"),
            ("%START_TIME(%s)%", "takes no argument"),
            ("a\r\nb", "line break"),
            ("a\0", "NUL"),
            ("%PROTOCOL%\u{7f}", "control character"),
        ] {
            let said = ValueTemplate::parse(text).unwrap_err();
            assert!(said.contains(reason), "{text:?}: {said}");
        }
    }
}
