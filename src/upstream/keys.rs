//! Which endpoint a request's key belongs to: a hash ring, or Envoy's Maglev table.
//!
//! Both depend on nothing but addresses, weights and size, so that every gateway gives a key to
//! the same endpoint. The places of the ring are Envoy's (XXH64 of `address_number`), but an
//! endpoint has as many as its own weight says, whoever else there is. Envoy divides the ring's
//! size among the endpoints: when one of them leaves, the others get new places, and nearly
//! twice the keys move that have to. Pingora's Ketama hashes with CRC32 and knows no minimum
//! size. Built when endpoints are published; a look-up takes no lock and allocates nothing.

use std::io::{Cursor, Write};
use std::net::SocketAddr;

use twox_hash::XxHash64;

use crate::plan::HashTable;

/// A ring grows to this many places, or to eight times its minimum, before endpoints have to do
/// with fewer of them. 262,144 places take 5 MB, their index included.
const SPACIOUS: f64 = 262_144.0;
/// Envoy's bound of a ring.
const LARGEST_RING: f64 = 8.0 * 1024.0 * 1024.0;

/// A table of endpoint indexes to look keys up in.
#[derive(Debug)]
pub(super) enum Keys {
    Ring(Ring),
    Maglev(Box<[u32]>),
}

impl Keys {
    /// For endpoints with weights that are all above zero.
    pub(super) fn new(table: HashTable, endpoints: &[(SocketAddr, f64)]) -> Self {
        match table {
            HashTable::Ring { minimum_size } => Self::Ring(Ring::new(endpoints, minimum_size)),
            HashTable::Maglev { size } => Self::Maglev(maglev(endpoints, size)),
        }
    }

    /// The endpoint of a key; with `step`, whose place is so many further on.
    pub(super) fn find(&self, key: u64, step: usize) -> Option<usize> {
        let index = match self {
            Self::Ring(ring) => {
                let count = ring.places.len().max(1);
                ring.places.get((ring.first(key) + step) % count)?.1
            }
            Self::Maglev(places) => {
                let count = places.len().max(1);
                let first = key % count as u64;
                *places.get((first as usize + step) % count)?
            }
        };
        Some(index as usize)
    }
}

/// Places in order, each with its endpoint, and an index of them: a binary search of a large ring
/// misses the cache at nearly every step.
#[derive(Debug)]
pub(super) struct Ring {
    places: Box<[(u64, u32)]>,
    /// The first place of each equal part of the hashes, about as many parts as places, and the
    /// number of places at the end.
    starts: Box<[u32]>,
    /// How far a hash is shifted to the right to give its part.
    shift: u32,
}

impl Ring {
    /// `minimum_size` places for each unit of weight, whatever the number of endpoints.
    fn new(endpoints: &[(SocketAddr, f64)], minimum_size: u64) -> Self {
        let unit = unit(endpoints);
        let units: f64 = endpoints.iter().map(|(_, weight)| weight / unit).sum();
        let minimum = minimum_size.max(1) as f64;
        let most = (minimum * 8.0).clamp(SPACIOUS, LARGEST_RING);
        let of_unit = minimum.min(most / units);
        let mut places = Vec::new();
        for (index, (addr, weight)) in (0..).zip(endpoints) {
            let count = (weight / unit * of_unit).round().max(1.0) as u64;
            let hash = |nth| hash_text(format_args!("{addr}_{nth}"), 0);
            places.extend((0..count).map(|nth| (hash(nth), index)));
        }
        // Where places coincide, in the order of the endpoints.
        places.sort_unstable();
        Self::indexed(places)
    }

    fn indexed(places: Vec<(u64, u32)>) -> Self {
        let bits = places.len().next_power_of_two().trailing_zeros().max(1);
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut next = 0;
        for part in 0..1_u64 << bits {
            let rest = places.get(next as usize..).unwrap_or_default();
            let before = rest.iter().take_while(|(place, _)| place >> shift < part);
            next += before.count() as u32;
            starts.push(next);
        }
        starts.push(places.len() as u32);
        Self {
            places: places.into(),
            starts: starts.into(),
            shift,
        }
    }

    /// The place that a key belongs to; the number of places if it is behind the last one.
    fn first(&self, key: u64) -> usize {
        let part = (key >> self.shift) as usize;
        let Some([from, to]) = self.starts.get(part..part + 2) else {
            return 0;
        };
        let (from, to) = (*from as usize, *to as usize);
        let own = self.places.get(from..to).unwrap_or_default();
        from + own.partition_point(|(place, _)| *place < key)
    }
}

/// The weight of which all are multiples, if they are whole; else the lightest.
fn unit(endpoints: &[(SocketAddr, f64)]) -> f64 {
    let weights = endpoints.iter().map(|(_, weight)| *weight);
    if weights.clone().any(|weight| weight.fract() != 0.0) {
        return weights.fold(f64::MAX, f64::min);
    }
    weights.fold(0.0, greatest_common_divisor)
}

fn greatest_common_divisor(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Envoy's `MaglevTable`, listing 1 of the Maglev paper with weights.
fn maglev(endpoints: &[(SocketAddr, f64)], size: u32) -> Box<[u32]> {
    struct Taker {
        offset: u64,
        skip: u64,
        next: u64,
        weight: f64,
        target: f64,
    }
    let heaviest = endpoints
        .iter()
        .map(|(_, weight)| *weight)
        .fold(0.0, f64::max);
    let size = u64::from(size.max(2));
    let mut takers: Vec<Taker> = endpoints
        .iter()
        .map(|(addr, weight)| Taker {
            offset: hash_text(format_args!("{addr}"), 0) % size,
            skip: hash_text(format_args!("{addr}"), 1) % (size - 1) + 1,
            next: 0,
            weight: *weight,
            target: 0.0,
        })
        .collect();
    if takers.is_empty() {
        return Box::default();
    }
    let mut places: Vec<Option<u32>> = vec![None; size as usize];
    let mut left = places.len();
    let mut round = 1.0;
    while left > 0 {
        for (index, taker) in (0..).zip(&mut takers) {
            if left == 0 {
                break;
            }
            // The heaviest takes a place in every round, one of a third of it in every third.
            if round * taker.weight < taker.target {
                continue;
            }
            taker.target += heaviest;
            // Ends: the skips of a prime size visit every place.
            loop {
                let place = (taker.offset + taker.skip * taker.next) % size;
                taker.next += 1;
                match places.get_mut(place as usize) {
                    Some(slot @ None) => {
                        *slot = Some(index);
                        break;
                    }
                    _ if taker.next > 2 * size => break,
                    _ => {}
                }
            }
            left -= 1;
        }
        round += 1.0;
    }
    places.into_iter().map(Option::unwrap_or_default).collect()
}

/// XXH64 of a short text, without allocating.
fn hash_text(text: std::fmt::Arguments<'_>, seed: u64) -> u64 {
    let mut buffer = [0_u8; 96];
    let mut cursor = Cursor::new(buffer.as_mut_slice());
    // The longest address with a scope and a number has 80 bytes.
    let _ = cursor.write_fmt(text);
    let length = cursor.position() as usize;
    XxHash64::oneshot(seed, buffer.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests;
