//! Packets that are too long for the link that they leave by, and fragments of which the first one is.

use edge_common::{abi::Exit, nat::Hop};
use edge_tests::{
    both::{Both, Program, Seen},
    kernel::Arrival,
    namespace::{EDGE0, LO, in_namespace, sh},
    packet::{ACK, Frame, Network, SYN, Tag, Tcp, protocol},
    world::Side,
};

use super::{Client, TCP, UDP, exit, families::ip, long, run, segment, slow, world};

/// Sends the client's frames by `lo`, whose MTU is set, and those of the backends by another interface.
struct TwoLinks(Both);

impl TwoLinks {
    fn new(side: Side, of_clients: u32, of_backends: u16) -> Self {
        sh(&format!("ip link set lo mtu {of_clients}"));
        let mut world = world(side, 64, 4, EDGE0);
        world.backends.iter_mut().for_each(|backend| backend.mtu = of_backends);
        let mut memory = world.memory();
        memory.mtus = [(LO, of_clients), (EDGE0, 1_500)].into();
        Self(Both::with_memory(world, memory))
    }

    fn by(&self, interface: u32, frame: &Frame) -> Seen {
        let seen = self.0.try_run(Program::Edge, &frame.bytes(), Arrival::by(interface));
        seen.unwrap_or_else(|error| panic!("{error}"))
    }

    fn open(&self, client: Client) {
        run(&self.0, &client.sends(segment(SYN, 5, 0)));
        self.by(EDGE0, &client.answered(&self.0, segment(SYN | ACK, 100, 6)));
        run(&self.0, &client.sends(segment(ACK, 6, 101)));
    }
}

fn without_df(mut frame: Frame) -> Frame {
    ip(&mut frame).dont_fragment = false;
    frame
}

#[test]
fn a_backend_receives_the_mtu_of_its_clients_link() {
    for side in Side::BOTH {
        in_namespace(|| {
            let links = TwoLinks::new(side, 1_400, 1_500);
            let client = Client { side, port: 40_000, service: TCP };
            links.open(client);
            let answer = |bytes: usize| client.answered(&links.0, long(side, bytes, segment(ACK, 101, 6)));
            assert_eq!(exit(&links.by(EDGE0, &answer(1_400))), Exit::NatReplyRedirect);
            let seen = links.by(EDGE0, &answer(1_401));
            assert_eq!(exit(&seen), Exit::TooBig);
            let at = if side == Side::V4 { 14 + 20 + 4 } else { 14 + 40 + 4 };
            assert_eq!(seen.frame[at..at + 4], 1_400u32.to_be_bytes());
            if side == Side::V4 {
                assert_eq!(exit(&links.by(EDGE0, &without_df(answer(1_401)))), Exit::NatTooBig);
            }
            // What leaves by the link that it came by fits, however long it is.
            assert_eq!(exit(&links.by(LO, &answer(1_401))), Exit::NatReplyTx);
            links.0.compare_state().unwrap();
        });
    }
}

#[test]
fn an_mtu_that_changes_counts_from_when_the_controller_stores_it() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut links = TwoLinks::new(side, 1_500, 1_500);
            let client = Client { side, port: 40_000, service: TCP };
            links.open(client);
            let answer = client.answered(&links.0, long(side, 1_400, segment(ACK, 101, 6)));
            assert_eq!(exit(&links.by(EDGE0, &answer)), Exit::NatReplyRedirect);
            sh("ip link set lo mtu 1300");
            links.0.memory.mtus = [(LO, 1_300), (EDGE0, 1_500)].into();
            for hop in links.0.memory.nat.hops.iter().map(Hop) {
                if let Some((LO, ..)) = hop.leads_to() {
                    hop.set_mtu(LO, 1_300);
                }
            }
            links.0.kernel.copy(&links.0.memory);
            assert_eq!(exit(&links.by(EDGE0, &answer)), Exit::TooBig, "{side:?}");
            // A link that has become wider, of which the controller does not know yet: the kernel has the last word.
            sh("ip link set lo mtu 1500");
            links.0.memory.mtus = [(LO, 1_500), (EDGE0, 1_500)].into();
            assert_eq!(exit(&links.by(EDGE0, &answer)), Exit::NatReplyRedirect);
        });
    }
}

