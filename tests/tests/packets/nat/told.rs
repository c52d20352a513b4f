//! The option of TCP that tells a backend the client's address: which packets carry it, and that no client can make one up.

use std::net::IpAddr;

use edge_common::{
    abi::{Exit, FlowCount},
    flow_table::Stage,
};
use edge_tests::{
    both::Both,
    namespace::{LO, in_namespace},
    packet::{ACK, Extension, FIN, Frame, Ip, RST, SYN, Tag, Tcp, protocol},
    world::{Side, World},
};

use super::{
    BACKEND_PORT, Client, TCP, UDP, address, exit,
    families::{ip, same},
    labelled, packet, run, segment, world_of,
};

const AWAY: u32 = 77;
/// Initial sequence numbers of the client and of the backend.
pub(super) const CLIENT: u32 = 1000;
pub(super) const BACKEND: u32 = 70_000;

fn world(clients: Side, backends: Side, egress: u32) -> World {
    let mut world = world_of(clients, backends, 64, 4, egress);
    world.services.iter_mut().for_each(|service| service.tells_client = true);
    world
}

/// Every IP version of clients and of backends.
fn sides() -> impl Iterator<Item = (Side, Side)> {
    Side::BOTH.into_iter().flat_map(|clients| Side::BOTH.map(|backends| (clients, backends)))
}

/// The option with the client's address, built independently of the code under test.
pub(super) fn option(client: Client) -> Vec<u8> {
    let address = match client.side.client() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = u8::try_from(4 + address.len()).expect("a few bytes");
    [&[254, length][..], &client.port.to_be_bytes(), &address].concat()
}

/// The segment with the option before its own ones.
fn telling(client: Client, segment: Tcp) -> Tcp {
    Tcp { options: [option(client), segment.options].concat(), ..segment }
}

/// A bare ACK.
fn bare(sequence: u32, acknowledgment: u32) -> Tcp {
    Tcp { data: Vec::new(), ..segment(ACK, sequence, acknowledgment) }
}

/// A client's connection to backends of one IP version.
pub(super) struct Flow {
    pub(super) both: Both,
    pub(super) client: Client,
    backends: Side,
}

impl Flow {
    pub(super) fn new(clients: Side, backends: Side, egress: u32) -> Self {
        Self::of(world(clients, backends, egress), clients, backends)
    }

    fn of(world: World, clients: Side, backends: Side) -> Self {
        Self { both: Both::new(world), client: Client { side: clients, port: 40_000, service: TCP }, backends }
    }

    fn peers(&self) -> (IpAddr, u16, IpAddr) {
        let flow = self.client.translated(&self.both).expect("a flow");
        (address(self.backends, flow.translation.backend), flow.port, self.backends.source())
    }

    /// The client's frame arrives at the backend with this segment.
    fn arrives(&self, frame: &Frame, expected: Tcp) {
        let seen = run(&self.both, frame);
        assert!(matches!(exit(&seen), Exit::NatTx | Exit::NatRedirect), "{seen:?}");
        let (peer, port, source) = self.peers();
        let payload = packet(self.client.protocol(), (port, BACKEND_PORT), expected);
        let expected = labelled(Ip { ttl: 63, ..Ip::new(source, peer, payload) }, self.client.label(&self.both));
        if self.client.side == self.backends {
            assert_eq!(seen.frame[14..], expected.bytes());
        } else {
            same(&seen.frame[14..], &expected);
        }
    }

    fn told(&self, sent: Tcp) {
        self.arrives(&self.client.sends(sent.clone()), telling(self.client, sent));
    }

    fn untold(&self, sent: Tcp) {
        self.arrives(&self.client.sends(sent.clone()), sent);
    }

