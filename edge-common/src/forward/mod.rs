//! Forwarding: makes a frame to the next hop from a packet and its backend. Each forwarding mode has a file.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

mod dsr;
mod gue;
mod ipip;
mod spread;

pub use self::spread::{Spread, send as send_spread};

use core::{
    ptr,
    sync::atomic::{Ordering, compiler_fence},
};

use crate::{
    abi::{Backend, Exit, Generation, Mac, Mode, ServiceRef},
    maps::{Maps, View},
    step::{Decision, Outcome},
    wire::{
        ethernet,
        ip::Family,
        link::{Link, make_room},
        packet::{Places, after},
    },
};

/// Bytes that a tunnel adds to a packet, with an outer header of IPv4 or else IPv6; in GUE of this variant, if in any.
pub const fn tunnel_overhead(is_v4: bool, gue_variant: Option<u16>) -> u16 {
    let outer = if is_v4 { ipip::OuterV4::LENGTH } else { ipip::OuterV6::LENGTH };
    let between = match gue_variant {
        Some(variant) => gue::overhead(variant),
        None => 0,
    };
    after(outer, between) as u16
}

/// A packet of a service, as forwarding needs it.
#[derive(Clone, Copy)]
pub struct Received<H> {
    pub link: Link,
    /// Place of the network header.
    pub header: H,
    /// Bytes of the IP packet.
    pub length: usize,
    /// Twenty bits that identify the flow in an outer header.
    pub label: u32,
}

/// Sends the packet to `backend`, as a router (`dsr`) or as a tunnel's entry (`ipip`; by `spread` in the modes that
/// [`Spread`] is for).
///
/// # Errors
/// The exit of a packet that can't be sent there.
#[inline(always)]
pub fn forward<F: Family, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    view: View<'_>,
    received: Received<P::Place<F::Header>>,
    service_ref: ServiceRef,
    backend: &Backend,
    spread: impl FnOnce(&mut P, Spread) -> Result<u32, Decision>,
) -> Result<Outcome, Decision> {
    let Received { link, header, length, label } = received;
    if F::ttl(packet.at(header)) <= 1 {
        return Err(Exit::TtlExceeded.into());
    }
    let look = HopLook::at(backend);
    let ingress = packet.ingress();
    let tunnel = |packet: &mut P, overhead: usize, longest: usize| {
        passes::<F>(packet.at(header), length, ingress, Mode::Ipip, overhead, backend)?;
        // A packet this long fits no known MTU, and was refused above.
        if backend.mtu == 0 && length > longest {
            return Err(Exit::NoRoom.into());
        }
        let inner = ipip::Inner::of::<F>(packet.at(header), length, label);
        F::decrement_ttl(packet.at_mut(header));
        Ok::<_, Decision>(inner)
    };
    // Each arm does all that its mode needs, so that the mode is compared only once. From here on the packet is
    // changed, and is sent or dropped.
    let mode = service_ref.untranslated_mode();
    let (addresses, [by_ingress, by_other]) = match (mode, backend.family) {
        (Mode::Ipip, 4) => {
            let inner = tunnel(packet, ipip::OuterV4::LENGTH, ipip::OuterV4::LONGEST)?;
            // Compiled apart from the first check of the length, so that no other packet pays for this one.
            let least = F::LEAST_MTU > 0 && exceeds(backend, packet.merge_paths(length, 0xffff), ipip::OuterV4::LENGTH);
            let inner = if least { inner.in_pieces(packet, after(link.l3, size_of::<F::Header>())) } else { inner };
            // Read after the call of the helper that makes room, so that the value is not kept over the call.
            let source = || u32::from_ne_bytes(view.generation.tunnel_source_v4);
            let outer = || ipip::OuterV4::new(source(), backend, F::TUNNELLED, inner);
            let addresses = make_room(packet, link, look.vlan, ipip::OuterV4::ETHER_TYPE, outer);
            (addresses, [Exit::IpipTx, Exit::IpipRedirect])
        }
        (Mode::Ipip, 6) => {
            let inner = tunnel(packet, ipip::OuterV6::LENGTH, ipip::OuterV6::LONGEST)?;
            // An array of sixteen bytes would be copied byte by byte.
            let source = u128::from_ne_bytes(view.generation.tunnel_source_v6);
            let outer = || ipip::OuterV6::new(source, backend, F::TUNNELLED, inner);
            let addresses = make_room(packet, link, look.vlan, ipip::OuterV6::ETHER_TYPE, outer);
            (addresses, [Exit::IpipTx, Exit::IpipRedirect])
        }
        (Mode::Ipip | Mode::Nat, _) => return Err(Exit::BadTables.into()),
        (Mode::IpipRange | Mode::Gue, _) => {
            let (v6, in_udp) = (F::ETHER_TYPE == ethernet::IPV6, matches!(mode, Mode::Gue));
            let egress = spread(packet, Spread { l3: link.l3, v6, label, in_udp })?;
            let [by_ingress, by_other] =
                if in_udp { [Exit::GueTx, Exit::GueRedirect] } else { [Exit::IpipTx, Exit::IpipRedirect] };
            return Ok(Outcome { exit: if egress == packet.ingress() { by_ingress } else { by_other }, egress });
        }
        (Mode::Dsr, _) => {
            passes::<F>(packet.at(header), length, ingress, Mode::Dsr, dsr::OVERHEAD, backend)?;
            F::decrement_ttl(packet.at_mut(header));
            let addresses = dsr::send::<F, P>(packet, link, look.vlan);
            (addresses, [Exit::DsrTx, Exit::DsrRedirect])
        }
    };
    let addresses = addresses.ok_or(Exit::NoRoom)?;
    let NextHop { egress, mac, source_mac } = next_hop(maps, view, mode, look)?;
    packet.at_mut(addresses).set(mac, source_mac);
    Ok(Outcome { exit: if egress == packet.ingress() { by_ingress } else { by_other }, egress })
}

