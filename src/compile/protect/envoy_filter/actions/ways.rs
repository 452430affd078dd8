//! Which requests a configured descriptor concerns, by the actions that make it.

use std::net::IpAddr;

use super::super::local::Descriptor;
use super::{Entry, EntryValue, Item};
use crate::policy::rate_limit::spec::{Condition, Part, Source, Test};

/// The ways of requests of which an item makes this descriptor; none if it never does.
pub(in super::super) fn ways(descriptor: &Descriptor, item: &Item) -> Vec<Box<[Part]>> {
    let mut ways = Vec::new();
    follow(&descriptor.entries, &item.entries, Vec::new(), &mut ways);
    ways
}

/// Goes on with what is left of a descriptor and of an item.
fn follow(
    wanted: &[(String, String)],
    made: &[Entry],
    mut parts: Vec<Part>,
    ways: &mut Vec<Box<[Part]>>,
) {
    let Some((entry, made)) = made.split_first() else {
        if wanted.is_empty() {
            ways.push(parts.into());
        }
        return;
    };
    if let EntryValue::Of {
        source,
        skips: true,
    } = &entry.value
    {
        let mut parts = parts.clone();
        parts.push(Part::When {
            conditions: Box::new([Condition {
                source: source.clone(),
                test: Test::Present,
                inverted: true,
                missing_is_empty: false,
            }]),
            expected: true,
        });
        follow(wanted, made, parts, ways);
    }
    let Some(((key, value), wanted)) = wanted.split_first() else {
        return;
    };
    if *key != entry.key {
        return;
    }
    match &entry.value {
        EntryValue::Of { source, .. } if value.is_empty() => parts.push(Part::Each {
            source: source.clone(),
            shared: false,
        }),
        EntryValue::Of { source, .. } => match bytes(source, value) {
            Some(value) => parts.push(Part::Is {
                source: source.clone(),
                value,
            }),
            None => return,
        },
        EntryValue::Fixed(text) if value.is_empty() || value == text => {}
        EntryValue::FixedWhen {
            text,
            conditions,
            expected,
        } if value.is_empty() || value == text => parts.push(Part::When {
            conditions: conditions.clone(),
            expected: *expected,
        }),
        EntryValue::Fixed(_) | EntryValue::FixedWhen { .. } => return,
    }
    follow(wanted, made, parts, ways);
}

/// A value as its source gives it. `None` if it never does.
fn bytes(source: &Source, value: &str) -> Option<Box<[u8]>> {
    match source {
        Source::Client { .. } => match value.parse().ok()? {
            IpAddr::V4(address) => Some(Box::new(address.octets())),
            IpAddr::V6(address) => Some(Box::new(address.octets())),
        },
        Source::Network { v4, v6 } => {
            let (address, length) = value.split_once('/')?;
            let length: u8 = length.parse().ok()?;
            match address.parse().ok()? {
                IpAddr::V4(address) if length == *v4 => Some(Box::new(address.octets())),
                IpAddr::V6(address) if length == *v6 => Some(Box::new(address.octets())),
                _ => None,
            }
        }
        _ => Some(value.as_bytes().into()),
    }
}
