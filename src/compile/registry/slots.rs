//! The ids of clusters, kept from compile to compile so that routes made earlier stay right.

use std::sync::Arc;

use foldhash::HashMap;

use crate::plan::ClusterId;

/// Ids that may be unused before it pays to number anew.
const SPARE: usize = 64;

/// Cluster names to ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    ids: HashMap<Arc<str>, ClusterId>,
}

impl Slots {
    pub(super) fn get(&self, name: &str) -> Option<ClusterId> {
        self.ids.get(name).copied()
    }

    /// The id of a cluster; the next free one if it has none.
    pub(super) fn take(&mut self, name: &Arc<str>) -> ClusterId {
        let next = ClusterId(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
        match self.ids.get(name) {
            Some(id) => *id,
            None => *self.ids.entry(name.clone()).or_insert(next),
        }
    }

    /// Whether most ids belong to clusters that are gone, `used` being those that are not.
    pub(crate) fn is_sparse(&self, used: usize) -> bool {
        self.ids.len() > used * 2 + SPARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_id_and_a_new_one_gets_the_next() {
        let mut slots = Slots::default();
        let ids: Vec<u32> = ["a", "b", "a", "c"]
            .map(|name| slots.take(&name.into()).0)
            .into();
        assert_eq!(ids, [0, 1, 0, 2]);
        assert_eq!(slots.get("c"), Some(ClusterId(2)));
        assert!(!slots.is_sparse(0));
    }
}