#[test]
fn tags_are_put_on_and_taken_off_on_the_fast_and_on_the_slow_path() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            world.backends.iter_mut().for_each(|backend| backend.vlan = 300);
            let both = Both::new(world);
            let client = Client { side, port: 40_000, service: UDP };
            // The second packet of each direction finds an established flow.
            for _ in 0..2 {
                let came = client.sends(Tcp::default()).tagged(&[Tag::new(7).with_priority(5, false)]);
                let seen = run(&both, &came);
                assert_eq!((exit(&seen), &seen.frame[12..16]), (Exit::NatTx, &[0x81, 0, 0xa1, 0x2c][..]));
                let seen = run(&both, &client.answered(&both, Tcp::default()).tagged(&[Tag::new(300)]));
                assert_eq!((exit(&seen), &seen.frame[12..16]), (Exit::NatReplyTx, &[0x81, 0, 0, 7][..]));
            }
            let twice = client.sends(Tcp::default()).tagged(&[Tag::new(7), Tag::new(8)]);
            assert_eq!(exit(&run(&both, &twice)), Exit::Malformed, "there is no way back by two tags");
        });
    }
}

/// The path behind the backends' link is narrower than the link itself.
#[test]
fn routers_fragment_what_they_may_on_a_narrow_path_to_a_backend() {
    in_namespace(|| {
        let mut world = world(Side::V4, 64, 4, EDGE0);
        world.backends.iter_mut().for_each(|backend| (backend.mtu, backend.path_mtu) = (1_500, 1_400));
        let both = Both::new(world);
        let client = Client { side: Side::V4, port: 40_000, service: UDP };
        let datagram = |bytes: usize| client.sends(Tcp { data: vec![5; bytes - 28], ..Tcp::default() });
        assert_eq!(exit(&run(&both, &datagram(1_400))), Exit::NatRedirect);
        assert_eq!(exit(&run(&both, &datagram(1_401))), Exit::TooBig);
        // On the slow and on the fast path, which the second packet of a flow takes.
        for _ in 0..2 {
            assert_eq!(exit(&run(&both, &without_df(datagram(1_500)))), Exit::NatRedirect);
        }
        let seen = run(&both, &without_df(datagram(1_501)));
        assert_eq!(exit(&seen), Exit::NatTooBig, "no program fragments at the egress");
    });
}

/// A fragment of a datagram: `bytes` of it from an offset on, and whether more follow.
fn part(of: &Frame, bytes: usize, (offset, more): (usize, bool)) -> Frame {
    let Network::Ip(ip) = &of.network else { panic!("IP") };
    let payload = &ip.bytes()[if ip.source.is_ipv4() { 20 } else { 40 }..];
    slow::part(of, &payload[offset..offset + bytes], (offset, more), 77, protocol::UDP)
}

#[test]
fn no_part_of_a_packet_goes_on_whose_first_part_does_not() {
    for side in Side::BOTH {
        in_namespace(|| {
            let links = TwoLinks::new(side, 1_400, 1_400);
            let client = Client { side, port: 40_000, service: UDP };
            let says = Tcp { data: vec![7; 1_456], ..Tcp::default() };
            run(&links.0, &client.sends(Tcp::default()));
            let datagram = client.sends(says.clone());
            let long = part(&datagram, 1_440, (0, true));
            let later = part(&datagram, 24, (1_440, false));
            let refused = if side == Side::V4 { Exit::NatTooBig } else { Exit::TooBig };
            assert_eq!(exit(&links.by(LO, &long)), refused);
            assert_eq!(exit(&links.by(LO, &later)), Exit::FragmentUnknown);
            // One that fits, and the same in the other direction.
            assert_eq!(exit(&links.by(LO, &part(&datagram, 640, (0, true)))), Exit::NatRedirect);
            assert_eq!(exit(&links.by(LO, &part(&datagram, 24, (640, false)))), Exit::NatRedirect);
            let answer = client.answered(&links.0, says);
            let long = part(&answer, 1_440, (0, true));
            let refused = if side == Side::V4 { Exit::NatTooBig } else { Exit::TooBig };
            assert_eq!(exit(&links.by(EDGE0, &long)), refused);
            assert_eq!(exit(&links.by(EDGE0, &part(&answer, 24, (1_440, false)))), Exit::NotOurs);
            links.0.compare_state().unwrap();
        });
    }
}