/// Whether a packet of `length` bytes from the interface `ingress` may go to `backend` in this mode.
///
/// # Errors
/// The exit of a packet whose TTL ends here, or that does not fit.
#[inline(always)]
pub(crate) fn admit<F: Family>(
    header: &F::Header,
    length: usize,
    ingress: u32,
    generation: &Generation,
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
        (Mode::Gue, _) => spread::overhead(generation, backend, true).ok_or(Exit::BadTables)?,
        (Mode::IpipRange, _) => spread::overhead(generation, backend, false).ok_or(Exit::BadTables)?,
        (Mode::Ipip | Mode::Nat, _) => return Err(Exit::BadTables.into()),
    };
    passes::<F>(header, length, ingress, mode, overhead, backend)
}

/// Whether a packet of `length` bytes plus `overhead` fits, or may be fragmented behind the egress.
#[inline(always)]
fn passes<F: Family>(
    header: &F::Header,
    length: usize,
    ingress: u32,
    mode: Mode,
    overhead: usize,
    backend: &Backend,
) -> Result<(), Decision> {
    fits::<F>(length, ingress, mode, overhead, backend, || F::dont_fragment(header))
}

/// Whether a packet of `length` bytes plus `overhead` fits. If it does not, and `dont_fragment` does not hold, routers
/// behind the egress may fragment it.
#[inline(always)]
pub(crate) fn fits<F: Family>(
    length: usize,
    ingress: u32,
    mode: Mode,
    overhead: usize,
    backend: &Backend,
    dont_fragment: impl FnOnce() -> bool,
) -> Result<(), Decision> {
    if exceeds(backend, length, overhead) && !goes_as_it_came(mode, ingress, backend) {
        too_long::<F>(length, overhead, backend, dont_fragment)?;
    }
    Ok(())
}

/// Whether a packet of `length` bytes plus `overhead` is too long for the egress, or for the path behind it.
#[inline(always)]
pub(crate) fn exceeds(backend: &Backend, length: usize, overhead: usize) -> bool {
    exceeds_mtu(backend.mtu, length, overhead) || exceeds_mtu(backend.path_mtu, length, overhead)
}

/// Whether a packet of `length` bytes plus `overhead` is longer than an MTU; never for an MTU of 0, which is unknown.
#[inline(always)]
fn exceeds_mtu(mtu: u16, length: usize, overhead: usize) -> bool {
    mtu != 0 && length.wrapping_add(overhead) > usize::from(mtu)
}

/// Whether a packet in `dsr` or `nat` leaves by its ingress interface, and so fits, however long it is. In generic mode
/// the kernel may have joined several packets into a long one (GRO), and splits it again at the egress.
#[inline(always)]
fn goes_as_it_came(mode: Mode, ingress: u32, backend: &Backend) -> bool {
    matches!(mode, Mode::Dsr | Mode::Nat) && backend.own_mtu != 0 && backend.path_mtu == 0 && backend.egress == ingress
}

