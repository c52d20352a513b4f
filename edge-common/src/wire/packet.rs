//! Access of the packet path to the bytes of a frame.

use core::ptr;

use network_types::{
    eth::EthHdr,
    icmp::{Icmpv4Hdr, Icmpv6Hdr},
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
    vlan::VlanHdr,
};

/// A type that can be copied out of a frame and into it, byte by byte.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and every bit pattern is a value of it.
pub unsafe trait Wire: Copy {}

// SAFETY: all of them are `repr(C)` structs of bytes and `u16`s whose sizes (asserted below) leave no room for padding.
unsafe impl Wire for EthHdr {}
// SAFETY: as above.
unsafe impl Wire for VlanHdr {}
// SAFETY: as above.
unsafe impl Wire for Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for Ipv6Hdr {}
// SAFETY: as above.
unsafe impl Wire for TcpHdr {}
// SAFETY: as above.
unsafe impl Wire for UdpHdr {}
// SAFETY: as above.
unsafe impl Wire for Icmpv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for Icmpv6Hdr {}
// SAFETY: bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}

const _: () = {
    assert!(size_of::<EthHdr>() == 14);
    assert!(size_of::<VlanHdr>() == 4);
    assert!(size_of::<Ipv4Hdr>() == 20);
    assert!(size_of::<Ipv6Hdr>() == 40);
    assert!(size_of::<TcpHdr>() == 20);
    assert!(size_of::<UdpHdr>() == 8);
    assert!(size_of::<Icmpv4Hdr>() == 8);
    assert!(size_of::<Icmpv6Hdr>() == 8);
};

/// The first bytes of a header, read as another type.
#[inline(always)]
pub const fn read_as<T: Wire, U: Wire>(header: &T) -> &U {
    const { assert!(size_of::<U>() <= size_of::<T>() && align_of::<U>() == 1) };
    // SAFETY: it lies in the header, has no alignment, and every bit pattern is a value of it.
    unsafe { &*ptr::from_ref(header).cast() }
}

/// Like [`read_as`], for writing in place.
#[inline(always)]
pub const fn change_as<T: Wire, U: Wire>(header: &mut T) -> &mut U {
    const { assert!(size_of::<U>() <= size_of::<T>() && align_of::<U>() == 1) };
    // SAFETY: as above; a `Wire` type has no padding, so that it leaves no byte undefined.
    unsafe { &mut *ptr::from_mut(header).cast() }
}

/// Bits that the offset of a transport header can have behind all headers that are looked through: a bound for the
/// verifier, by [`Packet::merge_paths`].
pub const OFFSETS: usize = 0x3fff;

/// One frame. Offsets count bytes from its start, the Ethernet header.
pub trait Packet {
    /// Length of the frame, bytes.
    fn len(&self) -> usize;

    /// Index of the interface that received the frame.
    fn ingress(&self) -> u32;

    /// The `T` at `offset`, in place; `None` if it is not wholly in the frame. `T` has no alignment.
    ///
    /// Headers are read in place and not copied: a copy would be on the eBPF stack, where the verifier requires an
    /// alignment that headers do not have.
    fn view<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// Like [`Self::view`], for writing in place.
    fn view_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T>;

    /// A copy of the few bytes at `offset`; `None` if they are not wholly in the frame.
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.view::<[u8; N]>(offset).copied()
    }

    /// Writes `value` at `offset`; `None`, and no change, if that is not wholly in the frame.
    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        *self.view_mut(offset)? = value;
        Some(())
    }

    /// Adds `bytes` of undefined content before the frame, or removes as many if negative. `None`, and no change, if
    /// there is no room.
    fn grow_head(&mut self, bytes: i32) -> Option<()>;

    /// Cuts the frame off after `length` bytes. `None`, and no change, if it is shorter or can't be cut.
    fn truncate(&mut self, length: usize) -> Option<()>;

    /// Returns `value`, of which only bits in `mask` may be set. The eBPF program hides the value from the verifier, so
    /// that paths that differ only in it (a frame with no VLAN tag, one or two) are verified once instead of separately.
    #[inline(always)]
    fn merge_paths(&self, value: usize, mask: usize) -> usize {
        value & mask
    }

    /// Sum of the `length` bytes at `offset`, at most [`LONGEST_SUMMED`], as the function [`sum`] computes it; `None` if
    /// they are not wholly in the frame. The eBPF program has it verified once instead of for each path that leads to it.
    #[inline(always)]
    fn sum(&self, offset: usize, length: usize) -> Option<u64>
    where
        Self: Sized,
    {
        sum(self, offset, length)
    }

    /// Whether the frame is empty; no driver delivers such a one.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Maximum length in bytes of the part of a frame that is summed. Also the mask of such lengths, since all its bits are set.
pub const LONGEST_SUMMED: usize = 0x7ff;

/// Implementation of [`Packet::sum`]: adds four bytes at a time as they are in memory, and an odd last byte as if a zero
/// byte followed.
#[inline(always)]
pub fn sum<P: Packet>(packet: &P, offset: usize, length: usize) -> Option<u64> {
    let mut sum = 0_u64;
    // The end comes first, so that its four cases are merged before the loop, each round of which the verifier follows.
    if length & 2 != 0 {
        let word = u16::from_ne_bytes(packet.load(after(offset, length & !3))?);
        sum = sum.wrapping_add(u64::from(word));
    }
    if length & 1 != 0 {
        let [last] = packet.load(after(offset, length & !1))?;
        sum = sum.wrapping_add(u64::from(u16::from_ne_bytes([last, 0])));
    }
    let length = packet.merge_paths(length & !3, LONGEST_SUMMED);
    for at in (0..LONGEST_SUMMED & !3).step_by(4) {
        if at >= length {
            break;
        }
        let word = u32::from_ne_bytes(packet.load(after(offset, at))?);
        sum = sum.wrapping_add(u64::from(word));
    }
    Some(sum)
}

/// A frame in which the place of a header is checked once, and then read and written.
pub trait Places: Packet {
    /// The place of a `T` that is wholly in the frame. It is valid until the frame's ends move: the verifier rejects a
    /// program that uses it later.
    type Place<T: Wire>: Copy;

    /// The place of a `T` at `offset`, and of a `U` directly behind it; `None` if they are not both wholly in the frame.
    fn places<T: Wire, U: Wire>(&self, offset: usize) -> Option<(Self::Place<T>, Self::Place<U>)>;

    /// The place of a `T` at `offset`.
    #[inline(always)]
    fn place<T: Wire>(&self, offset: usize) -> Option<Self::Place<T>> {
        self.places::<T, [u8; 0]>(offset).map(|(place, _)| place)
    }

    fn at<T: Wire>(&self, place: Self::Place<T>) -> &T;

    fn at_mut<T: Wire>(&mut self, place: Self::Place<T>) -> &mut T;

    /// The place of a `U` at the start of a `T`.
    fn start<T: Wire, U: Wire>(place: Self::Place<T>) -> Self::Place<U>;

    /// Whether the frame has `bytes` bytes from `place` on.
    fn has_from<T: Wire>(&self, place: Self::Place<T>, bytes: usize) -> bool;
}

/// The offset behind `bytes` bytes at `offset`.
///
/// No packet's lengths are so large that the sum wraps, which tests assert. Should it wrap, nothing outside the frame is
/// accessed: [`Packet`] checks each access, whatever its offset.
#[inline(always)]
pub const fn after(offset: usize, bytes: usize) -> usize {
    let (sum, wraps) = offset.overflowing_add(bytes);
    debug_assert!(!wraps, "an offset that no frame has");
    sum
}
