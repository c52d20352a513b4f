//! Forwarding: a packet and its backend in, a frame to the next hop out.

use crate::{
    abi::{Backend, Mode, NextHop, Service},
    encap::Outer,
    exit::Exit,
    frame::{Egress, Link, Mac},
    hash::Hash,
    ip::Family,
    packet::Packet,
    pipeline::Decision,
    tables::{Tables, View},
};

/// A received packet of a service: what forwarding needs of it.
#[derive(Clone, Copy)]
pub struct Received {
    pub link: Link,
    /// Bytes of the IP packet.
    pub length: usize,
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    pub dont_fragment: bool,
    /// See [`Family::identification`].
    pub identification: [u8; 2],
    pub flow: Hash,
}

impl Received {
    #[inline(always)]
    pub fn new<F: Family>(link: Link, header: &F::Header, flow: Hash) -> Self {
        Self {
            link,
            length: F::length(header),
            ttl: F::ttl(header),
            tos: F::tos(header),
            dont_fragment: F::dont_fragment(header),
            identification: F::identification(header),
            flow,
        }
    }
}

/// Sends the packet to `backend`, as a router does (`dsr`) or as a tunnel's entry does (`ipip`).
///
/// # Errors
/// The exit of a packet that can't be sent there.
#[inline(always)]
pub fn forward<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    view: View<'_>,
    received: Received,
    service: &Service,
    backend: &Backend,
) -> Result<Decision, Decision> {
    let mode = Mode::from_raw(service.mode).ok_or(Exit::BadTables)?;
    if received.ttl <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let outer = match mode {
        Mode::Dsr => None,
        Mode::Ipip => Some(Outer::towards(backend).ok_or(Exit::BadTables)?),
    };
    let overhead = outer.map_or(0, Outer::length);
    let mtu = usize::from(backend.mtu);
    if mtu != 0 && received.length + overhead > mtu {
        return Err(Decision { exit: Exit::TooBig, detail: mtu.saturating_sub(overhead) as u32 });
    }
    let route = way_to(tables, view, backend)?;

    F::decrement_ttl(packet, received.link.l3).ok_or(Exit::Malformed)?;
    let egress = Egress {
        mac: route.mac,
        source_mac: route.source_mac,
        vlan: backend.vlan,
        ether_type: outer.map_or(F::ETHER_TYPE, Outer::ether_type),
    };
    egress.replace(packet, received.link, overhead).ok_or(Exit::NoRoom)?;
    if let Some(outer) = outer {
        outer.store(packet, egress.length(), view.generation, backend, F::TUNNELLED, received).ok_or(Exit::NoRoom)?;
    }

    let back = route.egress == packet.ingress();
    let exit = match (mode, back) {
        (Mode::Dsr, true) => Exit::DsrTx,
        (Mode::Dsr, false) => Exit::DsrRedirect,
        (Mode::Ipip, true) => Exit::IpipTx,
        (Mode::Ipip, false) => Exit::IpipRedirect,
    };
    Ok(Decision { exit, detail: route.egress })
}

/// Where frames to a backend go.
#[derive(Clone, Copy)]
struct Way {
    egress: u32,
    mac: Mac,
    source_mac: Mac,
}

/// The next hop: the neighbour that the controller keeps, else what the kernel's own tables say.
#[inline(always)]
fn way_to<T: Tables>(tables: &T, view: View<'_>, backend: &Backend) -> Result<Way, Exit> {
    // Read once: the controller changes it at any time.
    let next_hop = backend.next_hop;
    if NextHop::from_raw(next_hop).is_some() {
        let source_mac = Mac::new(&backend.source_mac);
        return Ok(Way { egress: backend.egress, mac: Mac::of_next_hop(next_hop), source_mac });
    }
    let route = tables.route(view.generation, backend).ok_or(Exit::NoNextHop)?;
    Ok(Way { egress: route.egress, mac: Mac::new(&route.mac), source_mac: Mac::new(&route.source_mac) })
}
