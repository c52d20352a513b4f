//! Packets of flows in `nat`, for the interpreter, in each IP version: of an established flow one in each direction, and one
//! that opens a flow.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, Result};
use edge_common::{
    abi::{Exit, Family, Mode, NatChoice, NatHead, NatSource, Station, Tracking},
    flow_table::{Birth, Certainty, Stage, Word, units, words_of},
    host::{Memory, Nat},
    nat::{self, OnePlace, Translation},
    tables::service_index,
    wire::protocol,
};
use edge_tests::namespace;

use super::{
    frames::{self, CLIENT_MAC, Content, EDGE_MAC, Frame, Shape},
    nat::{BACKEND_PORT, FIRST_PORT, HOP, PORTS, SOURCE},
    records,
    world::{Form, KEY, Side, USUAL_SLOTS, World, vip_v4, vip_v6},
};

/// A packet, the maps that it meets, and the exit by which it must leave.
pub(super) struct Packet {
    pub(super) mode: &'static str,
    pub(super) family: &'static str,
    pub(super) memory: Memory,
    pub(super) bytes: Vec<u8>,
    pub(super) exit: Exit,
}

/// All packets. Their flow's entry was last seen at `clock`, so that they do not change it.
pub(super) fn all(clock: u64) -> Result<Vec<Packet>> {
    let mut packets = each(Side::V4, clock)?;
    packets.extend(each(Side::V6, clock)?);
    Ok(packets)
}

fn each(side: Side, clock: u64) -> Result<Vec<Packet>> {
    let form = Form { vip: side, backends: Some(side), mode: "dsr", protocol: protocol::TCP };
    let (services, ports, backends, slots, interface) = (1, 1, 1, USUAL_SLOTS, namespace::LO);
    let world = World { services, ports, backends, slots, interface, forms: vec![form], table: None };
    let (family, source, vip, [forth, start]): (_, IpAddr, IpAddr, _) = match side {
        Side::V4 => {
            let both =
                [Content::TcpData, Content::TcpSyn].map(|content| frames::to_v4(vip_v4(0), content, Shape::Plain));
            ("4", SOURCE.into(), vip_v4(0).into(), both)
        }
        Side::V6 => {
            let both =
                [Content::TcpData, Content::TcpSyn].map(|content| frames::to_v6(vip_v6(0), content, Shape::Plain));
            ("6", Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9).into(), vip_v6(0).into(), both)
        }
    };
    let mut memory = world.memory()?;
    translate(&mut memory, source, vip);
    let empty = memory.clone();
    let port = open(&memory, &forth, side, world.first_backend(side), clock)?;
    let back = answer(&memory, &forth, source, world.first_backend(side), port);
    let packet = |mode, bytes, exit| Packet { mode, family, memory: memory.clone(), bytes, exit };
    let opening = Packet { mode: "nat_open", family, memory: empty, bytes: start.bytes, exit: Exit::NatTx };
    Ok(vec![packet("nat", forth.bytes.clone(), Exit::NatTx), packet("nat_back", back, Exit::NatReplyTx), opening])
}

/// Changes the mode of the only service to `nat`, with `source` as the source address.
fn translate(memory: &mut Memory, source: IpAddr, vip: IpAddr) {
    let targets = memory.service_index_v4.iter_mut().map(|entry| &mut entry.service_ref);
    let targets = targets.chain(memory.service_index_v6.iter_mut().map(|entry| &mut entry.service_ref));
    targets.filter(|target| !target.is_vip()).for_each(|target| *target = target.with_mode(Mode::Nat));
    for generation in &mut memory.published.generations {
        generation.translates = 1;
        generation.vip_bits = service_index::vip_bits([vip, source]);
    }
    let mut head = NatHead::new(KEY, FIRST_PORT, PORTS, 1, |_| 31_536_000_000_000_000);
    let (family, address) = Family::split(source);
    head.sources[0] = NatSource { address, family: family as u32, reserved: 0 };
    let choice = NatChoice { count: 1, ..NatChoice::default() };
    (head.sources_v4, head.sources_v6) = (choice, choice);
    memory.nat = Nat::new(head);
    let station = Station::new(namespace::LO, EDGE_MAC).0;
    let hop = [CLIENT_MAC.0, station, EDGE_MAC.0, namespace::LO.into()];
    memory.nat.hops[usize::from(HOP)].iter().zip(hop).for_each(|(word, value)| Word::store(word, value));
}

/// Adds the flow of `frame` to the table; returns its port in network order.
fn open(memory: &Memory, frame: &Frame, side: Side, backend: u16, clock: u64) -> Result<u16> {
    let Nat { head, .. } = &memory.nat;
    let (flow, v6) = (records::flow_of(frame, side)?, side == Side::V6);
    let from = words_of(memory.backends[usize::from(backend)].address, v6);
    let to = words_of(head.sources[0].address, v6);
    let translation = Translation { backend, hop: HOP, port: BACKEND_PORT, ..Translation::default() };
    let birth = Birth {
        stage: Stage::Established,
        class: Tracking::Tcp.into(),
        certainty: Certainty::Certain,
        served: translation.served(0),
    };
    let place = nat::place(head, nat::tuple(head, from, to, BACKEND_PORT, protocol::TCP), 0);
    let added = memory.nat.table(units(clock)).insert(&flow, flow.hash(&head.hash_key), &birth, &OnePlace(place));
    Ok(nat::port_of(head, added.ok().context("an empty table refused a flow")?).to_be())
}

/// The backend's answer: the client's packet with other ends. Its checksum is wrong, and stays wrong.
fn answer(memory: &Memory, forth: &Frame, source: IpAddr, backend: u16, port: u16) -> Vec<u8> {
    let (mut bytes, address) = (forth.bytes.clone(), memory.backends[usize::from(backend)].address);
    let (_, own) = Family::split(source);
    let length = if source.is_ipv4() { 4 } else { 16 };
    let ports_at = forth.ports_at as usize;
    let ports = u32::from(BACKEND_PORT) | u32::from(port) << 16;
    let ends = [&address[..length], &own[..length]].concat();
    bytes[ports_at - ends.len()..ports_at].copy_from_slice(&ends);
    bytes[ports_at..ports_at + 4].copy_from_slice(&ports.to_le_bytes());
    bytes
}
