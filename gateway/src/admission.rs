//! Who may connect: how many from one address, and how many in a second.
//!
//! What an address has is counted until its session ends, or its connection if it never becomes one. Of an address that
//! has nothing left, its rate is remembered for as long as it matters, of a bounded number of them.

use crate::clock;
use crate::config::Config;
use crate::network::{Network, masked};
use crate::session::throttle::Pace;
use crate::stats::RefuseReason;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Addresses without a connection whose rate is remembered.
pub const REMEMBERED_MAX: usize = 16_384;
/// What an address costs, in a table that is half empty.
pub const ADDRESS_BYTES: usize = 2 * (size_of::<IpAddr>() + size_of::<Visitor>() + 1);
/// The time in which a burst may come that a rate allows.
const SPAN_MS: u64 = 1_000;
/// Refusals of one address that are answered in a second, and of all of them: the rest is closed without a word.
const ANSWERS_PER_S: (u32, u32) = (10, 500);
/// Bits of an IPv6 address that tell customers apart: each has a whole network of the rest.
const V6_PREFIX_BITS: u32 = 64;

/// What is known of an address.
#[derive(Debug, Default)]
struct Visitor {
    connections: u32,
    arrivals: Pace,
    answers: Pace,
}

#[derive(Debug, Default)]
struct Book {
    visitors: HashMap<IpAddr, Visitor>,
    /// Those of them that have a connection.
    present: usize,
    arrivals: Pace,
    answers: Pace,
}

/// Who may connect, for all shards.
#[derive(Debug)]
pub struct Admission {
    connections_max: u32,
    per_s: u32,
    per_address_per_s: u32,
    exempt: Vec<Network>,
    book: Mutex<Book>,
}

/// A connection that is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    /// Why.
    pub why: RefuseReason,
    /// Whether it is told: not when so many are refused that this is work in itself.
    pub is_told: bool,
}

/// A connection that was let in; counted until it is dropped.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Nothing is counted of an address that is exempt.
    counted: Option<(Arc<Admission>, IpAddr)>,
}

impl Admission {
    /// With the limits of a configuration.
    pub fn new(config: &Config) -> Arc<Self> {
        let limits = &config.limits;
        Arc::new(Self {
            connections_max: limits.connections_per_address_max,
            per_s: limits.connections_per_s,
            per_address_per_s: limits.connections_per_address_per_s,
            // Each was found right when the configuration was checked.
            exempt: limits.addresses_exempt.iter().filter_map(|text| Network::parse(text).ok()).collect(),
            book: Mutex::default(),
        })
    }

