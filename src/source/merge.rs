//! The objects of all files as one ordered set, kept up to date file by file.
//!
//! A change of one file among thousands costs a few binary searches, not a sort.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{Code, Finding, ObjectKey};
use crate::model::Object;

/// Above this many changes at once, sorting everything is cheaper than moving each into place.
const RESORT_ABOVE: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Merge {
    /// The objects that count, in the stable order.
    ordered: Vec<Arc<Object>>,
    /// All objects of an identity; the first counts.
    claims: HashMap<ObjectKey, SmallVec<[Arc<Object>; 1]>>,
    /// Identities that are claimed more than once.
    repeated: BTreeSet<ObjectKey>,
}

impl Merge {
    /// Takes out and puts in.
    pub(super) fn apply(&mut self, removed: &[Arc<Object>], added: Vec<Arc<Object>>) {
        let keys: BTreeSet<ObjectKey> = removed
            .iter()
            .chain(&added)
            .map(|object| object.key.clone())
            .collect();
        let resort = keys.len() > RESORT_ABOVE;
        if !resort {
            keys.iter().for_each(|key| self.withdraw(key));
        }
        for object in removed {
            if let Some(claims) = self.claims.get_mut(&object.key) {
                claims.retain(|claim| !Arc::ptr_eq(claim, object));
            }
        }
        for object in added {
            let claims = self.claims.entry(object.key.clone()).or_default();
            let place = claims.partition_point(|claim| claim.origin <= object.origin);
            claims.insert(place, object);
        }
        for key in &keys {
            let claims = self.claims.get(key).map_or(0, SmallVec::len);
            match claims {
                0 => {
                    self.claims.remove(key);
                    self.repeated.remove(key);
                }
                1 => {
                    self.repeated.remove(key);
                }
                _ => {
                    self.repeated.insert(key.clone());
                }
            }
        }
        if resort {
            self.ordered = self
                .claims
                .values()
                .filter_map(|claims| claims.first().cloned())
                .collect();
            self.ordered.sort_unstable_by(|a, b| a.stable_order(b));
        } else {
            keys.iter().for_each(|key| self.publish(key));
        }
    }

    pub(super) fn ordered(&self) -> &[Arc<Object>] {
        &self.ordered
    }

    /// One finding for each object whose identity another one has.
    pub(super) fn duplicates(&self) -> impl Iterator<Item = Finding> {
        self.repeated
            .iter()
            .filter_map(|key| self.claims.get(key))
            .flat_map(|claims| {
                let (first, others) = match claims.as_slice() {
                    [first, others @ ..] => (Some(first), others),
                    [] => (None, [].as_slice()),
                };
                others
                    .iter()
                    .filter_map(move |other| first.map(|first| duplicate(first, other)))
            })
    }

    fn withdraw(&mut self, key: &ObjectKey) {
        let Some(first) = self.claims.get(key).and_then(|claims| claims.first()) else {
            return;
        };
        if let Ok(index) = self
            .ordered
            .binary_search_by(|object| object.stable_order(first))
        {
            self.ordered.remove(index);
        }
    }

    fn publish(&mut self, key: &ObjectKey) {
        let Some(first) = self.claims.get(key).and_then(|claims| claims.first()) else {
            return;
        };
        if let Err(index) = self
            .ordered
            .binary_search_by(|object| object.stable_order(first))
        {
            self.ordered.insert(index, first.clone());
        }
    }
}

fn duplicate(first: &Object, other: &Object) -> Finding {
    let message = format!(
        "the same object is defined at {} already; that one counts",
        first.origin
    );
    Finding::new(Code::DUPLICATE_OBJECT, message)
        .at(&other.origin)
        .of(&other.key)
        .hint("remove or rename one of the two")
}
