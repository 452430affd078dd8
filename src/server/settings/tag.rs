//! Tags of the user's own on spans, as MeshConfig and Telemetry write them.

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::plan::tracing::{CustomTag, SECRET_HEADERS, TagValue};

/// Exactly one of its fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tag {
    literal: Option<Literal>,
    environment: Option<Named>,
    header: Option<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Literal {
    value: String,
}

/// An environment variable or a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Named {
    name: String,
    #[serde(default)]
    default_value: String,
}

impl Tag {
    /// The tag as the plan has it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compiled(&self, name: &str) -> Result<CustomTag, String> {
        let default = |text: &str| (!text.is_empty()).then(|| text.into());
        let value = match (&self.literal, &self.environment, &self.header) {
            _ if name.is_empty() => return Err("a tag has no name".into()),
            (Some(literal), None, None) if literal.value.is_empty() => {
                return Err("the tag's value is empty".into());
            }
            (Some(literal), None, None) => TagValue::Literal(literal.value.as_str().into()),
            (None, Some(variable), None) if variable.name.is_empty() => {
                return Err("the variable has no name".into());
            }
            (None, Some(variable), None) => TagValue::Environment {
                name: variable.name.as_str().into(),
                default: default(&variable.default_value),
            },
            (None, None, Some(header)) => {
                let name = HeaderName::from_bytes(header.name.as_bytes())
                    .map_err(|_| format!("`{}` is not the name of a header", header.name))?;
                if SECRET_HEADERS.contains(&name.as_str()) {
                    return Err(format!("`{name}` holds secrets, which go into no span"));
                }
                TagValue::Header {
                    name,
                    default: default(&header.default_value),
                }
            }
            _ => {
                return Err(
                    "write exactly one of `literal: {value}`, `environment: {name}` and `header: {name}`"
                        .into(),
                );
            }
        };
        Ok(CustomTag {
            name: name.into(),
            value,
        })
    }
}
