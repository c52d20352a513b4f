//! Packets that start a flow: plain SYNs, and QUIC's Initials in services that track QUIC.

use std::time::Duration;

use edge_common::{
    abi::{FlowCount, Tracking},
    flow_table::units,
};
use edge_tests::{
    both::Both,
    namespace::in_namespace,
    packet::{ACK, FIN, PSH, Payload, RST, SYN, Tcp, Udp},
    world::{DISABLED, DOWN, DRAINED, Side, UP},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    Flow, Meaning, TCP, UDP, Who, both, counted, framed, number, put_records, reached, record, set_owner, world,
};

/// First bytes of datagrams, and whether they are QUIC Initials (RFC 9000, section 17.2; RFC 9369, section 3.2).
const DATAGRAMS: &[(&str, &[u8], bool)] = &[
    ("Initial of version 1", &[0xc0, 0, 0, 0, 1, 8], true),
    ("Initial of version 1, protected bits set", &[0xcf, 0, 0, 0, 1, 8], true),
    ("Initial of version 2", &[0xd0, 0x6b, 0x33, 0x43, 0xcf, 8], true),
    ("Initial of version 2, protected bits set", &[0xdf, 0x6b, 0x33, 0x43, 0xcf, 8], true),
    ("0-RTT of version 1", &[0xd0, 0, 0, 0, 1, 8], false),
    ("Handshake of version 1", &[0xe0, 0, 0, 0, 1, 8], false),
    ("Retry of version 1", &[0xf0, 0, 0, 0, 1, 8], false),
    ("0-RTT of version 2", &[0xe0, 0x6b, 0x33, 0x43, 0xcf, 8], false),
    ("Handshake of version 2", &[0xf0, 0x6b, 0x33, 0x43, 0xcf, 8], false),
    ("Retry of version 2", &[0xc0, 0x6b, 0x33, 0x43, 0xcf, 8], false),
    ("1-RTT", &[0x40, 0, 0, 0, 1, 8], false),
    ("without the fixed bit", &[0x80, 0, 0, 0, 1, 8], false),
    ("version negotiation", &[0xc0, 0, 0, 0, 0, 8], false),
    ("a greased version", &[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8], true),
    ("a version that nobody knows", &[0xc0, 0xff, 0, 0, 29, 8], false),
    ("shorter than a client's Initial", &[0xc0, 0, 0, 0, 1], false),
    ("cut off", &[0xc0, 0, 0, 0], false),
    ("empty", &[], false),
];

/// A datagram padded to the length that clients give to Initials (RFC 9000, section 14.1); shorter in cases about short
/// ones.
fn padded(start: &[u8]) -> Vec<u8> {
    let mut data = start.to_vec();
    if data.len() > 5 {
        data.resize(1200, 0);
    }
    data
}

/// Sends a packet of an unknown flow in a slot whose owner is drained; returns whether the packet started the flow.
fn starts(both: &mut Both, slot: u32, flow: Flow, payload: impl FnOnce(Payload) -> Payload) -> bool {
    put_records(&mut both.memory, &[]);
    both.change(|_| ());
    let before = both.memory.flow_counts(flow.service);
    let mut packet = flow.packet(Meaning::Runs);
    packet.payload = payload(packet.payload);
    let (_, to) = reached(&both.run(&framed(packet)));
    let counts = counted(before, both.memory.flow_counts(flow.service));
    let [owner, pick] = [Who::First, Who::Second].map(|who| Some(number(&both.memory, slot, who)));
    match counts.as_slice() {
        [FlowCount::Lookups, FlowCount::RecordedAtNew] if to == pick => true,
        // A RST is not recorded.
        [FlowCount::Lookups, FlowCount::RecordedAtOwner] | [FlowCount::Lookups] if to == owner => false,
        _ => panic!("{counts:?}, to {to:?}, not {pick:?} or {owner:?}"),
    }
}

