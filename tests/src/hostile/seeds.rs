//! Sequences to start fuzzing from, which random changes hardly find: translated flows with answers to the port that the first
//! packet was given.

use edge_common::{abi::Exit, flow_table};

use super::{Try, sequence::Step};
use crate::{
    both::{Program, ProgramExit, on_host},
    cases::{Scene, scene::port},
    kernel::Arrival,
    namespace::LO,
    packet::{ACK, Extension, FIN, Frame, Icmp, Ip, Payload, RST, SYN, Tcp, Udp, labelled, protocol},
    world::{CLIENT_MAC, EDGE_MAC, Side},
};

/// A sequence of frames, its file name in the corpus, and the exits by which its frames leave.
pub struct Seed {
    pub name: String,
    pub steps: Vec<Step>,
    pub exits: Vec<Exit>,
}

/// A translated flow between a client of `side` and the service at `port`.
#[derive(Clone, Copy)]
struct Flow<'a> {
    scene: &'a Scene,
    side: Side,
    protocol: u8,
    port: u16,
}

/// One sequence for each IP version, protocol, and service in `nat`, in two kinds: whole packets and ICMP errors, and
/// fragments.
pub fn all(scene: &Scene) -> Vec<Seed> {
    let mut seeds = Vec::new();
    for side in Side::BOTH {
        for protocol in [protocol::TCP, protocol::UDP] {
            for (port, kind) in [(port::NAT, "same"), (port::NAT_ACROSS, "across")] {
                let flow = Flow { scene, side, protocol, port };
                let name = format!("nat-{side:?}-{protocol}-{kind}").to_lowercase();
                seeds.push(flow.seed(name.clone(), Flow::whole));
                seeds.push(flow.seed(format!("{name}-fragments"), Flow::fragments));
            }
        }
    }
    seeds
}

impl Flow<'_> {
    /// The sequence of the flow's first packet and the frames of `more`, which gets the port of the flow's source, and the
    /// label of the flow's packets to its backend.
    fn seed(self, name: String, more: impl FnOnce(Self, u16, u32) -> Vec<Frame>) -> Seed {
        let memory = self.scene.world.memory();
        let mut seed = Seed { name, steps: Vec::new(), exits: Vec::new() };
        let send = |seed: &mut Seed, frame: &Frame| {
            let what = Try { program: Program::Edge, arrival: Arrival::by(LO), frame: frame.bytes() };
            let ProgramExit::Edge(exit) = on_host(&memory, what.program, &what.frame, what.arrival).exit else {
                return;
            };
            seed.exits.push(exit);
            seed.steps.push(Step::at_once(what));
        };
        send(&mut seed, &self.sends(SYN, 0, 20));
        let flows = memory.nat.flows();
        let (ends, flow) = flows.first_key_value().expect("the flow of the first packet");
        let label = flow_table::Flow::from(*ends).hash(&memory.nat.head.hash_key).flow_label();
        for frame in more(self, flow.port, label) {
            send(&mut seed, &frame);
        }
        seed
    }

    fn whole(self, source: u16, label: u32) -> Vec<Frame> {
        let (forth, back) = (self.sends(ACK, 1, 20), self.answers(source, ACK, 1, 20));
        let (to_backend, to_client) = (labelled(turned(&back), label), turned(&forth));
        let (client, backend) = (self.side, self.backend_side());
        vec![
            self.answers(source, SYN | ACK, 0, 20),
            self.sends(ACK, 1, 20),
            self.answers(source, ACK, 1, 90),
            // From a router before the backend, and from one before the client.
            Frame::new(EDGE_MAC, CLIENT_MAC, error(backend, backend.source(), &to_backend)),
            Frame::new(EDGE_MAC, CLIENT_MAC, error(client, client.vip(), &to_client)),
            self.sends(FIN | ACK, 21, 0),
            self.answers(source, RST, 91, 0),
        ]
    }

    fn fragments(self, source: u16, _label: u32) -> Vec<Frame> {
        let mut frames = vec![self.answers(source, SYN | ACK, 0, 20), self.sends(ACK, 1, 0)];
        frames.extend(fragments(&self.answers(source, ACK, 1, 100), 5));
        frames.extend(fragments(&self.sends(ACK, 1, 100), 6));
        frames
    }

    fn backend_side(self) -> Side {
        let backend = self.scene.backend_address(self.side, self.protocol, self.port);
        if backend.is_ipv4() { Side::V4 } else { Side::V6 }
    }

    /// A packet of the client.
    fn sends(self, flags: u8, sequence: u32, data: usize) -> Frame {
        let Self { side, protocol, port, .. } = self;
        let payload = payload(protocol, (40_000, port), flags, (1_000 + sequence, 5_001), data);
        Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(side.client(), side.vip(), payload))
    }

    /// A packet of the backend to the port that the flow has at its source.
    fn answers(self, source: u16, flags: u8, sequence: u32, data: usize) -> Frame {
        let Self { scene, side, protocol, port } = self;
        let payload = payload(protocol, (port, source), flags, (5_000 + sequence, 1_001), data);
        let backend = scene.backend_address(side, protocol, port);
        Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(backend, self.backend_side().source(), payload))
    }
}