/// Decides on a packet that is too long. Its sender receives an MTU that fits egress and path, but none below the
/// minimum of its family: a sender need not go below that (RFC 8201, section 4). So a packet of the minimum MTU is
/// forwarded if routers may fragment the outer packet, which is the case for IPv4; else it is dropped, since no answer
/// would help.
#[inline(always)]
fn too_long<F: Family>(
    length: usize,
    overhead: usize,
    backend: &Backend,
    dont_fragment: impl FnOnce() -> bool,
) -> Result<(), Decision> {
    let is_in_ipv4 = overhead != dsr::OVERHEAD && backend.family == 4;
    let goes_as_ipv4 = F::LEAST_MTU == 0 && (is_in_ipv4 || overhead == dsr::OVERHEAD);
    // The outer header has no DF either, so routers fragment the packet where the path is narrow. No program can
    // fragment a packet at the egress.
    if goes_as_ipv4 && !exceeds_mtu(backend.mtu, length, overhead) && !dont_fragment() {
        return Ok(());
    }
    let (egress, path) = (backend.mtu, backend.path_mtu);
    let mtu = if egress == 0 || path != 0 && path < egress { path } else { egress };
    let fits = usize::from(mtu).saturating_sub(overhead).max(F::LEAST_MTU);
    if F::LEAST_MTU == 0 || length > fits {
        return Err(Decision::new(Exit::TooBig, fits as u32));
    }
    if is_in_ipv4 { Ok(()) } else { Err(Exit::TooBigSilent.into()) }
}

/// The next hop of frames to a backend.
#[derive(Clone, Copy)]
pub struct NextHop {
    pub egress: u32,
    pub mac: Mac,
    pub source_mac: Mac,
}

/// A consistent read of a backend's next hop: the values that are read between its start and its end belong together,
/// or are not used. A frame must not leave by a new interface with the MAC address of an old neighbour.
#[derive(Clone, Copy)]
pub struct HopLook<'a> {
    backend: &'a Backend,
    version: u8,
    /// VLAN identifier, host order; 0: untagged.
    pub vlan: u16,
}

impl<'a> HopLook<'a> {
    #[inline(always)]
    pub fn at(backend: &'a Backend) -> Self {
        let version = version(backend);
        Self { backend, version, vlan: backend.vlan }
    }

    /// Ends the read: the next hop that the controller stores, if there is one and the controller is not just changing
    /// it.
    #[inline(always)]
    pub fn kept(self) -> Option<NextHop> {
        let &Backend { next_hop: mac, egress, source_mac, .. } = self.backend;
        let same = version(self.backend) == self.version;
        (mac.is_known() && same).then_some(NextHop { egress, mac, source_mac })
    }
}

/// Reads [`Backend::hop_version`], after all earlier reads and before all later ones.
#[inline(always)]
fn version(backend: &Backend) -> u8 {
    // The fences keep the compiler from changing the order, and x86 keeps it, too. On a processor that does not
    // (arm64), the rest of the race lasts as long as the processor may delay a load.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: reads through a reference; volatile, as the controller may change the value at any time.
    let version = unsafe { ptr::read_volatile(&raw const backend.hop_version) };
    compiler_fence(Ordering::SeqCst);
    version
}

/// The next hop: the neighbour that the controller stores, else the kernel's own route. The controller stores no next
/// hop behind a router for a backend in `dsr`.
#[inline(always)]
pub(crate) fn next_hop<M: Maps>(maps: &M, view: View<'_>, mode: Mode, look: HopLook<'_>) -> Result<NextHop, Exit> {
    if let Some(next_hop) = look.kept() {
        return Ok(next_hop);
    }
    // The frame may already have the tag of the backend's VLAN, and the kernel's route may use another link, since the
    // backend may be moving. If the version is unchanged, the VLAN is the one that was read.
    if look.backend.vlan != 0 || version(look.backend) != look.version {
        return Err(Exit::NoNextHop);
    }
    let route = maps.route(view.generation, look.backend).ok_or(Exit::NoNextHop)?;
    if route.by_router != 0 && matches!(mode, Mode::Dsr) {
        return Err(Exit::DsrOffLink);
    }
    Ok(NextHop { egress: route.egress, mac: route.mac, source_mac: route.source_mac })
}
