//! Forwarding: a packet and its backend in, a frame to the next hop out. One forwarding mode, one file.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

mod dsr;
mod ipip;

use core::{
    ptr,
    sync::atomic::{Ordering, compiler_fence},
};

use crate::{
    abi::{Backend, Exit, Mode},
    maps::{Maps, View},
    step::{Decision, Outcome},
    wire::{
        ip::Family,
        link::{Egress, Link},
        packet::{Places, after},
    },
};

/// A packet of a service, as forwarding needs it.
#[derive(Clone, Copy)]
pub struct Received<H> {
    pub link: Link,
    /// Where its network header lies.
    pub header: H,
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
pub fn forward<F: Family, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    view: View<'_>,
    received: Received<P::Place<F::Header>>,
    mode: Mode,
    backend: &Backend,
) -> Result<Outcome, Decision> {
    let Received { link, header, length, label } = received;
    let ingress = packet.ingress();
    if F::ttl(packet.at(header)) <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let NextHop { egress, link_layer } = next_hop(maps, view, mode, backend)?;
    let tunnel = |packet: &mut P, overhead: usize| {
        fits::<F>(length, ingress, Mode::Ipip, overhead, backend)?;
        let inner = ipip::Inner::of::<F>(packet.at(header), length, label);
        F::decrement_ttl(packet.at_mut(header));
        Ok::<_, Decision>(inner)
    };
    // Each with all that it needs, so that none asks again which it is.
    let (sent, [by_ingress, by_other]) = match (mode, backend.family) {
        (Mode::Ipip, 4) => {
            let inner = tunnel(packet, ipip::OuterV4::LENGTH)?;
            // Compiled apart from the first check, so that no other packet pays for this one.
            let least = F::LEAST_MTU > 0 && exceeds(backend, packet.merge_paths(length, 0xffff), ipip::OuterV4::LENGTH);
            let inner = if least { inner.in_pieces(packet, after(link.l3, size_of::<F::Header>())) } else { inner };
            let sent = ipip::OuterV4::outer(view.generation, backend, F::TUNNELLED, inner)
                .and_then(|outer| link_layer.send(packet, link, ipip::OuterV4::ETHER_TYPE, outer));
            (sent, [Exit::IpipTx, Exit::IpipRedirect])
        }
        (Mode::Ipip, 6) => {
            let inner = tunnel(packet, ipip::OuterV6::LENGTH)?;
            let sent = ipip::OuterV6::outer(view.generation, backend, F::TUNNELLED, inner)
                .and_then(|outer| link_layer.send(packet, link, ipip::OuterV6::ETHER_TYPE, outer));
            (sent, [Exit::IpipTx, Exit::IpipRedirect])
        }
        (Mode::Ipip, _) => return Err(Exit::BadTables.into()),
        (Mode::Dsr, _) => {
            fits::<F>(length, ingress, Mode::Dsr, dsr::OVERHEAD, backend)?;
            F::decrement_ttl(packet.at_mut(header));
            let sent = dsr::send::<F, P>(packet, link, &link_layer);
            (sent, [Exit::DsrTx, Exit::DsrRedirect])
        }
    };
    sent.ok_or(Exit::NoRoom)?;
    Ok(Outcome { exit: if egress == ingress { by_ingress } else { by_other }, egress })
}

/// Whether a packet of `length` bytes, which came in by `ingress`, may go to `backend` in this mode.
///
/// # Errors
/// The exit of a packet that may not go on (its TTL ends here), or that does not fit.
#[inline(always)]
pub(crate) fn admit<F: Family>(
    header: &F::Header,
    length: usize,
    ingress: u32,
    mode: Mode,
    backend: &Backend,
) -> Result<(), Decision> {
    if F::ttl(header) <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let overhead = match (mode, backend.family) {
        (Mode::Dsr, _) => dsr::OVERHEAD,
        (Mode::Ipip, 4) => ipip::OuterV4::LENGTH,
        (Mode::Ipip, 6) => ipip::OuterV6::LENGTH,
        (Mode::Ipip, _) => return Err(Exit::BadTables.into()),
    };
    fits::<F>(length, ingress, mode, overhead, backend)
}

