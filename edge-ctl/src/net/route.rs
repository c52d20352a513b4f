//! Choice of a next hop, among those of a multipath route, for the packets to a backend.
//!
//! Each backend has one next hop of its route: all of its packets take it, and so do its probes, which would otherwise
//! test another path. A hash of backend and next hop spreads the backends, so that if a next hop fails only its own
//! backends move, and return when it does.

#![deny(clippy::disallowed_methods)]

use std::{collections::BTreeSet, net::IpAddr};

use edge_common::abi::Mode;

use crate::config::{Config, Nat, Tunnel};

/// An address with the parameters of its route lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Destination {
    pub address: IpAddr,
    /// Source address of the packets, if known: policy routing may depend on it.
    pub source: Option<IpAddr>,
    /// Whether answers to `source` return to this host, so that probes can have it as their source, too. The source of a
    /// tunnel may be shared by several edges, and answers to it may go to another edge.
    pub answered_here: bool,
    /// Whether packets are sent there unchanged, so that no router may be in between: it would send them back.
    pub on_link: bool,
}

impl Destination {
    /// The destination of packets from any source.
    pub(crate) const fn of(address: IpAddr) -> Self {
        Self { address, source: None, answered_here: false, on_link: false }
    }
}

/// Route parameters of a configuration's backends: a backend that some service reaches by a tunnel has the tunnel's
/// source, in `nat` it has the first source, and one that some service reaches in `dsr` must not be behind a router.
#[derive(Debug)]
pub(crate) struct Destinations<'a> {
    tunnel: &'a Tunnel,
    nat: &'a Nat,
    tunnelled: BTreeSet<&'a str>,
    direct: BTreeSet<&'a str>,
    translated: BTreeSet<&'a str>,
}

impl<'a> Destinations<'a> {
    pub(crate) fn of(config: &'a Config) -> Self {
        let [mut tunnelled, mut direct, mut translated] = [const { BTreeSet::new() }; 3];
        for mode in Mode::ALL {
            let of_this_kind = match mode {
                Mode::Ipip | Mode::IpipRange | Mode::Gue => &mut tunnelled,
                Mode::Dsr => &mut direct,
                Mode::Nat => &mut translated,
            };
            of_this_kind.extend(config.pools_of(mode));
        }
        Self { tunnel: &config.tunnel, nat: &config.nat, tunnelled, direct, translated }
    }

    /// The destination of a backend in this pool; `None` for a pool that is gone. A backend has one next hop: in a pool
    /// that serves both by a tunnel and in `nat`, translated packets take that of the tunnel.
    pub(crate) fn to(&self, pool: Option<&str>, address: IpAddr) -> Destination {
        let is_in = |pools: &BTreeSet<&str>| pool.is_some_and(|pool| pools.contains(pool));
        let (source, answered_here) = if is_in(&self.tunnelled) {
            (self.tunnel.source(address), false)
        } else if is_in(&self.translated) {
            (self.nat.source(address), true)
        } else {
            (None, false)
        };
        Destination { address, source, answered_here, on_link: is_in(&self.direct) }
    }

    /// The destination that translated packets to a backend in this pool would have, if it is another one than they take.
    pub(crate) fn not_taken(&self, pool: &str, address: IpAddr) -> Option<Destination> {
        let is_both = self.tunnelled.contains(pool) && self.translated.contains(pool);
        let source = self.nat.source(address);
        is_both.then_some(Destination { source, answered_here: true, ..self.to(Some(pool), address) })
    }
}

/// The route to a backend, as far as probes depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedRoute {
    /// Index of the route's egress interface; for a VLAN interface its own, not its parent's.
    pub interface: u32,
    /// Index of the device below, if `interface` is a macvlan interface. Linux answers for an address by any of its
    /// interfaces in the segment (unless `arp_ignore` is set), so a backend may send to that device's MAC address as
    /// well.
    pub below: Option<u32>,
    /// The next hop; the backend's own address if it is on the link.
    pub next_hop: IpAddr,
    /// Source address of probes: that of the destination if answers to it return to this host, or else the one that the
    /// kernel would choose.
    pub source: Option<IpAddr>,
}

