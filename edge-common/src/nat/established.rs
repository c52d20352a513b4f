//! Plain packets of established flows, as most packets are: one step looks up the entry, and translates and sends the
//! packet.
//!
//! The step handles only packets that change nothing in their flow's entry but the time. If an entry is to be made or
//! changed, a hop to be learnt, an answer to be sent or a header of the other IP version to be made, the step changes
//! neither packet nor entry, and the packet is handed over to the translation.

use super::{
    hop::{self, Back, Came},
    rewrite::{Ends, Translated, check_after},
    table::{Outside, Translation, port_of, source, table, table_at},
};
use crate::{
    abi::{Exit, Failover, Family, Mode, State},
    evidence,
    flow_table::{Flow, words_of},
    forward::{self, HopLook, NextHop},
    maps::Maps,
    step::Decision,
    wire::{
        checksum::Sum,
        ethernet,
        ipv4::V4,
        ipv6::V6,
        link::{Link, make_room},
        packet::Places,
        plain::Checked,
        protocol,
        tcp::flags,
    },
};

/// Sends the packet of `decided` to its flow's backend or client, if nothing else is to be done for it. Returns
/// [`Decision::sent`], or `decided` for a packet that was not changed.
#[inline(always)]
pub fn established<P: Places, M: Maps>(packet: &mut P, maps: &M, decided: Decision) -> Decision {
    let Some(link) = Link::parse(packet) else { return decided };
    let sent = match link.ether_type {
        ethernet::IPV4 => either_way::<V4, P, M>(packet, maps, link, decided),
        ethernet::IPV6 => either_way::<V6, P, M>(packet, maps, link, decided),
        _ => None,
    };
    sent.unwrap_or(decided)
}

#[inline(always)]
fn either_way<F: Translated, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    link: Link,
    decided: Decision,
) -> Option<Decision> {
    let plain = Plain::<F, P>::of(packet, link)?;
    match decided.service() {
        Some((service, bank)) => forth::<F, P, M>(packet, maps, &plain, service, bank),
        // The slow path handed the packet over.
        None if decided.is_handed_over() => None,
        None => back::<F, P, M>(packet, maps, &plain),
    }
}

/// Sends a packet to a service to its flow's backend.
#[inline(always)]
fn forth<F: Translated, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    plain: &Plain<F, P>,
    service: u32,
    bank: u32,
) -> Option<Decision> {
    let v6 = F::ETHER_TYPE == ethernet::IPV6;
    let head = maps.nat_head()?;
    let Ends { source: client, destination: vip, ports } = plain.ends(packet);
    let flow = Flow::new(client, vip, ports, plain.protocol, v6);
    let now_ns = maps.now_ns();
    let table = table_at(maps, head, now_ns);
    let hash = flow.hash(&head.hash_key);
    let (found, entry) = table.first(&flow, hash).or_else(|| table.look(&flow, hash))?;
    let served = Translation::of(found.served);
    let backend = maps.backend(served.backend)?;
    let header = packet.at(plain.header);
    let length = F::length(header);
    let stays = found.life.is_settled()
        && State(backend.state).has_any(State::ALIVE)
        && (backend.family == Family::V6 as u8) == v6
        && forward::fits::<F>(length, packet.ingress(), Mode::Nat, 0, backend, || F::dont_fragment(header)).is_ok();
    if !stays || !hop::is_by(maps, served.hop, plain.came(packet)?) {
        return None;
    }
    // With an evacuation the choice depends on the backend's pool, too.
    let service = maps.service(bank, service)?;
    if Failover::from_raw(service.failover).evacuate {
        return None;
    }
    let look = HopLook::at(backend);
    let (vlan, next_hop) = (look.vlan, look.kept()?);
    if !table.advance(&found, entry, |life| life.renewed(table.now), None) {
        return None;
    }
    maps.concerns(served.service.into(), served.backend);
    if !backend.is_waited_for() && plain.has_data(packet, length) {
        evidence::asks(maps, served.backend, backend, now_ns);
    }
    maps.count_forwarded(served.service.into(), served.backend, length as u64, false);
    let own = source(head, served.source).address;
    let now = Ends {
        source: words_of(own, v6),
        destination: words_of(backend.address, v6),
        ports: u32::from(port_of(head, found.number).to_be()) | u32::from(served.port) << 16,
    };
    Some(plain.leave(packet, now, vlan, next_hop, Some(hash.flow_label())))
}