/// Whether a packet of `length` bytes fits, with `overhead` more.
#[inline(always)]
fn fits<F: Family>(
    length: usize,
    ingress: u32,
    mode: Mode,
    overhead: usize,
    backend: &Backend,
) -> Result<(), Decision> {
    if exceeds(backend, length, overhead) && !goes_as_it_came(mode, ingress, backend) {
        too_long::<F>(length, overhead, backend)?;
    }
    Ok(())
}

/// Whether a packet of `length` bytes and `overhead` more is too long for the egress, or for the path behind it.
#[inline(always)]
fn exceeds(backend: &Backend, length: usize, overhead: usize) -> bool {
    let exceeds = |mtu: u16| mtu != 0 && length.wrapping_add(overhead) > usize::from(mtu);
    exceeds(backend.mtu) || exceeds(backend.path_mtu)
}

/// Whether a packet leaves in `dsr` by the link that it came in by: then it fits, however long it is. In generic mode the
/// kernel may have made one long packet of several (GRO), and makes several of it again where it leaves.
#[inline(always)]
fn goes_as_it_came(mode: Mode, ingress: u32, backend: &Backend) -> bool {
    matches!(mode, Mode::Dsr) && backend.own_mtu != 0 && backend.path_mtu == 0 && backend.egress == ingress
}

/// What becomes of a packet that is too long: its sender is told an MTU that fits egress and path, but none below the least of
/// its family. A sender need not go below that (RFC 8201, section 4), so a packet of the least MTU goes on where a router
/// may fragment what it is sent in, an outer IPv4 header; else it is dropped, since no answer would help.
#[inline(always)]
fn too_long<F: Family>(length: usize, overhead: usize, backend: &Backend) -> Result<(), Decision> {
    let (egress, path) = (backend.mtu, backend.path_mtu);
    let mtu = if egress == 0 || path != 0 && path < egress { path } else { egress };
    let fits = usize::from(mtu).saturating_sub(overhead).max(F::LEAST_MTU);
    if F::LEAST_MTU == 0 || length > fits {
        return Err(Decision::new(Exit::TooBig, fits as u32));
    }
    if overhead == ipip::OuterV4::LENGTH { Ok(()) } else { Err(Exit::TooBigSilent.into()) }
}

/// Where frames to a backend go next.
#[derive(Clone, Copy)]
pub struct NextHop {
    pub egress: u32,
    pub link_layer: Egress,
}

/// The next hop that the controller keeps, if it knows one and is not just changing it: a frame must not leave by a new
/// interface with the MAC address of an old neighbour.
#[inline(always)]
pub fn kept(backend: &Backend) -> Option<NextHop> {
    // SAFETY: it reads through a reference; volatile, as the controller changes it at any time.
    let version = || unsafe { ptr::read_volatile(&raw const backend.hop_version) };
    let before = version();
    // The compiler leaves the order as it stands, and x86 does, too. On a processor that does not (arm64), what is left of the
    // race is as long as it may put a load off.
    compiler_fence(Ordering::SeqCst);
    let destination = backend.next_hop;
    let link_layer = Egress { destination, source: backend.source_mac, vlan: backend.vlan };
    let egress = backend.egress;
    compiler_fence(Ordering::SeqCst);
    (destination.is_known() && version() == before).then_some(NextHop { egress, link_layer })
}

/// The next hop: the neighbour that the controller keeps, else the kernel's own route. The controller keeps none behind a router
/// for a backend in `dsr`.
#[inline(always)]
fn next_hop<M: Maps>(maps: &M, view: View<'_>, mode: Mode, backend: &Backend) -> Result<NextHop, Exit> {
    if let Some(next_hop) = kept(backend) {
        return Ok(next_hop);
    }
    let route = maps.route(view.generation, backend).ok_or(Exit::NoNextHop)?;
    if route.by_router != 0 && matches!(mode, Mode::Dsr) {
        return Err(Exit::DsrOffLink);
    }
    let link_layer = Egress { destination: route.mac, source: route.source_mac, vlan: backend.vlan };
    Ok(NextHop { egress: route.egress, link_layer })
}
