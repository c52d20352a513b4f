//! Forwarding: a packet and its backend in, a frame to the next hop out.

use crate::{
    abi::{Backend, Mode, Service},
    encap,
    exit::Exit,
    frame::{Egress, Link},
    ip::Family,
    packet::Packet,
    pipeline::{Decision, Outcome},
    tables::{Tables, View},
};

/// A packet of a service, as forwarding needs it.
#[derive(Clone, Copy)]
pub struct Received {
    pub link: Link,
    /// Bytes of the IP packet.
    pub length: usize,
    /// Twenty bits for an outer header to tell the flow by.
    pub label: u32,
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
) -> Result<Outcome, Decision> {
    let Received { link, length, label } = received;
    let header: &mut F::Header = packet.view_mut(link.l3).ok_or(Exit::Malformed)?;
    if F::ttl(header) <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let mode = Mode::from_raw(service.mode).ok_or(Exit::BadTables)?;
    let overhead = match (mode, backend.family) {
        (Mode::Dsr, _) => 0,
        (Mode::Ipip, 4) => encap::V4::LENGTH,
        (Mode::Ipip, 6) => encap::V6::LENGTH,
        _ => return Err(Exit::BadTables.into()),
    };
    for mtu in [backend.mtu, backend.path_mtu] {
        if mtu != 0 && length + overhead > usize::from(mtu) {
            return Err(too_big(backend, overhead));
        }
    }
    let Way { egress, link_layer } = way_to(tables, view, backend)?;

    let inner = encap::Inner::of::<F>(header, length, label);
    F::decrement_ttl(header);
    let sent = match (mode, backend.family) {
        (Mode::Dsr, _) => link_layer.send(packet, link, F::ETHER_TYPE, []),
        (Mode::Ipip, 4) => encap::V4::outer(view.generation, backend, F::TUNNELLED, inner)
            .and_then(|outer| link_layer.send(packet, link, encap::V4::ETHER_TYPE, outer)),
        (Mode::Ipip, _) => encap::V6::outer(view.generation, backend, F::TUNNELLED, inner)
            .and_then(|outer| link_layer.send(packet, link, encap::V6::ETHER_TYPE, outer)),
    };
    sent.ok_or(Exit::NoRoom)?;

    let back = egress == packet.ingress();
    let exit = match (mode, back) {
        (Mode::Dsr, true) => Exit::DsrTx,
        (Mode::Dsr, false) => Exit::DsrRedirect,
        (Mode::Ipip, true) => Exit::IpipTx,
        (Mode::Ipip, false) => Exit::IpipRedirect,
    };
    Ok(Outcome { exit, egress })
}

/// How a packet leaves that is too long for the egress, or for the way behind it: with what would fit both.
#[inline(always)]
fn too_big(backend: &Backend, overhead: usize) -> Decision {
    let (egress, path) = (backend.mtu, backend.path_mtu);
    let mtu = if egress == 0 || path != 0 && path < egress { path } else { egress };
    Decision::new(Exit::TooBig, usize::from(mtu).saturating_sub(overhead) as u32)
}

/// Where frames to a backend go.
#[derive(Clone, Copy)]
struct Way {
    egress: u32,
    link_layer: Egress,
}

/// The next hop: the neighbour that the controller keeps, else what the kernel's own tables say.
#[inline(always)]
fn way_to<T: Tables>(tables: &T, view: View<'_>, backend: &Backend) -> Result<Way, Exit> {
    // Read once: the controller changes it at any time.
    let next_hop = backend.next_hop;
    if next_hop.is_known() {
        let link_layer = Egress { destination: next_hop, source: backend.source_mac, vlan: backend.vlan };
        return Ok(Way { egress: backend.egress, link_layer });
    }
    let route = tables.route(view.generation, backend).ok_or(Exit::NoNextHop)?;
    let link_layer = Egress { destination: route.mac, source: route.source_mac, vlan: backend.vlan };
    Ok(Way { egress: route.egress, link_layer })
}
