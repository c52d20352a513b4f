//! QUIC packets go to the server that their connection ID names, whatever the client's current address.

use std::net::IpAddr;

use edge_common::abi::{BackendNumber, Exit, Failover, FlowCount, Tracking};
use edge_tests::{
    both::Both,
    namespace::in_namespace,
    packet::{Extension, Payload, Udp, protocol},
    world::{DISABLED, DOWN, DRAINED, Side, UP, World},
};

use super::{
    Flow, Meaning::Runs, UDP, Who, both, counted, framed, number, reached, record, set_owner, world, write_slot,
};
use crate::slow::world::fragments;

const SLOT: u32 = 17;

/// The backend of the flow's address, in a slot where nothing else is looked up.
const OWNER: Who = Who::Second;

/// A kind of QUIC packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Short,
    Initial,
    ZeroRtt,
    Handshake,
    /// The last two of version 2.
    Initial2,
    Handshake2,
    Draft,
}

impl Form {
    /// Forms that carry a connection ID of the server's choice.
    const SERVERS: [Self; 3] = [Self::Short, Self::Handshake, Self::Handshake2];
    const CLIENTS: [Self; 3] = [Self::Initial, Self::ZeroRtt, Self::Initial2];

    fn payload(self, id: &[u8]) -> Vec<u8> {
        let (first, version) = match self {
            Self::Short => return [&[0x41], id, &[0x55; 24]].concat(),
            Self::Initial => (0xc1, 1),
            Self::ZeroRtt => (0xd1, 1),
            Self::Handshake => (0xe1, 1),
            Self::Initial2 => (0xd1, 0x6b33_43cf),
            Self::Handshake2 => (0xf1, 0x6b33_43cf),
            Self::Draft => (0xe1, 0xff00_001d),
        };
        let length = u8::try_from(id.len()).expect("a connection ID");
        let mut payload = [&[first], &u32::to_be_bytes(version)[..], &[length], id, &[0x55; 24]].concat();
        if matches!(self, Self::Initial | Self::Initial2) {
            payload.resize(1200, 0x55);
        }
        payload
    }
}

/// A connection ID of eight bytes that contains this number.
fn id(cid: (u8, u8), number: u32) -> [u8; 8] {
    let (offset, length) = cid;
    let (noise, place) = (0x5a5a_5a5a_5a5a_5a5a_u64, 64 - u32::from(offset) - u32::from(length));
    let mask = ((1_u64 << length) - 1) << place;
    (noise & !mask | u64::from(number) << place & mask).to_be_bytes()
}

/// A packet of a flow, of this form and with this connection ID.
fn packet(flow: &Flow, form: Form, id: &[u8], slow: bool) -> Vec<u8> {
    let mut packet = flow.packet(Runs);
    if let Payload::Udp(udp) = packet.payload {
        packet.payload = Payload::Udp(Udp { data: form.payload(id), ..udp });
    }
    if slow {
        match flow.client {
            IpAddr::V4(_) => packet.options = vec![1; 4],
            IpAddr::V6(_) => {
                packet.extensions = vec![Extension::filler(protocol::DESTINATION, 0)];
            }
        }
    }
    framed(packet)
}

/// The layout in most tests: 16 bits behind the first byte.
const CID: (u8, u8) = (8, 16);

/// A flow whose slot belongs to its second candidate; with `looks`, the first candidate takes new flows.
fn flow(side: Side, cid: Option<(u8, u8)>, looks: bool) -> (Both, Flow) {
    let mut both = both(world(side));
    both.change(|world| {
        world.services[UDP as usize].tracking = Tracking::Quic;
        world.services[UDP as usize].quic_cid = cid;
        world.services[UDP as usize].in_transition = looks;
    });
    let owner = number(&both.memory, SLOT, OWNER);
    set_owner(&both.memory, UDP, SLOT, owner);
    write_slot(&both.memory, UDP, SLOT, |slot| slot.look = looks.into());
    both.change(|_| ());
    let flow = Flow::into_slot(&both.world, side, UDP, SLOT, 3);
    (both, flow)
}

