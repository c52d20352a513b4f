//! Random states, flows and assumptions, through the copy and through the kernel's program.

use std::collections::BTreeSet;

use edge_common::{
    abi::{AnswerLimits, FlowHead, NatHead},
    host::{Flows, Nat},
};
use rand::seq::IndexedRandom as _;

use super::*;
use crate::{
    bpf::{REHEARSED_FLOWS, monotonic_time},
    control::fixture::finish_transitions,
    xdp::Rehearsal,
};

/// Number of packets in all rounds together. Each flow has two.
const CASES: usize = 100_000;
const ROUNDS: usize = 250;

/// Destinations of flows: each service, each IP version that it has, a port without a service, and a VIP without one.
const DESTINATIONS: [(Protocol, &str); 16] = [
    (Protocol::Tcp, "192.0.2.10:443"),
    (Protocol::Udp, "192.0.2.10:443"),
    (Protocol::Tcp, "[2001:db8::10]:443"),
    (Protocol::Udp, "[2001:db8::10]:443"),
    (Protocol::Udp, "192.0.2.10:53"),
    (Protocol::Tcp, "192.0.2.11:80"),
    (Protocol::Tcp, "192.0.2.11:81"),
    (Protocol::Tcp, "192.0.2.12:80"),
    (Protocol::Tcp, "192.0.2.13:80"),
    (Protocol::Udp, "192.0.2.13:53"),
    (Protocol::Tcp, "[2001:db8::13]:80"),
    (Protocol::Udp, "[2001:db8::13]:53"),
    (Protocol::Tcp, "192.0.2.14:80"),
    (Protocol::Udp, "192.0.2.14:53"),
    (Protocol::Tcp, "[2001:db8::14]:80"),
    (Protocol::Udp, "[2001:db8::99]:53"),
];

const ADMINS: [&str; 5] = ["enabled", "enabled", "enabled", "drained", "disabled"];
const HEALTHS: [&str; 3] = ["up", "down", "unknown"];

fn flow(random: &mut StdRng) -> FlowQuery {
    let (protocol, vip) = *DESTINATIONS.choose(random).unwrap();
    let vip: SocketAddr = vip.parse().unwrap();
    let port = random.random_range(1024..=u16::MAX);
    let client = match vip {
        SocketAddr::V4(_) => SocketAddr::from(([198, 51, 100, random.random()], port)),
        SocketAddr::V6(_) => SocketAddr::from(([0x2001, 0xdb8, 1, 0, 0, 0, 0, random.random::<u16>()], port)),
    };
    FlowQuery { protocol, client, vip }
}

impl Rig {
    /// The copy of the maps as they are now, for frames on the loopback interface, with flow tables of the program's size.
    fn copied(&self) -> Explained {
        // The program reads the tables that it shares with the packet path, and takes frames at its station there.
        let mut explained = self.maps.explained(&self.inventory.services, 1, monotonic_time()).unwrap();
        let unlimited = &mut explained.memory.published.generations[explained.bank as usize];
        unlimited.records_per_second = u32::MAX;
        unlimited.answers_per_second = AnswerLimits::all(u32::MAX);
        explained.memory.flows = Flows::new(REHEARSED_FLOWS as usize);
        let head = explained.memory.nat.head;
        assert_eq!(head.ports, REHEARSED_FLOWS, "one entry for each port");
        let flows = FlowHead { mask: REHEARSED_FLOWS - 1, ..head.flows };
        explained.memory.nat = Nat::new(NatHead { flows, lanes: 1, ..head });
        explained
    }

    /// Gives failovers and pools' shares of slots random values.
    fn shuffle_terms(&mut self, random: &mut StdRng) {
        for service in self.inventory.services.clone() {
            let first = u8::from(random.random_bool(0.2));
            self.maps.set_failover(service, Failover { first, evacuate: random.random() }).unwrap();
        }
        for pool in self.inventory.pools.clone() {
            let withheld = if random.random_bool(0.3) { random.random_range(0..=RETURN_PLACES) } else { 0 };
            self.maps.set_withheld(pool, withheld, "");
        }
    }
}

/// Each round gives all backends random states. The copy from before the change, under the assumption of these states,
/// and the copy from after it answer as the program does after it.
#[test]
fn the_copy_what_is_assumed_and_the_kernel_agree_in_random_cases() {
    let mut rig = Rig::new();
    let mut random = StdRng::seed_from_u64(17);
    let mut program = Rehearsal::load(&rig.maps).unwrap();
    let services = rig.inventory.services.clone();
    let names = ["provider-a/a1", "provider-a/a2", "provider-a/a3", "provider-b/b1", "provider-b/b2"];
    let (mut backends, mut exits) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        rig.shuffle_terms(&mut random);
        if round % 2 == 0 {
            // Packets go to their slots' owners, unless what is assumed makes them look further.
            finish_transitions(&mut rig.maps, &rig.inventory);
        }
        let mut assumed = rig.copied();
        let mut assumptions: Vec<Assumption> = Vec::new();
        for name in names {
            let (admin, health) = (ADMINS.choose(&mut random).unwrap(), HEALTHS.choose(&mut random).unwrap());
            assumptions.extend([health, admin].map(|word| format!("{name}={word}").parse().unwrap()));
        }
        assumption::assume(&mut assumed, &rig.maps, &rig.inventory, &services, &assumptions).unwrap();
        let members: BTreeSet<_> = rig.inventory.members().map(|member| member.number).collect();
        for number in members {
            rig.maps.set_state(number, State(assumed.memory.backends[usize::from(number)].state), "").unwrap();
        }
        let explained = rig.copied();
        program.publish(&explained.memory.published, &explained.memory.backends, &explained.memory.nat.head).unwrap();
        for _ in 0..CASES / ROUNDS / 2 {
            let query = flow(&mut random);
            for frame in query.frames() {
                let now = u64::try_from(monotonic_time().as_nanos()).unwrap();
                let [answer, what_if] = [&explained, &assumed].map(|copy| {
                    copy.memory.clock_ns.set(now);
                    copy.answer(&frame)
                });
                let ran = program.run(&frame, answer.exit).unwrap();
                let shown = || format!("round {round}: {query:?} with {assumptions:?}");
                assert_eq!((answer.exit, &answer.frame), (ran.exit, &ran.frame), "{}", shown());
                assert_eq!(
                    (what_if.exit, what_if.backend, &what_if.frame),
                    (ran.exit, answer.backend, &ran.frame),
                    "what if, {}",
                    shown()
                );
                backends.insert(answer.backend);
                exits.insert(answer.exit.name());
            }
        }
    }
    // Each backend was chosen, and no backend as well; all modes, refusals, and packets of others.
    assert_eq!(backends.len(), rig.inventory.members().count() + 1, "{backends:?}");
    assert!(exits.len() >= 8, "{exits:?}");
}
