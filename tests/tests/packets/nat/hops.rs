//! More hops of clients than the table has room for.

use edge_common::{
    abi::{Exit, Mac, NAT_HOPS},
    maps::Route,
};
use edge_tests::{
    both::Both,
    cases::scene::neighbour,
    namespace::{EDGE0, EDGE0_MAC, LO, NEIGHBOUR_MAC, in_namespace},
    packet::{Frame, Ip, Tcp, protocol},
    world::{EDGE_MAC, Side, octets},
};

use super::{BACKEND_PORT, PORT, address, exit, packet, run, world};

/// A packet of a client that is a neighbour of the edge, by the router with this number.
fn sent(side: Side, router: u16) -> Frame {
    let [high, low] = router.to_be_bytes();
    let payload = packet(protocol::UDP, (10_000 + router, PORT), Tcp::default());
    Frame::new(EDGE_MAC, [0x02, 0, 0, 0xcc, high, low], Ip::new(neighbour(side), side.vip(), payload))
}

#[test]
fn answers_to_a_client_whose_hop_finds_no_place_go_the_kernels_way() {
    const ROUTERS: u16 = 300;
    for side in Side::BOTH {
        in_namespace(|| {
            let mut world = world(side, 1024, 4, LO);
            let route =
                Route { egress: EDGE0, mac: Mac::new(NEIGHBOUR_MAC), source_mac: Mac::new(EDGE0_MAC), by_router: 0 };
            world.routes = vec![(octets(neighbour(side)), route)];
            let both = Both::new(world);
            let (mut learnt, mut asked) = (0, 0);
            for router in 0..ROUTERS {
                let frame = sent(side, router);
                assert_eq!(exit(&run(&both, &frame)), Exit::NatTx);
                let flows = both.memory.nat.flows();
                let (_, flow) =
                    flows.into_iter().find(|(ends, _)| ends.client_port == 10_000 + router).expect("a flow");
                let answer = packet(protocol::UDP, (BACKEND_PORT, flow.port), Tcp::default());
                let from = address(side, flow.translation.backend);
                let seen = run(&both, &Frame::new(EDGE_MAC, [2; 6], Ip::new(from, side.source(), answer)));
                if flow.translation.hop == 0 {
                    assert_eq!((exit(&seen), seen.egress), (Exit::NatReplyRedirect, EDGE0), "{side:?} {router}");
                    assert_eq!((&seen.frame[..6], &seen.frame[6..12]), (&NEIGHBOUR_MAC[..], &EDGE0_MAC[..]));
                    asked += 1;
                } else {
                    assert_eq!(exit(&seen), Exit::NatReplyTx, "{side:?} {router}");
                    assert_eq!(seen.frame[..6], frame.source);
                    learnt += 1;
                }
            }
            println!("{side:?}: {learnt} hops learnt, {asked} answers by the kernel's route");
            assert!(learnt < NAT_HOPS && asked >= u32::from(ROUTERS) - NAT_HOPS, "{learnt}, {asked}");
        });
    }
}