fn named(both: &Both, who: Who) -> (BackendNumber, [u8; 8]) {
    let backend = number(&both.memory, SLOT, who);
    (backend, id(CID, World::server_number(backend)))
}

/// The backend that a packet reaches, and the counters that it increments.
fn goes(both: &mut Both, frame: &[u8]) -> (Option<u16>, Vec<FlowCount>) {
    let before = both.memory.flow_counts(UDP);
    let (exit, to) = reached(&both.run(frame));
    assert!(matches!(exit, Exit::DsrTx), "{exit:?}");
    both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    (to, counted(before, both.memory.flow_counts(UDP)))
}

#[test]
fn a_client_stays_with_the_server_that_its_packets_name() {
    for side in Side::BOTH {
        in_namespace(|| {
            for looks in [false, true] {
                let (mut both, flow) = flow(side, Some(CID), looks);
                for who in [Who::First, Who::Second, Who::Third, Who::Behind] {
                    let (backend, id) = named(&both, who);
                    for (form, slow) in Form::SERVERS.into_iter().flat_map(|form| [(form, false), (form, true)]) {
                        let went = goes(&mut both, &packet(&flow, form, &id, slow));
                        let expected = (Some(backend), vec![FlowCount::ByConnectionId]);
                        assert_eq!(went, expected, "{side:?} {form:?} {who:?}, looks: {looks}, slow: {slow}");
                    }
                }
                assert_eq!(record(&both.memory, &flow), None);
            }
        });
    }
}

#[test]
fn an_unknown_or_dead_server_number_is_ignored() {
    for side in Side::BOTH {
        in_namespace(|| {
            let (mut both, flow) = flow(side, Some(CID), false);
            let owner = number(&both.memory, SLOT, OWNER);
            let (third, ours) = named(&both, Who::Third);
            let by_address = (Some(owner), vec![FlowCount::UnknownConnectionId]);
            for form in Form::SERVERS {
                let unknown = id(CID, World::server_number(60));
                assert_eq!(goes(&mut both, &packet(&flow, form, &unknown, false)), by_address, "{form:?}");
                for state in [DOWN, DISABLED] {
                    both.change(|world| world.backends[usize::from(third)].state = state);
                    assert_eq!(goes(&mut both, &packet(&flow, form, &ours, false)), by_address, "{form:?} {state:#x}");
                }
                both.change(|world| world.backends[usize::from(third)].state = DRAINED);
                assert_eq!(goes(&mut both, &packet(&flow, form, &ours, false)).0, Some(third), "{form:?}: drained");
                both.change(|world| world.backends[usize::from(third)].state = UP);
            }
            // The connection ID ends before the number does. Short headers do not contain its length.
            for form in [Form::Handshake, Form::Handshake2] {
                assert_eq!(goes(&mut both, &packet(&flow, form, &ours[..2], false)), by_address, "{form:?}");
                assert_eq!(goes(&mut both, &packet(&flow, form, &ours[..3], false)).0, Some(third), "{form:?}");
            }
            for (what, data) in [("nothing", vec![]), ("little", vec![0x41; 5]), ("too little", vec![0x41; 9])] {
                let mut packet = flow.packet(Runs);
                if let Payload::Udp(udp) = packet.payload {
                    packet.payload = Payload::Udp(Udp { data, ..udp });
                }
                assert_eq!(goes(&mut both, &framed(packet)).0, Some(owner), "{what}");
            }
            assert_eq!(goes(&mut both, &packet(&flow, Form::Draft, &ours, false)), (Some(owner), vec![]));
        });
    }
}

