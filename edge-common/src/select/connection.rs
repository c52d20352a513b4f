//! The server that a packet's connection ID names: a QUIC client whose address changes stays with its server.
//!
//! ```text
//! packet               the ID names                       goes to
//! short header,        a live server                      that server, whatever its slot, owner and record are
//! Handshake            another server, or none            by the address
//! Initial, 0-RTT       the slot's owner, which is live    the owner: it has answered, and may be draining since
//!                      another server, or none            by the address: the client may have made the ID up
//! ```

use super::{FlowQuery, owner::serves_any, pools::eligible};
use crate::{
    abi::{BackendNumber, FlowCount, ServerCell, Service, State},
    maps::{Maps, PoolMaps, View},
    wire::{
        packet::{Packet, after},
        quic::{self, ConnectionId},
    },
};

/// Number of places that a server number may have in the table, searched one after the other.
pub const PLACES: u32 = 4;

/// The first place of a server number in a table, modulo the table's size.
#[inline(always)]
pub const fn place(number: u32) -> u32 {
    ((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// The server that a packet's connection ID names, if the packet goes there because of the ID. `offset` is that of the
/// UDP header.
#[inline(always)]
pub fn named<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    view: View<'_>,
    service: &Service,
    query: &FlowQuery,
    offset: usize,
) -> Option<BackendNumber> {
    if service.cid_length == 0 {
        return None;
    }
    let id = quic::connection_id(packet, offset)?;
    let found = match server_number(packet, service, id) {
        Some(number) => backend(maps, service, number),
        None => 0,
    };
    let may_be_made_up = !id.is_servers && maps.slot(query.slot(service))?.owner != found;
    if !may_be_made_up && serves(maps, view, service, query, found) {
        maps.count_flow(query.service_ref.service(), FlowCount::ByConnectionId);
        return Some(found);
    }
    if id.is_servers {
        maps.count_flow(query.service_ref.service(), FlowCount::UnknownConnectionId);
    }
    None
}

/// Whether a backend serves the flow. A backend that is down does so, too, if none is left and the service fails open.
#[inline(always)]
fn serves<M: PoolMaps>(maps: &M, view: View<'_>, service: &Service, query: &FlowQuery, backend: BackendNumber) -> bool {
    if serves_any(maps, service, backend, State::ALIVE) {
        return true;
    }
    let slot = query.hash.slot(query.service_ref.slot_mask());
    let fails_open = matches!(eligible(maps, view, service, slot), Some((_, State::ENABLED)));
    fails_open && serves_any(maps, service, backend, State::ENABLED)
}

/// The server number in a connection ID, if the ID is long enough.
#[inline(always)]
fn server_number<P: Packet>(packet: &P, service: &Service, id: ConnectionId) -> Option<u32> {
    let (offset, length) = (u32::from(service.cid_offset), u32::from(service.cid_length));
    if offset.wrapping_add(length) > id.bits {
        return None;
    }
    // Eight bytes behind an ID can be read in any packet: its encryption needs twenty.
    let word = u64::from_be_bytes(packet.load(after(id.at, (offset >> 3) as usize & 31))?);
    Some((word << (offset & 7)).wrapping_shr(64_u32.wrapping_sub(length)) as u32)
}

/// The backend with this server number; 0 if there is none. Every place is read, and the verifier's paths are merged
/// after each.
#[inline(always)]
pub(crate) fn backend<M: PoolMaps>(maps: &M, service: &Service, number: u32) -> BackendNumber {
    let first = place(number);
    let mut found = 0;
    for step in 0..PLACES {
        let at = service.servers.wrapping_add(first.wrapping_add(step) & service.server_mask);
        let Some(cell) = maps.candidates(at) else { return 0 };
        let cell = ServerCell::from(cell);
        let here = if cell.number == number { u32::from(cell.backend) } else { 0 };
        found = maps.merge_paths(found | here, 0xffff);
    }
    found as BackendNumber
}
