//! What packets show of a backend's health: who waits for it, and the signs of its trouble.

use edge_common::abi::Evidence;
use edge_tests::{
    both::Both,
    namespace::{LO, in_namespace},
    packet::{ACK, FIN, RST, SYN, Tcp},
    world::Side,
};

use super::{Client, TCP, UDP, run, segment, world};

/// A packet that asks, and whether a client waits after it.
#[test]
fn a_client_waits_from_what_demands_an_answer_to_any_packet_of_the_backend() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: TCP };
            run(&both, &client.sends(segment(SYN, 5, 0)));
            let backend = client.translated(&both).expect("a flow").translation.backend;
            let waits = || both.kernel.waits(backend);
            assert!(waits(), "a SYN");
            run(&both, &client.answered(&both, segment(SYN | ACK, 900, 6)));
            assert!(!waits(), "it is answered");
            // Questions are noted once a tick.
            let tick = || std::thread::sleep(std::time::Duration::from_millis(20));
            let bare = |sequence| Tcp { data: Vec::new(), ..segment(ACK, sequence, 901) };
            tick();
            run(&both, &client.sends(bare(6)));
            assert!(!waits(), "an ACK demands nothing");
            run(&both, &client.sends(segment(ACK, 6, 901)));
            assert!(waits(), "data");
            run(&both, &client.answered(&both, Tcp { data: Vec::new(), ..segment(ACK, 901, 10) }));
            assert!(!waits(), "any packet is an answer");
            tick();
            run(&both, &client.sends(segment(FIN | ACK, 10, 901)));
            assert!(waits(), "a FIN");
            // Another client's answer shows as well that the backend lives.
            let other = Client { port: 40_001, ..client };
            run(&both, &other.sends(segment(SYN, 5, 0)));
            if other.translated(&both).expect("a flow").translation.backend == backend {
                run(&both, &other.answered(&both, segment(SYN | ACK, 900, 6)));
                assert!(!waits());
            }
            let datagrams = Client { side, port: 40_002, service: UDP };
            tick();
            let before: Vec<_> = (0..4).map(|number| both.kernel.waits(number)).collect();
            run(&both, &datagrams.sends(segment(ACK, 0, 0)));
            let after: Vec<_> = (0..4).map(|number| both.kernel.waits(number)).collect();
            assert_eq!(before, after, "nobody knows whether a datagram demands an answer");
        });
    }
}

#[test]
fn a_refusal_is_a_sign_and_no_answer_and_a_syn_that_comes_again_is_a_sign_of_its_client() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: TCP };
            run(&both, &client.sends(segment(SYN, 5, 0)));
            let backend = client.translated(&both).expect("a flow").translation.backend;
            let seen = || both.kernel.evidence()[usize::from(backend)];
            assert_eq!(seen(), Evidence::default());
            run(&both, &client.sends(segment(SYN, 5, 0)));
            let Evidence { repeated, repeaters, .. } = seen();
            assert_eq!((repeated, repeaters.count_ones()), (1, 1), "the SYN came again");
            run(&both, &client.answered(&both, segment(RST | ACK, 0, 6)));
            assert_eq!((seen().refused, both.kernel.waits(backend)), (1, true));
            // Of an established connection a RST says nothing about the server.
            let other = Client { port: 40_001, ..client };
            run(&both, &other.sends(segment(SYN, 5, 0)));
            run(&both, &other.answered(&both, segment(SYN | ACK, 900, 6)));
            run(&both, &other.sends(segment(ACK, 6, 901)));
            let before = both.kernel.evidence();
            run(&both, &other.answered(&both, segment(RST, 901, 0)));
            assert_eq!(both.kernel.evidence(), before);
        });
    }
}
