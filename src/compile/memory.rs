//! What one compile leaves for the next: the last error-free versions, and results that still hold.
//!
//! Only the versions have a meaning; everything else is the same whether it is remembered or made
//! anew, which a property test holds `compile` to. A result is kept with what it was made from and
//! taken over when that is unchanged: objects are the same if they are the same allocation, which
//! the kept handle keeps from being given to another. [`compile`](super::compile) says which results.

use std::sync::Arc;

use foldhash::HashMap;
use smallvec::SmallVec;

use crate::base::{Finding, ObjectKey};
use crate::model::Object;
use crate::plan::hosts::HostIndex;
use crate::plan::{Digest, Plan, VirtualHost};

use super::Options;
use super::bind::Placed;
use super::hosts::Merged;
use super::registry::slots::Slots;
use super::rule::{Branches, Words};

/// Held by the server between compiles.
#[derive(Debug, Default)]
pub struct Memory {
    /// In the inventory's order.
    kept: Vec<Kept>,
    /// How far into `kept` the objects asked for have come.
    cursor: usize,
    /// Settings and Gateways that all results beside validation's hold for. No settings while a
    /// compile is under way: one that panicked leaves results that must not be taken over.
    options: Option<Options>,
    gateways: Vec<Arc<Object>>,
    /// By the place of their listener: equal Gateways have equal sockets in equal order.
    pub(super) sockets: Vec<Vhosts>,
    pub(super) slots: Slots,
    pub(super) words: Words,
}

/// An error-free object with what was made of it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub object: Arc<Object>,
    /// Only such are kept beyond the compile that is under way.
    pub is_error_free: bool,
    /// What validation said; `None` if it was not asked.
    pub warnings: Option<Box<[Finding]>>,
    pub placed: Option<Placed>,
    /// By declared port.
    pub branches: SmallVec<[KeptBranches; 1]>,
}

#[derive(Clone, Debug)]
pub(crate) struct KeptBranches {
    pub port: u16,
    pub branches: Arc<Branches>,
    /// Whether they hold for the compile that is under way.
    pub is_current: bool,
}

/// The virtual hosts of a socket, in the order of their hosts.
#[derive(Debug, Default)]
pub(crate) struct Vhosts {
    pub merged: Vec<Merged>,
    pub index: Arc<HostIndex>,
}

impl Memory {
    /// The last error-free version of each object: every error-free one, and the earlier version of
    /// every broken one that still exists.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.kept.iter().map(|kept| &kept.object)
    }

    /// A memory of the versions alone.
    #[must_use]
    pub fn versions(&self) -> Self {
        let kept = self.objects().cloned().map(|object| Kept {
            is_error_free: true,
            ..Kept::new(object)
        });
        Self {
            kept: kept.collect(),
            ..Self::default()
        }
    }

    pub(super) fn begin(&mut self) {
        self.cursor = 0;
    }

    /// What is known of an object. Objects are asked for in the inventory's order, so that each is
    /// found beside the last one; out of order, less is found. [`Self::begin`] comes first.
    pub(super) fn find(&mut self, object: &Arc<Object>) -> Option<Kept> {
        loop {
            let kept = self.kept.get(self.cursor)?;
            if Arc::ptr_eq(&kept.object, object) {
                self.cursor += 1;
                return Some(kept.clone());
            }
            if kept.object.stable_order(object).is_gt() {
                return None;
            }
            self.cursor += 1;
        }
    }

    /// What is known, by identity: what stands in for broken objects.
    pub(super) fn stand_ins(&self) -> HashMap<&ObjectKey, &Kept> {
        let kept = self.kept.iter();
        kept.map(|kept| (&kept.object.key, kept)).collect()
    }

    /// Forgets what was made under other settings or Gateways.
    pub(super) fn settle<'o>(
        &mut self,
        options: &Options,
        gateways: impl Iterator<Item = &'o Arc<Object>> + Clone,
        kept: &mut [Kept],
    ) {
        let is_same = self.options.take().as_ref() == Some(options)
            && gateways.clone().count() == self.gateways.len()
            && gateways
                .clone()
                .zip(&self.gateways)
                .all(|(now, then)| Arc::ptr_eq(now, then));
        if is_same {
            return;
        }
        self.gateways = gateways.cloned().collect();
        self.forget_results(kept);
    }

    /// The digests of a plan's virtual hosts; of those that are as they were, the known ones.
    pub(super) fn digests(&mut self, plan: &Plan) -> Vec<Vec<Digest>> {
        let mut digests = Vec::with_capacity(plan.listeners.len());
        let mut sockets = self.sockets.iter_mut();
        for listener in &plan.listeners {
            let vhosts = sockets.next();
            let mut merged = vhosts.into_iter().flat_map(|vhosts| &mut vhosts.merged);
            let of_host = |host: &Arc<VirtualHost>| {
                let digest = || Digest::of_virtual_host(host, &plan.clusters);
                match merged.find(|merged| merged.host.is_some()) {
                    // Another one if it was fenced since it was merged.
                    Some(merged) if merged.is_host(host) => {
                        *merged.digest.get_or_insert_with(digest)
                    }
                    _ => digest(),
                }
            };
            digests.push(listener.virtual_hosts.iter().map(of_host).collect());
        }
        digests
    }

    /// Forgets everything that names clusters by id.
    fn forget_results(&mut self, kept: &mut [Kept]) {
        self.sockets = Vec::new();
        self.slots = Slots::default();
        for kept in kept {
            kept.placed = None;
            kept.branches.clear();
        }
    }

    /// Takes up what the next compile may use. `clusters` says how many ids are in use.
    pub(super) fn keep(&mut self, mut kept: Vec<Kept>, options: &Options, clusters: usize) {
        if self.slots.is_sparse(clusters) {
            self.forget_results(&mut kept);
        }
        kept.retain(|kept| kept.is_error_free);
        for kept in &mut kept {
            kept.branches.retain(|branches| branches.is_current);
            for branches in &mut kept.branches {
                branches.is_current = false;
            }
        }
        self.kept = kept;
        self.options = Some(options.clone());
    }
}

impl Kept {
    pub(super) fn new(object: Arc<Object>) -> Self {
        Self {
            object,
            is_error_free: false,
            warnings: None,
            placed: None,
            branches: SmallVec::new(),
        }
    }
}