fn with_both(side: Side, tracking: Tracking, test: impl FnOnce(&mut Both, Flow, u32) + Send) {
    const SLOT: u32 = 5;
    let mut world = world(side);
    let service = if tracking == Tracking::Tcp { TCP } else { UDP };
    world.services[service as usize].tracking = tracking;
    let drained = number(&world.memory(), SLOT, Who::First);
    world.backends[usize::from(drained)].state = DRAINED;
    let flow = Flow::into_slot(&world, side, service, SLOT, 0);
    in_namespace(|| {
        let mut both = both(world);
        let owner = number(&both.memory, SLOT, Who::First);
        set_owner(&both.memory, service, SLOT, owner);
        test(&mut both, flow, SLOT);
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn initials_of_both_versions_start_flows_and_no_other_datagram_does() {
    for side in Side::BOTH {
        with_both(side, Tracking::Quic, |both, flow, slot| {
            for (name, data, expected) in DATAGRAMS {
                let with = |payload| {
                    let Payload::Udp(udp) = payload else { panic!("a flow of UDP") };
                    Payload::Udp(Udp { data: padded(data), ..udp })
                };
                assert_eq!(starts(both, slot, flow, with), *expected, "{name}, {side:?}");
            }
        });
    }
}

#[test]
fn without_quic_an_initial_is_an_ordinary_datagram() {
    for side in Side::BOTH {
        with_both(side, Tracking::Learn, |both, flow, slot| {
            for (name, data, _) in DATAGRAMS {
                let with = |payload| {
                    let Payload::Udp(udp) = payload else { panic!("a flow of UDP") };
                    Payload::Udp(Udp { data: padded(data), ..udp })
                };
                assert!(!starts(both, slot, flow, with), "{name}, {side:?}");
            }
        });
    }
}

#[test]
fn of_tcp_a_syn_without_ack_rst_and_fin_starts_a_flow() {
    for side in Side::BOTH {
        with_both(side, Tracking::Tcp, |both, flow, slot| {
            for flags in 0..=u8::MAX {
                let with = |payload| {
                    let Payload::Tcp(tcp) = payload else { panic!("a flow of TCP") };
                    Payload::Tcp(Tcp { flags, ..tcp })
                };
                let expected = flags & (SYN | ACK | RST | FIN) == SYN;
                assert_eq!(starts(both, slot, flow, with), expected, "flags {flags:#04x}, {side:?}");
            }
            // A SYN may carry data (RFC 7413).
            let with = |payload| {
                let Payload::Tcp(tcp) = payload else { panic!("a flow of TCP") };
                Payload::Tcp(Tcp { flags: SYN | PSH, data: vec![0x55; 100], ..tcp })
            };
            assert!(starts(both, slot, flow, with));
        });
    }
}

/// Sets the host's clock to the kernel's time, which is returned in units.
fn let_clocks_agree(both: &Both) -> u32 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock"));
    let now = u64::try_from(now.as_nanos()).expect("some years");
    both.memory.clock_ns.set(now);
    units(now)
}

#[test]
fn a_handshake_that_a_drain_meets_goes_on_where_it_began() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            both.change(|world| world.services[UDP as usize].tracking = Tracking::Quic);
            let (slot, other) = (17, 18);
            let [old, new] = [Who::First, Who::Second].map(|who| number(&both.memory, slot, who));
            set_owner(&both.memory, UDP, slot, old);
            let flow = |nth| Flow::into_slot(&both.world, side, UDP, slot, nth);
            let (begun, later, last) = (flow(0), flow(1), flow(2));
            let to = |both: &mut Both, flow: &Flow, meaning| {
                let (_, to) = reached(&both.run(&flow.frame(meaning)));
                both.compare_state().unwrap_or_else(|error| panic!("{error}"));
                to
            };
            // The service is stable: no record is made.
            both.change(|world| world.services[UDP as usize].in_transition = false);
            assert_eq!(to(&mut both, &begun, Meaning::Starts), Some(old));
            assert_eq!(record(&both.memory, &begun), None);

            let now = let_clocks_agree(&both);
            let drained = |both: &mut Both, state, ago| {
                both.change(|world| {
                    world.services[UDP as usize].in_transition = true;
                    world.services[UDP as usize].redirected = now.wrapping_sub(ago);
                    world.backends[usize::from(old)].state = state;
                });
            };
            drained(&mut both, DRAINED, 0);
            for meaning in [Meaning::Starts, Meaning::Runs, Meaning::Starts] {
                assert_eq!(to(&mut both, &begun, meaning), Some(old), "{side:?} {meaning:?}");
            }
            assert_eq!(record(&both.memory, &begun).map(|record| record.backend), Some(old));
            // Flows that began after the change are treated likewise for a moment; recorded flows stay where they are
            // after that.
            drained(&mut both, DRAINED, 8);
            assert_eq!(to(&mut both, &begun, Meaning::Starts), Some(old));
            assert_eq!(to(&mut both, &later, Meaning::Starts), Some(new), "{side:?}: the moment is over");
            for meaning in [Meaning::Starts, Meaning::Runs] {
                assert_eq!(to(&mut both, &later, meaning), Some(new), "{side:?} {meaning:?}");
            }
            // Not if the old owner is down or disabled.
            for state in [DOWN, DISABLED] {
                put_records(&mut both.memory, &[]);
                drained(&mut both, state, 0);
                assert_eq!(to(&mut both, &last, Meaning::Starts), Some(new), "{side:?} {state:#x}");
            }
            put_records(&mut both.memory, &[]);
            drained(&mut both, UP, 0);
            let elsewhere = Flow::into_slot(&both.world, side, UDP, other, 0);
            let owner = number(&both.memory, other, Who::First);
            set_owner(&both.memory, UDP, other, owner);
            assert_eq!(to(&mut both, &elsewhere, Meaning::Starts), Some(owner));
            assert_eq!(record(&both.memory, &elsewhere), None, "its slot's owner takes new flows");
        });
    }
}

#[test]
fn a_syn_just_after_a_drain_goes_elsewhere() {
    in_namespace(|| {
        let mut both = both(world(Side::V4));
        let [old, new] = [Who::First, Who::Second].map(|who| number(&both.memory, 17, who));
        set_owner(&both.memory, TCP, 17, old);
        let now = let_clocks_agree(&both);
        both.change(|world| {
            world.services[TCP as usize].redirected = now;
            world.backends[usize::from(old)].state = DRAINED;
        });
        let flow = Flow::into_slot(&both.world, Side::V4, TCP, 17, 0);
        assert_eq!(reached(&both.run(&flow.frame(Meaning::Starts))).1, Some(new));
    });
}