    /// Lets a connection from `address` in, or not.
    ///
    /// # Errors
    /// Why not.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Turned> {
        self.enter_at(address, clock::mono_ms())
    }

    fn enter_at(self: &Arc<Self>, address: IpAddr, now_ms: u64) -> Result<Admitted, Turned> {
        let address = address.to_canonical();
        if self.exempt.iter().any(|network| network.contains(address)) {
            return Ok(Admitted { counted: None });
        }
        let whose = if address.is_ipv6() { masked(address, V6_PREFIX_BITS) } else { address };
        let mut book = self.book();
        book.make_room(now_ms);
        let Book { visitors, present, arrivals, answers } = &mut *book;
        let visitor = visitors.entry(whose).or_default();
        let why = if self.connections_max > 0 && visitor.connections >= self.connections_max {
            RefuseReason::AddressMax
        } else if !visitor.arrivals.admit(now_ms, self.per_address_per_s, SPAN_MS) {
            RefuseReason::AddressRate
        } else if !arrivals.admit(now_ms, self.per_s, SPAN_MS) {
            RefuseReason::Rate
        } else {
            *present += usize::from(visitor.connections == 0);
            visitor.connections += 1;
            return Ok(Admitted { counted: Some((self.clone(), whose)) });
        };
        let is_told = visitor.answers.admit(now_ms, ANSWERS_PER_S.0, SPAN_MS)
            && answers.admit(now_ms, ANSWERS_PER_S.1, SPAN_MS);
        Err(Turned { why, is_told })
    }

    fn leave(&self, whose: IpAddr, now_ms: u64) {
        let mut book = self.book();
        let Book { visitors, present, .. } = &mut *book;
        let Some(visitor) = visitors.get_mut(&whose) else { return };
        visitor.connections = visitor.connections.saturating_sub(1);
        if visitor.connections == 0 {
            *present = present.saturating_sub(1);
            if visitor.is_forgotten(now_ms) {
                visitors.remove(&whose);
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Each turn leaves it in order wherever it may panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    /// Whether nothing about it matters any more.
    fn is_forgotten(&self, now_ms: u64) -> bool {
        self.connections == 0 && self.arrivals.is_over(now_ms) && self.answers.is_over(now_ms)
    }
}

impl Book {
    /// Forgets addresses when too many are remembered that have no connection: those whose time is over, or else all.
    fn make_room(&mut self, now_ms: u64) {
        if self.visitors.len() - self.present.min(self.visitors.len()) < REMEMBERED_MAX {
            return;
        }
        self.visitors.retain(|_, visitor| !visitor.is_forgotten(now_ms));
        if self.visitors.len() - self.present.min(self.visitors.len()) > REMEMBERED_MAX / 2 {
            self.visitors.retain(|_, visitor| visitor.connections > 0);
        }
        self.visitors.shrink_to_fit();
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some((admission, whose)) = self.counted.take() {
            admission.leave(whose, clock::mono_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn admission(connections_max: u32, per_address_per_s: u32, per_s: u32) -> Arc<Admission> {
        let mut config = Config::default();
        config.limits.connections_per_address_max = connections_max;
        config.limits.connections_per_address_per_s = per_address_per_s;
        config.limits.connections_per_s = per_s;
        Admission::new(&config)
    }

    fn whys(admission: &Arc<Admission>, address: &str, count: usize) -> (Vec<Admitted>, Vec<Turned>) {
        let entered: Vec<_> =
            (0..count).map(|_| admission.enter_at(address.parse().unwrap(), 50_000)).collect();
        let (let_in, turned): (Vec<_>, Vec<_>) = entered.into_iter().partition(Result::is_ok);
        (let_in.into_iter().flatten().collect(), turned.into_iter().filter_map(Result::err).collect())
    }

    #[test]
    fn an_address_has_so_many_connections_and_gets_places_back() {
        let admission = admission(3, 0, 0);
        let (mut held, turned) = whys(&admission, "192.0.2.1", 5);
        assert_eq!((held.len(), turned.len()), (3, 2));
        assert!(turned.iter().all(|turned| turned.why == RefuseReason::AddressMax && turned.is_told));
        assert_eq!(whys(&admission, "::ffff:192.0.2.1", 1).1.len(), 1, "the same address, over IPv6");
        assert_eq!(whys(&admission, "192.0.2.2", 1).0.len(), 1);
        held.pop();
        assert_eq!(whys(&admission, "192.0.2.1", 2).0.len(), 1);
        // A customer of IPv6 has more addresses than there are seconds.
        let (held, _) = whys(&admission, "2001:db8:1:2::1", 3);
        assert_eq!(whys(&admission, "2001:db8:1:2:ffff::9", 1).1.len(), 1);
        assert_eq!(whys(&admission, "2001:db8:1:3::1", 1).0.len(), 1);
        drop(held);
        assert_eq!(whys(&admission, "127.0.0.1", 100).0.len(), 100, "exempt");
    }

    #[test]
    fn rates_are_refused_by_name_and_a_flood_without_a_word() {
        let limited = admission(0, 5, 0);
        let (_held, turned) = whys(&limited, "192.0.2.1", 1_000);
        assert_eq!(turned.len(), 995);
        assert!(turned.iter().all(|turned| turned.why == RefuseReason::AddressRate));
        assert_eq!(turned.iter().filter(|turned| turned.is_told).count(), ANSWERS_PER_S.0 as usize);
        assert_eq!(whys(&limited, "192.0.2.2", 5).0.len(), 5, "another one is not refused for it");
        let limited = admission(0, 0, 100);
        let mut told = 0;
        let mut admitted = Vec::new();
        for n in 0..1_000u32 {
            let address = IpAddr::from(Ipv4Addr::from_bits(0xc000_0000 + n));
            match limited.enter_at(address, 50_000) {
                Ok(one) => admitted.push(one),
                Err(turned) => {
                    assert_eq!(turned.why, RefuseReason::Rate);
                    told += usize::from(turned.is_told);
                }
            }
        }
        assert_eq!((admitted.len(), told), (100, ANSWERS_PER_S.1 as usize));
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded_and_shrinks() {
        let admission = admission(10, 5, 0);
        let address = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x1000_0000 + n));
        let held: Vec<_> = (0..100).map(|n| admission.enter_at(address(n), 0).unwrap()).collect();
        for n in 0..1_000_000 {
            drop(admission.enter_at(address(n), u64::from(n / 100_000)));
            let book = admission.book();
            assert!(book.visitors.len() <= REMEMBERED_MAX + 100, "{}", book.visitors.len());
        }
        assert!(admission.book().visitors.capacity() <= 4 * REMEMBERED_MAX);
        drop(held);
        admission.book().make_room(10_000_000);
        assert_eq!(admission.book().present, 0);
    }
}
