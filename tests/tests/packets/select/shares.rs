//! Pools and backends whose slots return gradually, through host and kernel.

use edge_common::abi::State;
use edge_tests::{
    both::Both,
    world::{DOWN, UP},
};

use super::{
    more_ports,
    states::{A, B, new, set, with_both, within},
};

#[test]
fn a_pool_that_was_left_takes_its_slots_back_one_after_the_other() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let withhold = |both: &mut Both, places| both.change(|world| world.pools[0].withheld = places);
        let before = new(both, ports);
        // New flows in each round, since recorded ones stay.
        for (round, places) in (1..).zip([256, 48, 16, 0]) {
            withhold(both, places);
            let went = new(both, &more_ports(&both.world, round));
            for (slot, (went, before)) in went.iter().zip(&before).enumerate() {
                let back = slot >= places as usize;
                assert_eq!(A.contains(&went.expect("somebody")), back, "slot {slot} of {places}");
                assert!(!back || went == before, "slot {slot}: as it was");
            }
        }
        // No other pool has enough backends, so nothing is withheld.
        withhold(both, 256);
        set(both, B, DOWN);
        assert!(within(&new(both, &more_ports(&both.world, 5)), &A));
    });
}

#[test]
fn a_backend_that_was_down_takes_its_slots_back_one_after_the_other() {
    with_both(super::world(&[3, 3]), |both, ports| {
        let before = new(both, ports);
        for (round, places) in (1..).zip([255, 32, 0]) {
            set(both, [1], UP | places << State::WITHHELD_SHIFT);
            let went = new(both, &more_ports(&both.world, round));
            for (slot, (went, before)) in went.iter().zip(&before).enumerate() {
                let withheld = *before == Some(1) && slot < places as usize;
                assert!(A.contains(&went.expect("somebody")));
                assert_eq!(went != before, withheld, "slot {slot} of {places}");
            }
        }
        // The only backend takes all slots.
        set(both, A, DOWN);
        set(both, [1], UP | 255 << State::WITHHELD_SHIFT);
        assert!(new(both, &more_ports(&both.world, 4)).iter().all(|went| *went == Some(1)));
    });
}
