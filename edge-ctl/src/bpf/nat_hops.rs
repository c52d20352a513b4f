//! The return routes to clients, which packets learn: frees those that no translated flow uses, and keeps the MTUs of
//! their links up to date.

use std::collections::BTreeSet;

use edge_common::{abi::NAT_HOPS, nat::Hop};

/// Frees the hops that no flow uses, once more than half of all hops are taken. `named` are those that the last walk over
/// the flows has found.
///
/// A flow may have got its hop after the walk has passed its entry. So a hop without a flow is retired first, which keeps
/// further flows from getting it, and is freed if the next walk finds no flow either.
pub(super) fn sweep<'a>(hops: impl Iterator<Item = (u32, Hop<'a>)>, named: &BTreeSet<u32>) {
    let known: Vec<_> = hops.filter(|(_, hop)| hop.leads_to().is_some()).collect();
    let is_crowded = known.len() > NAT_HOPS as usize / 2;
    for (number, hop) in known {
        match (named.contains(&number), hop.is_retired()) {
            (true, true) => hop.set_retired(false),
            (false, true) => hop.forget(),
            (false, false) if is_crowded => hop.set_retired(true),
            (true | false, false) => {}
        }
    }
}

/// Stores the present MTU of each hop's interface, bytes of IP packet; an MTU that is unknown stays as it is.
pub(super) fn set_mtus<'a>(hops: impl Iterator<Item = (u32, Hop<'a>)>, mtu_of: impl Fn(u32) -> Option<u32>) {
    for (_, hop) in hops {
        if let Some((egress, ..)) = hop.leads_to()
            && let Some(mtu) = mtu_of(egress)
        {
            hop.set_mtu(egress, mtu);
        }
    }
}

#[cfg(test)]
mod tests {
    use edge_common::{flow_table::Word, maps::HopWords};

    use super::*;

    /// As many hops as `count`, each to another router.
    fn hops(count: u32) -> Vec<HopWords> {
        let hop = |number: u32| {
            let hop = HopWords::default();
            let [peer, station, source, egress] = &hop;
            Word::store(peer, 0x0200_0000_0000 | u64::from(number));
            for word in [source, egress, station] {
                Word::store(word, 7);
            }
            hop
        };
        (1..=count).map(hop).collect()
    }

    /// Sweeps after a walk that has found these hops.
    fn swept(hops: &[HopWords], named: &[u32]) {
        sweep((1..).zip(hops.iter().map(Hop)), &named.iter().copied().collect());
    }

    fn known(hops: &[HopWords]) -> Vec<u32> {
        (1..).zip(hops).filter(|(_, hop)| Hop(hop).leads_to().is_some()).map(|(number, _)| number).collect()
    }

    #[test]
    fn a_hop_without_a_flow_is_freed_after_two_walks_once_there_are_many() {
        let few = hops(NAT_HOPS / 2);
        for _ in 0..3 {
            swept(&few, &[]);
            assert_eq!(known(&few).len(), few.len(), "they are no burden");
        }
        let many = hops(NAT_HOPS / 2 + 1);
        swept(&many, &[1, 2]);
        assert_eq!(known(&many).len(), many.len(), "a flow may have got one after the walk");
        swept(&many, &[1, 2]);
        assert_eq!(known(&many), [1, 2]);
    }

    #[test]
    fn a_hop_that_a_flow_got_after_the_walk_stays_and_leads_to_the_same_router_meanwhile() {
        let hops = hops(NAT_HOPS - 1);
        let before = Hop(&hops[2]).leads_to();
        swept(&hops, &[1]);
        assert!(Hop(&hops[2]).is_retired());
        assert_eq!(Hop(&hops[2]).leads_to(), before, "answers of the flow still leave");
        swept(&hops, &[1, 3]);
        assert_eq!(known(&hops), [1, 3]);
        assert!(!Hop(&hops[2]).is_retired());
        assert_eq!(Hop(&hops[2]).leads_to(), before);
    }
}
