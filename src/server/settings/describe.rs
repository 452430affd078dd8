//! Settings that describe themselves: one declaration gives the struct, its defaults, its YAML
//! reading and the list that `pingress settings` prints, so that none can drift from another.

use serde::Serialize;

/// One key of the settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Dotted path: `gateway.limits.maxConnections`.
    pub key: String,
    /// The default as JSON.
    pub default: serde_json::Value,
    /// One line of meaning.
    pub meaning: String,
}

/// Lists a value's keys below a path.
pub(super) trait Describe {
    fn describe(&self, key: &str, meaning: &str, out: &mut Vec<Key>);
}

/// A value that is one key.
pub(super) trait Leaf: Serialize {}

impl Leaf for bool {}
impl Leaf for f64 {}
impl Leaf for i32 {}
impl Leaf for u16 {}
impl Leaf for u32 {}
impl Leaf for u64 {}
impl Leaf for usize {}
impl Leaf for String {}
impl<T: Serialize> Leaf for Option<T> {}
impl<T: Serialize> Leaf for Vec<T> {}
impl<K: Serialize, V: Serialize> Leaf for std::collections::BTreeMap<K, V> {}

impl<T: Leaf> Describe for T {
    fn describe(&self, key: &str, meaning: &str, out: &mut Vec<Key>) {
        out.push(Key {
            key: key.to_owned(),
            default: serde_json::to_value(self).unwrap_or_default(),
            meaning: meaning.trim().to_owned(),
        });
    }
}

/// Joins a path and a field, in the spelling the section uses.
pub(super) fn join(key: &str, field: &str, camel: bool) -> String {
    let mut name = String::new();
    let mut upper = false;
    for c in field.chars() {
        match c {
            '_' if camel => upper = true,
            c if upper => {
                name.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => name.push(c),
        }
    }
    if key.is_empty() {
        name
    } else {
        format!("{key}.{name}")
    }
}

/// Declares a section: fields with a doc line and a default each.
macro_rules! section {
    ($case:literal, $(#[doc = $about:literal])+ pub struct $name:ident {
        $( $(#[doc = $doc:literal])+ pub $field:ident : $ty:ty = $default:expr, )+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = $case)]
        pub struct $name { $( $(#[doc = $doc])+ pub $field: $ty, )+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::server::settings::describe::Describe for $name {
            fn describe(
                &self,
                key: &str,
                _meaning: &str,
                out: &mut Vec<$crate::server::settings::describe::Key>,
            ) {
                use $crate::server::settings::describe::{Describe, join};
                $( Describe::describe(
                    &self.$field,
                    &join(key, stringify!($field), $case == "camelCase"),
                    concat!($($doc),+),
                    out,
                ); )+
            }
        }
    };
}
pub(super) use section;