/// Sends a backend's answer to its flow's client; `None` also if the packet is no answer.
#[inline(always)]
fn back<F: Translated, P: Places, M: Maps>(packet: &mut P, maps: &M, plain: &Plain<F, P>) -> Option<Decision> {
    let v6 = F::ETHER_TYPE == ethernet::IPV6;
    let head = maps.nat_head()?;
    let Ends { source, destination, ports } = plain.ends(packet);
    let outside = Outside {
        backend: source,
        backend_port: ports as u16,
        source: destination,
        source_port: (ports >> 16) as u16,
        protocol: plain.protocol,
        v6,
    };
    let table = table(maps, head);
    let (found, entry, flow, backend) = outside.entry_and_backend(maps, head, &table)?;
    if !found.life.is_settled() || flow.is_v6() != v6 {
        return None;
    }
    let served = Translation::of(found.served);
    let Back { egress, mac, source_mac, vlan, mtu } = hop::back(maps, served.hop)?;
    let may_exceed = mtu != 0 && F::length(packet.at(plain.header)) > mtu as usize && egress != packet.ingress();
    if may_exceed || !table.advance(&found, entry, |life| life.renewed(table.now), None) {
        return None;
    }
    maps.concerns(served.service.into(), served.backend);
    evidence::hears(maps, served.backend, backend);
    let now = Ends { source: flow.vip, destination: flow.client, ports: flow.ports().rotate_left(16) };
    let next_hop = NextHop { egress, mac, source_mac };
    Some(plain.leave(packet, now, vlan, next_hop, None))
}

/// The headers of a plain packet whose TTL does not end here, and whose flags change nothing of its flow.
struct Plain<F: Translated, P: Places> {
    link: Link,
    header: P::Place<F::Header>,
    transport: P::Place<Checked>,
    protocol: u8,
}

impl<F: Translated, P: Places> Plain<F, P> {
    #[inline(always)]
    fn of(packet: &P, link: Link) -> Option<Self> {
        let (header, transport) = packet.places::<F::Header, Checked>(link.l3)?;
        let protocol = F::plain(packet.at(header))?;
        let is_tcp = protocol == protocol::TCP;
        let changes = is_tcp && packet.at(transport).start.flags() & (flags::SYN | flags::FIN | flags::RST) != 0;
        if changes || F::ttl(packet.at(header)) <= 1 || !packet.has_from(header, F::length(packet.at(header))) {
            return None;
        }
        Some(Self { link, header, transport, protocol })
    }

    #[inline(always)]
    fn ends(&self, packet: &P) -> Ends {
        let header = packet.at(self.header);
        let (source, destination) = (F::words(F::source(header)), F::words(F::destination(header)));
        Ends { source, destination, ports: packet.at(self.transport).start.ports() }
    }

    /// Whether the packet, of `length` bytes from its network header on, is one of TCP with data.
    #[inline(always)]
    fn has_data(&self, packet: &P, length: usize) -> bool {
        let headers = size_of::<F::Header>().wrapping_add(packet.at(self.transport).start.header_length());
        self.protocol == protocol::TCP && length > headers
    }

    /// The hop by which the packet arrived; `None` for a frame with two tags.
    #[inline(always)]
    fn came(&self, packet: &P) -> Option<Came> {
        let (station, from) = Link::ends(packet)?;
        Some(Came { station, from, vlan: self.link.vlan(packet)? })
    }

    /// Writes the ends `now`, a TTL lower by one and a new link layer, and sends the packet; to a backend with the label
    /// of its flow.
    #[inline(always)]
    fn leave(&self, packet: &mut P, now: Ends, vlan: u16, next_hop: NextHop, label: Option<u32>) -> Decision {
        let (was, &Self { link, header, transport, protocol }) = (self.ends(packet), self);
        let is_tcp = protocol == protocol::TCP;
        let check = packet.at(transport).check(is_tcp);
        packet.at_mut(transport).set(is_tcp, now.ports, check_after(check, now.change(&was), is_tcp));
        let header = packet.at_mut(header);
        let labelled = label.map_or(Sum(0), |label| F::set_label(header, label));
        F::set_addresses(header, now.source, now.destination, now.address_change(&was).and(labelled));
        F::decrement_ttl(header);
        let NextHop { egress, mac, source_mac } = next_hop;
        match make_room(packet, link, vlan, F::ETHER_TYPE, || []) {
            Some(addresses) => packet.at_mut(addresses).set(mac, source_mac),
            None => return Exit::NoRoom.into(),
        }
        Decision::sent(egress, label.is_none(), egress != packet.ingress())
    }
}
