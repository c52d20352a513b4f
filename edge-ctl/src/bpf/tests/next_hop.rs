//! A next hop that changes while packets read it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use edge_common::forward::HopLook;

use super::*;

/// Two next hops of a backend that differ in everything but the neighbour's address: a router that is on two VLANs.
pub(super) const NEXT_HOPS: [NextHopEntry; 2] = [
    NextHopEntry {
        egress: 2,
        mac: [2, 0, 0, 0, 0, 9],
        source_mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        own_mtu: true,
        vlan: 20,
    },
    NextHopEntry {
        egress: 3,
        mac: [2, 0, 0, 0, 0, 9],
        source_mac: [2, 0, 0, 0, 0, 3],
        mtu: 1500,
        own_mtu: true,
        vlan: 30,
    },
];
const CHANGES: usize = 200_000;

/// The packet path's own code reads the mapped value while the controller changes it.
#[test]
fn what_is_read_of_a_next_hop_belongs_together() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    let reader = reopened(&bpffs.pins());
    let number = backend(&pinned, "one/b1");
    let (done, seen) = (AtomicBool::new(false), NEXT_HOPS.map(|_| AtomicU64::new(0)));
    let is_seen = || seen.iter().all(|count| count.load(Ordering::Relaxed) > 0);
    let torn = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let backend = reader.maps.backends.live(number.into()).expect("in range");
            let mut torn = 0u64;
            while !done.load(Ordering::Relaxed) {
                let look = HopLook::at(std::hint::black_box(backend));
                let Some(next_hop) = look.kept() else { continue };
                match NEXT_HOPS.iter().position(|candidate| candidate.egress == next_hop.egress) {
                    Some(position)
                        if NEXT_HOPS[position].vlan == look.vlan
                            && Mac::new(NEXT_HOPS[position].source_mac) == next_hop.source_mac =>
                    {
                        seen[position].fetch_add(1, Ordering::Relaxed);
                    }
                    _ => torn += 1,
                }
            }
            torn
        });
        // On a busy machine the reader may not have started by the time that `CHANGES` are made.
        let changes = NEXT_HOPS.iter().cycle().enumerate();
        for (_, next_hop) in changes.take_while(|(made, _)| *made < CHANGES || (*made < 1_000 * CHANGES && !is_seen()))
        {
            pinned.set_next_hop(number, Some(*next_hop)).expect("a backend");
        }
        done.store(true, Ordering::Relaxed);
        looks.join().expect("it looks")
    });
    assert_eq!(torn, 0, "of {seen:?}");
    assert!(is_seen(), "both were seen: {seen:?}");
}
