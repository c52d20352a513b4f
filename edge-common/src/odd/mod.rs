//! Packets that need a longer look: with options or extension headers, fragments, ICMP, broken ones.
//!
//! Once to find out what a packet is, and where in it a flow can be read; and for some once more, to do what follows from the
//! backend that was chosen for that flow.

mod control;
mod fragment;
mod path_mtu;

use crate::{
    exit::Exit,
    frame::{self, Link},
    ip::{Payload, Transport, V4, V6, protocol},
    packet::Packet,
    pipeline::{Decision, Found, Kind, Place},
    reply::Reply,
    tables::{Tables, View},
    transport::{Head, Malformed},
};

/// Finds out what the packet behind `link` is, in the bank of the maps that it has seen published.
#[inline(always)]
pub fn find<P: Packet, T: Tables>(packet: &P, tables: &T, link: Link, bank: u32) -> Found {
    let Some(view) = tables.view_of(bank) else { return Exit::NotOurs.into() };
    let look = Look { packet, tables, view, link };
    match link.ether_type {
        frame::IPV4 => look.network::<V4>(),
        _ => look.network::<V6>(),
    }
    .unwrap_or_else(Found::from)
}

/// Does what follows from what was found for the flow at `place`.
#[inline(always)]
pub fn conclude<P: Packet, T: Tables>(packet: &P, tables: &T, link: Link, place: Place, found: Found) -> Found {
    let Some(view) = tables.view_of(place.bank) else { return Exit::NotOurs.into() };
    let look = Look { packet, tables, view, link };
    match link.ether_type {
        frame::IPV4 => look.conclude::<V4>(place, found),
        _ => look.conclude::<V6>(place, found),
    }
}

/// A longer look at one packet.
#[derive(Clone, Copy)]
struct Look<'a, P, T> {
    packet: &'a P,
    tables: &'a T,
    view: View<'a>,
    link: Link,
}

impl<P: Packet, T: Tables> Look<'_, P, T> {
    #[inline(always)]
    fn network<F: Reply>(&self) -> Result<Found, Decision> {
        let header: &F::Header = self.packet.view(self.link.l3).ok_or(Exit::NotOurs)?;
        let at = match F::payload(self.packet, self.link.l3, header) {
            Payload::Transport(at) => at,
            Payload::Fragment(fragment) => return self.fragment::<F>(header, fragment),
            Payload::Hidden => return Err(self.for_a_vip::<F>(header, Exit::ExtensionHeaders)),
            Payload::Malformed => return Err(self.for_a_vip::<F>(header, Exit::Malformed)),
        };
        match at.protocol {
            protocol::TCP | protocol::UDP => self.own::<F>(header, Kind::Whole, at, Head::check),
            icmp if icmp == F::ICMP => self.control::<F>(header, at),
            _ => Err(Exit::NotOurs.into()),
        }
    }

    #[inline(always)]
    fn conclude<F: Reply>(&self, place: Place, found: Found) -> Found {
        match place.kind {
            Kind::Whole => found,
            Kind::First => self.remember::<F>(found),
            Kind::Quoted => Self::concerned(found),
            Kind::Tunnelled => self.learn_path_mtu::<F>(place, found),
        }
    }

    /// Asks for the backend of the flow that the packet is one of, if `check` finds its transport header sound.
    #[inline(always)]
    fn own<F: Reply>(
        &self,
        header: &F::Header,
        kind: Kind,
        at: Transport,
        check: impl FnOnce(Head, u8, usize, usize) -> Result<bool, Malformed>,
    ) -> Result<Found, Decision> {
        let end = self.link.l3 + F::length(header);
        let head = Head::read(self.packet, at.protocol, at.offset);
        match head.and_then(|head| check(head, at.protocol, at.offset, end).ok()) {
            Some(starts) => Ok(self.place::<F>(kind, self.link.l3, at, starts)),
            None => Err(self.for_a_vip::<F>(header, Exit::Malformed)),
        }
    }

    /// Asks for the backend of the flow that is read behind the network header at `l3`.
    #[inline(always)]
    fn place<F: Reply>(&self, kind: Kind, l3: usize, at: Transport, starts: bool) -> Found {
        let v6 = F::ETHER_TYPE == frame::IPV6;
        Place { kind, l3, l4: at.offset, protocol: at.protocol, bank: self.view.bank, starts, v6 }.into()
    }

    /// `exit` if the packet is for one of our VIPs, whatever its port; else it is not ours.
    #[inline(always)]
    fn for_a_vip<F: Reply>(&self, header: &F::Header, exit: Exit) -> Decision {
        if F::is_vip(self.tables, self.view, F::destination(header)) { exit.into() } else { Exit::NotOurs.into() }
    }
}
