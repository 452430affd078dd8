//! Our `Compression`: what is done with the responses of its target. It protects nothing, so one
//! that cannot be read fences nothing either.

use std::cell::Cell;
use std::sync::Arc;

use crate::base::Code;
use crate::compile::validate::compression::levels;
use crate::model::own::{Compression as Written, PolicyTarget};
use crate::model::{Object, Spec};
use crate::plan::CompressionId;
use crate::policy::compression::spec::{Coding, Compression, Leveled, MediaTypes};

use super::Guard;
use super::own::placed;
use super::sheet::Spot;
use super::target::{Found, Targets};

/// A response of this many bytes fits into one packet, compressed or not.
const MIN_BYTES: u64 = 1024;

/// How near a policy's target is to a request. They take their turns from the farthest on; the
/// nearest policy is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    #[default]
    Gateway,
    VirtualService,
    Rule,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    now: Turn,
    /// The first policy of this turn.
    first: usize,
}

/// The policies that can be read, the nearest last.
pub(super) fn by_turns<'a>(
    objects: impl Iterator<Item = &'a Arc<Object>>,
) -> Vec<(&'a Object, &'a Written, Turn)> {
    let mut all: Vec<_> = objects
        .filter_map(|object| match &object.spec {
            Spec::Compression(spec) => Some((&**object, spec, Turn::of(&spec.target_ref))),
            _ => None,
        })
        .collect();
    all.sort_by_key(|(.., turn)| *turn);
    all
}

impl Turn {
    fn of(target: &PolicyTarget) -> Self {
        match (target.kind.as_deref(), &target.section_name) {
            (Some("Gateway"), _) => Self::Gateway,
            (_, None) => Self::VirtualService,
            (_, Some(_)) => Self::Rule,
        }
    }
}

impl Turns {
    pub(super) fn read(&mut self, guard: &mut Guard<'_, '_>, spec: &Written, turn: Turn) {
        if turn != self.now {
            self.now = turn;
            self.first = guard.checks.compression.len();
        }
        if guard.versions.damage(&guard.object.key).is_some() {
            // What is wrong has its findings.
            return;
        }
        let key = Targets::key(guard.object, &spec.target_ref);
        let section = spec.target_ref.section_name.as_deref();
        let (code, message) = match guard.targets.find(&key, section, guard.listeners) {
            Found::Spots(spots) => return self.put(guard, spec, &spots),
            Found::Foreign(message) => (Code::NOT_FOR_THIS_GATEWAY, message),
            Found::Missing(message) => (Code::REFERENCED_RESOURCE_NOT_FOUND, message),
        };
        let hint = "correct the target's name or namespace; nothing is compressed by this policy";
        guard.note(code, "spec.targetRef", message, hint);
    }

    /// Puts a policy where its target is served, but where one as near is already.
    fn put(&self, guard: &mut Guard<'_, '_>, spec: &Written, spots: &[Spot]) {
        if spots.is_empty() {
            let message = "no request that is served now is for its target".to_owned();
            guard.note(Code::UNUSED_OBJECT, "spec.targetRef", message, "");
        }
        let id = CompressionId(guard.checks.compression.len());
        let placed_at = Cell::new(0_usize);
        let met = Cell::new(None);
        for spot in spots {
            guard.sheets.add(guard.listeners, *spot, |guards| {
                match guards.compression.filter(|known| known.0 >= self.first) {
                    // A place may be named twice.
                    Some(known) if known == id => {}
                    Some(known) => met.set(Some(known)),
                    None => {
                        guards.compression = Some(id);
                        placed_at.set(placed_at.get() + 1);
                    }
                }
            });
        }
        if let Some(known) = met.get() {
            let known = guard.checks.compression.get(known.0);
            let (name, origin) = known
                .map(|known| (known.id.to_string(), known.origin.to_string()))
                .unwrap_or_default();
            let what = match placed_at.get() {
                0 => "is not in force",
                _ => "is not in force for all of its target",
            };
            let message = format!("it {what}: {name} at {origin} is for the same requests");
            let hint = "put what both say into one policy";
            guard.note(Code::SHADOWED, "spec.targetRef", message, hint);
        }
        if placed_at.get() > 0 || met.get().is_none() {
            let policy = placed(guard, Arc::new(compile(spec)));
            guard.checks.compression.push(policy);
        }
    }
}

fn compile(spec: &Written) -> Compression {
    let tokens = spec.algorithms.as_ref();
    let codings = match tokens {
        None => Coding::ALL.to_vec(),
        Some(tokens) => tokens
            .iter()
            .filter_map(|token| Coding::of(token))
            .collect(),
    };
    let levels = levels(&spec.level);
    let leveled = |coding: Coding| {
        let written = levels.iter().find(|(known, _)| *known == coding);
        let written = written.and_then(|(_, level)| u8::try_from((*level)?).ok());
        Leveled {
            coding,
            level: written.unwrap_or_else(|| coding.default_level()),
        }
    };
    Compression {
        codings: codings.into_iter().map(leveled).collect(),
        min_bytes: spec.min_bytes.unwrap_or(MIN_BYTES),
        types: match &spec.content_types {
            None => MediaTypes::Texts,
            Some(types) => {
                let types = types.iter().map(|text| text.to_ascii_lowercase().into());
                MediaTypes::These(types.collect())
            }
        },
    }
}