    fn answers(&self, sent: Tcp) {
        let (peer, port, source) = self.peers();
        let payload = packet(self.client.protocol(), (BACKEND_PORT, port), sent);
        let mac = [0x02, 0, 0, 0xbb, 0, 1];
        let seen = run(&self.both, &Frame::new(edge_tests::world::EDGE_MAC, mac, Ip::new(peer, source, payload)));
        assert_eq!(exit(&seen), Exit::NatReplyTx);
    }

    fn stage(&self) -> Stage {
        self.client.translated(&self.both).expect("a flow").stage
    }

    /// Number of packets without room for the option.
    fn left_out(&self) -> u64 {
        self.both.memory.flow_counts(TCP).0[FlowCount::Untold as usize]
    }

    /// The handshake, up to the client's last packet of it.
    pub(super) fn shakes(&self) {
        self.told(segment(SYN, CLIENT, 0));
        self.answers(segment(SYN | ACK, BACKEND, CLIENT + 1));
    }
}

#[test]
fn each_packet_tells_the_clients_address_until_the_backend_has_the_connection() {
    let proofs = [
        bare(BACKEND + 1, CLIENT + 12),
        segment(ACK, BACKEND + 1, CLIENT + 1),
        Tcp { data: Vec::new(), ..segment(FIN | ACK, BACKEND + 1, CLIENT + 1) },
    ];
    for ((clients, backends), egress) in sides().flat_map(|sides| [(sides, LO), (sides, AWAY)]) {
        for proof in &proofs {
            in_namespace(|| {
                let flow = Flow::new(clients, backends, egress);
                flow.shakes();
                // Both the SYN and its answer are repeated.
                flow.shakes();
                flow.told(bare(CLIENT + 1, BACKEND + 1));
                assert_eq!(flow.stage(), Stage::Established);
                // The data comes first where that packet was lost.
                flow.told(segment(ACK, CLIENT + 1, BACKEND + 1));
                flow.told(Tcp {
                    options: vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
                    ..segment(ACK, CLIENT + 1, BACKEND + 1)
                });
                flow.answers(segment(SYN | ACK, BACKEND, CLIENT + 1));
                flow.told(segment(ACK, CLIENT + 1, BACKEND + 1));
                flow.answers(proof.clone());
                flow.untold(segment(ACK, CLIENT + 12, BACKEND + 12));
                flow.untold(bare(CLIENT + 23, BACKEND + 12));
                assert_eq!(flow.left_out(), 0);
            });
        }
    }
}

#[test]
fn a_packet_outside_the_window_does_not_end_it() {
    for (clients, backends) in sides() {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            flow.shakes();
            // The backend still waits for the end of the handshake, and answers all of these by an ACK of the SYN.
            for sent in [
                bare(CLIENT + 900_000, BACKEND + 1),
                Tcp { data: Vec::new(), ..segment(FIN | ACK, CLIENT + 900_000, BACKEND + 1) },
                segment(ACK, CLIENT.wrapping_sub(900_000), BACKEND + 1),
            ] {
                flow.told(sent);
                flow.answers(bare(BACKEND + 1, CLIENT + 1));
                // A RST is not told anything.
                flow.untold(Tcp { data: Vec::new(), ..segment(RST, CLIENT + 900_000, 0) });
                flow.answers(bare(BACKEND + 1, CLIENT + 1));
            }
            let forged = Tcp { options: vec![254, 8, 1, 2, 9, 9, 9, 9], ..bare(CLIENT + 1, BACKEND + 1) };
            let erased = Tcp { options: vec![1; 8], ..forged.clone() };
            flow.arrives(&flow.client.sends(forged), telling(flow.client, erased));
        });
    }
}

#[test]
fn a_new_connection_from_the_same_port_is_told_again() {
    for (clients, backends) in sides() {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            flow.shakes();
            flow.told(bare(CLIENT + 1, BACKEND + 1));
            flow.answers(bare(BACKEND + 1, CLIENT + 500));
            flow.untold(segment(FIN | ACK, CLIENT + 500, BACKEND + 1));
            flow.answers(segment(FIN | ACK, BACKEND + 1, CLIENT + 501));
            flow.told(segment(SYN, CLIENT + 90_000, 0));
            flow.answers(segment(SYN | ACK, BACKEND + 90_000, CLIENT + 90_001));
            flow.told(bare(CLIENT + 90_001, BACKEND + 90_001));
        });
    }
}