#[test]
fn a_pool_that_was_evacuated_is_left_and_one_that_fails_open_serves() {
    for side in Side::BOTH {
        in_namespace(|| {
            let (mut both, flow) = flow(side, Some(CID), true);
            let (third, ours) = named(&both, Who::Third);
            let behind = number(&both.memory, SLOT, Who::Behind);
            let short = packet(&flow, Form::Short, &ours, false);
            let failover = |both: &mut Both, evacuate| {
                both.change(|world| {
                    world.services[UDP as usize].failover = Failover { first: 1, evacuate };
                });
            };
            failover(&mut both, false);
            assert_eq!(goes(&mut both, &short).0, Some(third));
            failover(&mut both, true);
            assert_eq!(goes(&mut both, &short).0, Some(behind));
            both.change(|world| world.services[UDP as usize].failover = Failover::default());
            both.change(|world| world.backends.iter_mut().skip(1).for_each(|backend| backend.state = DOWN));
            assert_eq!(goes(&mut both, &short), (Some(third), vec![FlowCount::ByConnectionId]), "all are down");
        });
    }
}

#[test]
fn a_client_s_own_connection_id_is_believed_only_of_its_slot_s_owner() {
    for side in Side::BOTH {
        in_namespace(|| {
            let (mut both, flow) = flow(side, Some(CID), true);
            let (owner, owners) = named(&both, OWNER);
            let (third, thirds) = named(&both, Who::Third);
            let first = number(&both.memory, SLOT, Who::First);
            for form in Form::CLIENTS {
                // The owner has answered, and no longer takes new flows.
                both.change(|world| world.backends[usize::from(owner)].state = DRAINED);
                let went = goes(&mut both, &packet(&flow, form, &owners, false));
                assert_eq!(went, (Some(owner), vec![FlowCount::ByConnectionId]), "{form:?}");
                both.change(|world| world.backends[usize::from(owner)].state = UP);
            }
            assert_eq!(record(&both.memory, &flow), None);
            for form in [Form::Initial, Form::Initial2] {
                let (to, _) = goes(&mut both, &packet(&flow, form, &thirds, false));
                assert_eq!(to, Some(first), "{form:?}: it may be chance that it names {third}");
            }
            assert_eq!(record(&both.memory, &flow).map(|record| record.backend), Some(first));
        });
    }
}

#[test]
fn the_number_may_stand_at_any_bit() {
    // The whole range, and the three layouts of Katran, the first of which begins within a byte.
    for cid in [(0, 16), (2, 16), (8, 24), (8, 32), (32, 32), (47, 17), (3, 29)] {
        in_namespace(|| {
            let (mut both, flow) = flow(Side::V4, Some(cid), false);
            let third = number(&both.memory, SLOT, Who::Third);
            for form in Form::SERVERS {
                let id = id(cid, World::server_number(third));
                assert_eq!(goes(&mut both, &packet(&flow, form, &id, false)).0, Some(third), "{cid:?} {form:?}");
            }
        });
    }
}

#[test]
fn fragments_go_where_their_first_one_does() {
    for side in Side::BOTH {
        in_namespace(|| {
            let (both, flow) = flow(side, Some(CID), false);
            let (third, ours) = named(&both, Who::Third);
            let mut whole = flow.packet(Runs);
            if let Payload::Udp(udp) = whole.payload {
                whole.payload =
                    Payload::Udp(Udp { data: [Form::Short.payload(&ours), vec![0x55; 120]].concat(), ..udp });
            }
            for piece in fragments(&whole, 80, 7) {
                assert_eq!(reached(&both.run(&framed(piece))).1, Some(third), "{side:?}");
            }
            both.compare_state().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

#[test]
fn without_it_a_connection_id_has_no_effect() {
    for side in Side::BOTH {
        in_namespace(|| {
            let (mut both, flow) = flow(side, None, false);
            let owner = number(&both.memory, SLOT, OWNER);
            let (_, ours) = named(&both, Who::Third);
            for form in Form::SERVERS.into_iter().chain(Form::CLIENTS) {
                assert_eq!(goes(&mut both, &packet(&flow, form, &ours, false)), (Some(owner), vec![]), "{form:?}");
            }
        });
    }
}
