//! Invariants of any sequence: no two flows share a translated tuple, an established flow keeps its tuple, a packet and
//! its answer are translated in reverse, and a packet that is no answer passes unchanged.

use edge_tests::{
    both::Both,
    namespace::{LO, in_namespace},
    world::Side,
};
use proptest::{prelude::*, sample};

use super::{
    rules::{Broken, Happens, Manner, answer, client, forged, happens, play},
    segment, world,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn whatever_comes_tuples_are_distinct_and_established_flows_keep_theirs(
        side in sample::select(Side::BOTH.to_vec()),
        sticks: bool,
        lanes in 1u32..4,
        happening in prop::collection::vec(happens(), 1..250),
    ) {
        let played = play(Manner { side, sticks, lanes, broken: Broken::Nothing }, &happening);
        prop_assert!(played.is_ok(), "{:?}", played);
    }

    #[test]
    fn the_kernel_does_the_same(
        side in sample::select(Side::BOTH.to_vec()),
        happening in prop::collection::vec(happens(), 1..120),
    ) {
        in_namespace(|| {
            let mut both = Both::new(world(side, 64, 2, LO));
            for what in happening {
                let frame = match what {
                    Happens::Sends { client: number, service, flags, sequence, acknowledgment } => {
                        Some(client(side, number, service).sends(segment(flags, sequence, acknowledgment)))
                    }
                    Happens::Answers { client: number, service, flags, sequence } => {
                        answer(&both.memory, client(side, number, service), segment(flags, sequence, 1))
                    }
                    Happens::Forged { backend, port, flags, udp } => Some(forged(side, backend, port, flags, udp)),
                    Happens::State { backend, state } => {
                        both.change(|world| {
                            world.backends[backend].state = state;
                            world.services.iter_mut().for_each(|service| service.in_transition = true);
                        });
                        None
                    }
                    // The kernel has its own clock.
                    Happens::Passes { .. } => None,
                };
                if let Some(frame) = frame {
                    both.run(&frame.bytes());
                    both.compare_state().unwrap_or_else(|error| panic!("{what:?}: {error}"));
                }
            }
        });
    }
}