/// A backend forgets a connection that its client does not close, or all of them when it restarts, and the edge sees nothing
/// of that.
#[test]
fn a_new_connection_is_told_even_if_the_edge_still_knows_the_old_one() {
    for ((clients, backends), closes) in sides().flat_map(|sides| [(sides, false), (sides, true)]) {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            flow.shakes();
            flow.told(bare(CLIENT + 1, BACKEND + 1));
            flow.answers(segment(if closes { FIN | ACK } else { ACK }, BACKEND + 1, CLIENT + 500));
            flow.untold(bare(CLIENT + 500, BACKEND + 12));
            let forged = vec![254, 8, 1, 2, 9, 9, 9, 9];
            for sent in [segment(SYN, CLIENT + 90_000, 0), bare(CLIENT + 90_001, BACKEND + 90_001)] {
                let sent = Tcp { options: forged.clone(), ..sent };
                let erased = Tcp { options: vec![1; 8], ..sent.clone() };
                flow.arrives(&flow.client.sends(sent), telling(flow.client, erased));
                flow.answers(segment(SYN | ACK, BACKEND + 90_000, CLIENT + 90_001));
                flow.answers(bare(BACKEND + 90_001, CLIENT + 90_001));
            }
            flow.answers(bare(BACKEND + 90_001, CLIENT + 90_500));
            flow.untold(bare(CLIENT + 90_500, BACKEND + 90_001));
        });
    }
}

#[test]
fn what_a_client_makes_up_is_erased_whether_there_is_room_or_not() {
    let forged = [254, 8, 0x9c, 0x41, 198, 51, 100, 66];
    let cases: &[(&[u8], &[u8])] = &[
        (&forged, &[1; 8]),
        // At an odd offset, behind another option, and twice.
        (&[&[1][..], &forged, &[1, 1, 1]].concat(), &[1; 12]),
        (&[&[2, 4, 5, 180][..], &forged, &forged].concat(), &[&[2, 4, 5, 180][..], &[1; 16]].concat()),
        (&[&[254, 20, 1, 2][..], &[7; 16]].concat(), &[1; 20]),
        // Longer than the header, too short, and without a length.
        (&[254, 99, 1, 2], &[1; 4]),
        (&[254, 1, 254, 2], &[254, 1, 254, 2]),
        (&[1, 1, 1, 254], &[1; 4]),
        // No option, but what stands in another one or behind the last one.
        (&[&[30, 10][..], &forged, &[0, 0]].concat(), &[&[30, 10][..], &forged, &[0, 0]].concat()),
        (&[&[0, 0, 0, 0][..], &forged].concat(), &[&[0, 0, 0, 0][..], &forged].concat()),
    ];
    for (clients, backends) in sides() {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            flow.shakes();
            for (options, erased) in cases {
                let sent = Tcp { options: options.to_vec(), ..segment(ACK, CLIENT + 1, BACKEND + 1) };
                let arrives = Tcp { options: erased.to_vec(), ..sent.clone() };
                let is_full = options.len() + option(flow.client).len() > 40;
                let arrives = if is_full { arrives } else { telling(flow.client, arrives) };
                flow.arrives(&flow.client.sends(sent), arrives);
            }
            // A header that is full.
            let full = [&[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1][..], &forged, &[1; 20]].concat();
            let before = flow.left_out();
            let sent = Tcp { options: full.clone(), ..segment(ACK, CLIENT + 1, BACKEND + 1) };
            let arrives = Tcp { options: [&full[..12], &[1; 28]].concat(), ..sent.clone() };
            flow.arrives(&flow.client.sends(sent), arrives);
            assert_eq!(flow.left_out(), before + 1);
        });
    }
}