impl ResolvedRoute {
    /// Indexes of the interfaces that receive the answers.
    pub(crate) fn interfaces(self) -> impl Iterator<Item = u32> {
        [self.interface].into_iter().chain(self.below)
    }
}

/// The kernel's route to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// At least one.
    pub hops: Vec<Hop>,
    /// The route's own MTU, or the path MTU that the kernel has learnt.
    pub mtu: Option<u32>,
    pub source: Option<IpAddr>,
}

/// One next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub egress: u32,
    /// Address of the neighbour.
    pub via: IpAddr,
    /// Weight of the next hop, relative to the others'.
    pub weight: u16,
}

impl Route {
    /// The next hops in the order of this backend's preference, by rendezvous hashing: each is first for a share of
    /// backends that follows its weight.
    pub(super) fn preferred(&self, backend: IpAddr) -> Vec<Hop> {
        let mut hops = self.hops.clone();
        if hops.len() > 1 {
            hops.sort_by(|a, b| f64::total_cmp(&a.distance(backend), &b.distance(backend)));
        }
        hops
    }
}

impl Hop {
    /// Exponentially distributed with the weight as its rate, so that each next hop has the least distance with the
    /// probability of its share.
    #[expect(clippy::cast_precision_loss, reason = "of a hash its first bits do")]
    fn distance(&self, backend: IpAddr) -> f64 {
        let uniform = (hash(*self, backend) as f64 + 1.0) / (u64::MAX as f64 + 2.0);
        -uniform.ln() / f64::from(self.weight.max(1))
    }
}

/// Must stay the same in every version, since a new version must not move backends: FNV-1a and the last step of
/// `SplitMix64`, without which the first bits are similar for similar addresses.
fn hash(hop: Hop, backend: IpAddr) -> u64 {
    let bytes = [backend, hop.via].map(|address| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    });
    let bytes = bytes.into_iter().flatten().chain(hop.egress.to_be_bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn route(weights: &[u16]) -> Route {
        let hop = |(number, weight): (u8, &u16)| Hop {
            egress: 2,
            via: Ipv4Addr::new(10, 0, 0, number).into(),
            weight: *weight,
        };
        Route { hops: (1..).zip(weights).map(hop).collect(), mtu: None, source: None }
    }

    fn backends() -> impl Iterator<Item = IpAddr> {
        (0..4000u16).map(|number| {
            let [high, low] = number.to_be_bytes();
            Ipv4Addr::new(10, 1, high, low).into()
        })
    }

    fn first(route: &Route, backend: IpAddr) -> u8 {
        let IpAddr::V4(via) = route.preferred(backend)[0].via else { panic!("of IPv4") };
        via.octets()[3]
    }

    #[test]
    fn backends_are_spread_by_weight() {
        for weights in [&[1, 1][..], &[1, 3], &[2, 1, 1]] {
            let route = route(weights);
            let total: u16 = weights.iter().sum();
            for (number, weight) in (1..).zip(weights) {
                let count = backends().filter(|backend| first(&route, *backend) == number).count();
                let share = usize::from(*weight) * 4000 / usize::from(total);
                assert!(count.abs_diff(share) < 160, "{weights:?}: {number} has {count}, not {share}");
            }
        }
    }

    #[test]
    fn only_the_backends_of_a_next_hop_that_is_gone_move() {
        let (all, mut fewer) = (route(&[1, 1, 1]), route(&[1, 1, 1]));
        fewer.hops.remove(1);
        for backend in backends() {
            let before = first(&all, backend);
            assert!(before == 2 || first(&fewer, backend) == before, "{backend}");
        }
    }

    #[test]
    fn the_order_in_which_the_kernel_lists_them_does_not_count() {
        let (one, mut other) = (route(&[1, 2, 3]), route(&[1, 2, 3]));
        other.hops.reverse();
        assert!(backends().all(|backend| one.preferred(backend) == other.preferred(backend)));
    }
}