fn payload(protocol: u8, (source, destination): (u16, u16), flags: u8, numbers: (u32, u32), data: usize) -> Payload {
    let data = (0..=255).cycle().take(data).collect();
    if protocol == protocol::UDP {
        return Payload::Udp(Udp { source, destination, data, ..Udp::default() });
    }
    let (sequence, acknowledgment) = numbers;
    let data = if flags & SYN == 0 { data } else { Vec::new() };
    Payload::Tcp(Tcp { source, destination, sequence, acknowledgment, flags, data, ..Tcp::default() })
}

/// The packet that a router's error quotes: one in the other direction.
fn turned(frame: &Frame) -> Ip {
    let mut ip = ip(frame);
    (ip.source, ip.destination) = (ip.destination, ip.source);
    match &mut ip.payload {
        Payload::Tcp(tcp) => (tcp.source, tcp.destination) = (tcp.destination, tcp.source),
        Payload::Udp(udp) => (udp.source, udp.destination) = (udp.destination, udp.source),
        Payload::Icmp(_) | Payload::Ip(_) | Payload::Other(..) => {}
    }
    ip
}

fn ip(frame: &Frame) -> Ip {
    crate::cases::scene::ip(frame).clone()
}

/// A router's error to `to` about a packet.
fn error(side: Side, to: std::net::IpAddr, quoted: &Ip) -> Ip {
    let (kind, code) = if side == Side::V4 { (3, 3) } else { (1, 4) };
    Ip::new(side.router(), to, Payload::Icmp(Icmp::error(kind, code, 0, &quoted.bytes())))
}

/// The two fragments of a packet.
fn fragments(frame: &Frame, id: u16) -> [Frame; 2] {
    let whole = ip(frame);
    let bytes = whole.bytes();
    let (header, carries) = if whole.source.is_ipv4() { (20, bytes[9]) } else { (40, bytes[6]) };
    let (first, later) = bytes[header..].split_at(64);
    [(first, 0, true), (later, 8, false)].map(|(part, offset, more)| {
        let mut ip = Ip { payload: Payload::Other(carries, part.to_vec()), ..whole.clone() };
        if ip.source.is_ipv4() {
            (ip.id, ip.dont_fragment, ip.more_fragments, ip.fragment_offset) = (id, false, more, offset);
        } else {
            ip.extensions = vec![Extension::fragment(offset, more, id.into())];
        }
        Frame::new(EDGE_MAC, CLIENT_MAC, ip)
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{oracle, sequence},
        *,
    };

    #[test]
    fn answers_find_their_flows_and_keep_every_rule() {
        let scene = Scene::new();
        for Seed { name, steps, exits } in all(&scene) {
            assert_eq!(exits[0], Exit::NatTx, "{name}: {exits:?}");
            assert_eq!(exits[1], Exit::NatReplyTx, "{name}: {exits:?}");
            let lost = exits.iter().filter(|exit| !matches!(exit, Exit::NatTx | Exit::NatReplyTx)).count();
            assert_eq!(lost, 0, "{name}: {exits:?}");
            assert_eq!(sequence::read(&sequence::write(&steps)), steps, "{name}");
            assert_eq!(sequence::run(&scene.world.memory(), &steps), Ok(()), "{name}");
        }
    }
    #[test]
    fn a_translated_frame_that_is_damaged_breaks_a_rule() {
        let scene = Scene::new();
        for Seed { name, steps, .. } in all(&scene) {
            let memory = scene.world.memory();
            for (number, Step { what, .. }) in steps.iter().enumerate() {
                let seen = on_host(&memory, what.program, &what.frame, what.arrival);
                let judge = |damage: &dyn Fn(&mut Vec<u8>)| {
                    let mut seen = seen.clone();
                    damage(&mut seen.frame);
                    oracle::check(what, &seen).and_then(|()| oracle::check_sent(&what.frame, &seen))
                };
                assert_eq!(judge(&|_| ()), Ok(()), "{name}, {number}");
                assert!(judge(&|frame| frame[6..12].copy_from_slice(&CLIENT_MAC)).is_err(), "{name}, {number}");
                assert!(judge(&|frame| frame.truncate(frame.len() - 1)).is_err(), "{name}, {number}: a byte less");
                let is_whole = !name.ends_with("fragments") || number < 3;
                let flipped = judge(&|frame| *frame.last_mut().expect("a frame") ^= 1);
                assert_eq!(flipped.is_err(), is_whole, "{name}, {number}: {flipped:?}");
            }
        }
    }
}