#[test]
fn the_option_takes_the_last_room_of_a_header_and_no_more() {
    for (clients, backends) in sides() {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            let room = 40 - option(flow.client).len();
            flow.told(Tcp { options: vec![1; room], ..segment(SYN, CLIENT, 0) });
            assert_eq!(flow.left_out(), 0);
            flow.untold(Tcp { options: vec![1; room + 4], ..segment(SYN, CLIENT, 0) });
            assert_eq!(flow.left_out(), 1);
        });
    }
}

#[test]
fn the_option_is_left_out_where_the_packet_would_become_too_long() {
    for (clients, backends) in sides() {
        in_namespace(|| {
            let mut world = world(clients, backends, AWAY);
            world.backends.iter_mut().for_each(|backend| (backend.mtu, backend.path_mtu) = (1_500, 1_400));
            let flow = Flow::of(world, clients, backends);
            flow.shakes();
            let headers = if backends == Side::V4 { 40 } else { 60 };
            let longest = 1_400 - headers - option(flow.client).len();
            let with = |length: usize| Tcp { data: vec![7; length], ..segment(ACK, CLIENT + 1, BACKEND + 1) };
            flow.told(with(longest));
            assert_eq!(flow.left_out(), 0);
            flow.untold(with(longest + 1));
            flow.untold(with(1_400 - headers));
            assert_eq!(flow.left_out(), 2);
            assert_eq!(exit(&run(&flow.both, &flow.client.sends(with(1_401 - headers)))), Exit::TooBig);
        });
    }
}

#[test]
fn fragments_and_packets_with_options_of_ip_go_without_but_what_is_forged_is_erased() {
    for (clients, backends) in sides() {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            flow.shakes();
            let forged = Tcp { options: vec![254, 8, 1, 2, 9, 9, 9, 9], ..segment(ACK, CLIENT + 1, BACKEND + 1) };
            let seen = |change: &dyn Fn(&mut Ip)| {
                let mut frame = flow.client.sends(Tcp { data: vec![3; 64], ..forged.clone() });
                change(ip(&mut frame));
                let seen = both_run(&flow.both, &frame);
                assert_eq!(exit(&seen), Exit::NatTx);
                assert!(!seen.frame.windows(8).any(|bytes| bytes == [254, 8, 1, 2, 9, 9, 9, 9]), "{seen:?}");
                assert!(!seen.frame.windows(4).any(|bytes| bytes == &option(flow.client)[..4]), "{seen:?}");
            };
            if clients == Side::V4 {
                seen(&|ip| ip.options = vec![1; 4]);
                seen(&|ip| (ip.dont_fragment, ip.more_fragments, ip.id) = (false, true, 9));
            } else {
                seen(&|ip| ip.extensions = vec![Extension::filler(protocol::DESTINATION, 0)]);
                seen(&|ip| ip.extensions = vec![Extension::fragment(0, true, 9)]);
            }
            assert_eq!(flow.left_out(), 2);
        });
    }
}

/// Like [`run`], also for a fragment, whose checksum covers the other ones.
pub(super) fn both_run(both: &Both, frame: &Frame) -> edge_tests::both::Seen {
    let seen = both.run(&frame.bytes());
    both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    seen
}

#[test]
fn frames_with_a_tag_are_told_and_datagrams_are_not() {
    for (clients, backends) in sides() {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            for tags in [&[Tag::new(7)][..], &[]] {
                let sent = segment(SYN, CLIENT, 0);
                flow.arrives(&flow.client.sends(sent.clone()).tagged(tags), telling(flow.client, sent));
            }
            let client = Client { service: UDP, ..flow.client };
            let flow = Flow { client, ..flow };
            flow.untold(Tcp { data: vec![254, 8, 1, 2, 3, 4, 5, 6], ..Tcp::default() });
        });
    }
}
