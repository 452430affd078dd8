//! Buckets in one atomic word each, and a table of them that no number of keys makes larger.
//!
//! A bucket is the moment at which it is full again (GCRA): taking a token moves it by the time a
//! token needs. Nothing has to run for a bucket to fill.
//!
//! The table is divided into sets of eight. A key that finds its set full takes the place of the
//! key whose bucket is the fullest, *with its bucket as it is*. So no key ever has more tokens
//! than it would have in a table without end: whoever comes back finds a bucket at least as empty
//! as the one it lost, and a flood of keys buys nothing. (This is the argument of Metwally's
//! Space-Saving sketch.) What a flood can do is empty the buckets that newcomers share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::spec::Bucket;

/// Buckets in a set: as many as fit two cache lines with their tags.
const WAYS: usize = 8;
/// Parts of the table that are allocated by themselves, when first used.
const SHARDS: usize = 64;

/// Fewest keys a table holds.
pub(super) const FEWEST: u32 = (WAYS * SHARDS) as u32;

/// What buckets of a limit have in common, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Time for one token.
    pub emission: u64,
    /// Time for a whole bucket.
    pub depth: u64,
}

/// One bucket: when it is full again, in nanoseconds of the limit's own clock.
#[derive(Debug, Default)]
pub(super) struct Meter(AtomicU64);

/// Buckets by the hash of their key.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[OnceLock<Box<[Set]>>]>,
    /// In each shard.
    sets: usize,
}

/// Buckets that a key may have. Its own cache lines, so that a busy key slows no other set.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    ways: [(AtomicU64, Meter); WAYS],
}

impl Terms {
    pub(super) fn of(bucket: &Bucket) -> Self {
        Self {
            emission: bucket.emission(),
            depth: bucket.depth(),
        }
    }
}

impl Meter {
    /// Takes a token. Gives when the bucket will be full again, or, as an error, when it is if
    /// there is no token.
    pub(super) fn take(&self, terms: Terms, now: u64) -> Result<u64, u64> {
        let mut full = self.0.load(Ordering::Relaxed);
        loop {
            let next = full.max(now).saturating_add(terms.emission);
            if next - now > terms.depth {
                return Err(full);
            }
            match self
                .0
                .compare_exchange_weak(full, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(next),
                Err(seen) => full = seen,
            }
        }
    }

    /// Gives back a token that was taken.
    pub(super) fn give_back(&self, terms: Terms) {
        self.0.fetch_sub(terms.emission, Ordering::Relaxed);
    }

    fn full(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Table {
    /// A table for so many keys, rounded up.
    pub(super) fn new(keys: u32) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| OnceLock::new()).collect(),
            sets: Self::sets(keys),
        }
    }

    /// Whether it is as large as one for so many keys.
    pub(super) fn is_for(&self, keys: u32) -> bool {
        self.sets == Self::sets(keys)
    }

    fn sets(keys: u32) -> usize {
        (keys.max(FEWEST) / FEWEST).next_power_of_two() as usize
    }

    /// The bucket of a key.
    pub(super) fn meter(&self, hash: u64) -> Option<&Meter> {
        let bits = hash as usize;
        let shard = self.shards.get(bits % SHARDS)?;
        let sets = shard.get_or_init(|| (0..self.sets).map(|_| Set::default()).collect());
        let set = sets.get(bits / SHARDS % self.sets)?;
        // 0 is an unused place's.
        set.meter(hash.max(1))
    }

    /// Bytes that are in use.
    pub(super) fn bytes(&self) -> usize {
        let used = self.shards.iter().filter(|shard| shard.get().is_some());
        used.count() * self.sets * std::mem::size_of::<Set>()
    }
}

impl Set {
    fn meter(&self, tag: u64) -> Option<&Meter> {
        loop {
            if let Some((_, meter)) = self.find(tag) {
                return Some(meter);
            }
            let fullest = self.ways.iter().min_by_key(|(_, meter)| meter.full());
            let (place, meter) = fullest?;
            let before = place.load(Ordering::SeqCst);
            if before == tag
                || place
                    .compare_exchange(before, tag, Ordering::SeqCst, Ordering::SeqCst)
                    .is_err()
            {
                continue;
            }
            // Another thread may have given the key another place meanwhile. Both look after they
            // wrote, so at least one sees the other; the first place stays.
            match self.find(tag) {
                Some((first, known)) if !std::ptr::eq(first, place) => {
                    // If it is another's by now, that one keeps it.
                    let _ = place.compare_exchange(tag, 0, Ordering::SeqCst, Ordering::SeqCst);
                    return Some(known);
                }
                _ => return Some(meter),
            }
        }
    }

    fn find(&self, tag: u64) -> Option<&(AtomicU64, Meter)> {
        let mut ways = self.ways.iter();
        ways.find(|(place, _)| place.load(Ordering::SeqCst) == tag)
    }
}

#[cfg(test)]
mod tests;
