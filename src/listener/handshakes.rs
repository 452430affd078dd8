//! How often one source may begin a TLS handshake (edge-hardening section 5).
//!
//! A source is an IPv4 address or the /64 of an IPv6 one. Each has a bucket that fills with one
//! handshake per interval and holds those of a second. There is a fixed number of places: where a
//! new source finds none, the one that has used least gives way, so that a flood from many
//! addresses cannot wash out the bucket of whoever floods.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock;

/// 128 KiB in all.
const SETS: usize = 1024;
const PLACES: usize = 8;

/// What a bucket holds.
const BURST: Duration = Duration::from_secs(1);

/// The sources that were seen lately.
pub(super) struct Handshakes {
    /// Microseconds between two handshakes.
    interval: u64,
    made: Instant,
    hasher: foldhash::quality::RandomState,
    sets: Box<[Mutex<[Place; PLACES]>]>,
}

/// One source's bucket.
#[derive(Clone, Copy, Default)]
struct Place {
    source: u64,
    /// When it will be full again, in microseconds after `made`.
    full: u64,
}

impl Handshakes {
    pub fn new(per_second: NonZeroU32) -> Self {
        let second = BURST.as_micros() as u64;
        Self {
            interval: (second / u64::from(per_second.get())).max(1),
            made: clock::now(),
            hasher: foldhash::quality::RandomState::default(),
            sets: (0..SETS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Whether a source may begin a handshake now; if so, it is counted.
    pub fn admit(&self, source: IpAddr, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.made).as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let source = self.hasher.hash_one(network(source));
        // As many sets as fit into any `usize`.
        let Some(set) = self.sets.get(source as usize % SETS) else {
            return true;
        };
        let mut places = set.lock().unwrap_or_else(PoisonError::into_inner);
        let known = places.iter().position(|place| place.source == source);
        let least = || {
            let places = places.iter().enumerate();
            places.min_by_key(|(_, place)| place.full).map(|(at, _)| at)
        };
        let Some(place) = known.or_else(least).and_then(|at| places.get_mut(at)) else {
            return true;
        };
        if place.source != source {
            *place = Place { source, full: 0 };
        }
        let full = place.full.max(now).saturating_add(self.interval);
        let admitted = full <= now.saturating_add(BURST.as_micros() as u64);
        if admitted {
            place.full = full;
        }
        admitted
    }
}

/// What counts as one source.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32) -> (Handshakes, Instant) {
        let handshakes = Handshakes::new(NonZeroU32::new(per_second).unwrap());
        let now = handshakes.made + Duration::from_secs(100);
        (handshakes, now)
    }

    fn admitted(handshakes: &Handshakes, source: &str, now: Instant, tries: usize) -> usize {
        let source = source.parse().unwrap();
        (0..tries).filter(|_| handshakes.admit(source, now)).count()
    }

    #[test]
    fn a_source_gets_its_number_each_second_and_others_are_not_concerned() {
        let (handshakes, now) = limit(10);
        assert_eq!(admitted(&handshakes, "192.0.2.1", now, 50), 10);
        assert_eq!(admitted(&handshakes, "192.0.2.2", now, 50), 10);
        let later = now + Duration::from_millis(500);
        assert_eq!(admitted(&handshakes, "192.0.2.1", later, 50), 5);
        let much_later = now + Duration::from_secs(50);
        assert_eq!(admitted(&handshakes, "192.0.2.1", much_later, 50), 10);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let (handshakes, now) = limit(10);
        assert_eq!(admitted(&handshakes, "2001:db8::1", now, 50), 10);
        assert_eq!(admitted(&handshakes, "2001:db8::ffff:2", now, 50), 0);
        assert_eq!(admitted(&handshakes, "2001:db8:0:1::1", now, 50), 10);
        assert_eq!(admitted(&handshakes, "192.0.2.1", now, 50), 10);
        assert_eq!(admitted(&handshakes, "::ffff:192.0.2.1", now, 50), 0);
    }

    #[test]
    fn a_flood_from_many_addresses_does_not_free_the_one_that_is_over_its_number() {
        let (handshakes, now) = limit(10);
        assert_eq!(admitted(&handshakes, "192.0.2.1", now, 50), 10);
        for other in 0..200_000_u32 {
            let other = IpAddr::from((0x0a00_0000 + other).to_be_bytes());
            handshakes.admit(other, now);
        }
        assert_eq!(admitted(&handshakes, "192.0.2.1", now, 50), 0);
    }
}
