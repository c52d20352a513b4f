//! A frame behind the kernel's packet pointers: the only module that uses them.

use core::{arch::asm, ffi::c_void, hint};

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_skb_change_head, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::{TcContext, XdpContext},
};
use edge_common::wire::packet::{self, Packet, Places, Wire};

/// The context of a program that sees frames.
pub(crate) trait Context {
    /// Addresses of the frame's first byte, and of the byte after its last one.
    fn ends(&self) -> (usize, usize);
    /// Bytes of the whole frame.
    fn length(&self) -> usize;
    /// Index of the frame's ingress interface.
    fn interface(&self) -> u32;
    fn raw(&self) -> *mut c_void;
    fn grow_head(&self, bytes: i32) -> bool;
    fn grow_tail(&self, bytes: i32) -> bool;
    /// As [`Packet::sum`].
    fn sum(&self, offset: usize, length: usize) -> Option<u64>;
}

impl Context for XdpContext {
    /// Read as whole registers: the verifier takes half of a packet pointer for a number, and LLVM, which sees 32 bits
    /// in the context's type, may copy no more than these.
    #[inline(always)]
    fn ends(&self) -> (usize, usize) {
        let (start, end): (usize, usize);
        // SAFETY: reads two fields of the context, which is valid as long as the program runs.
        unsafe {
            asm!("{0} = *(u32 *)({1} + 0)", lateout(reg) start, in(reg) self.ctx, options(pure, readonly, nostack));
            asm!("{0} = *(u32 *)({1} + 4)", lateout(reg) end, in(reg) self.ctx, options(pure, readonly, nostack));
        }
        (start, end)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.data_end() - self.data()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.ctx.cast()
    }

    #[inline(always)]
    fn grow_head(&self, bytes: i32) -> bool {
        // SAFETY: the helper checks the room; no pointer into the frame outlives the call.
        unsafe { bpf_xdp_adjust_head(self.ctx, -bytes) == 0 }
    }

    #[inline(always)]
    fn grow_tail(&self, bytes: i32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_tail(self.ctx, bytes) == 0 }
    }

    #[inline(always)]
    fn sum(&self, offset: usize, length: usize) -> Option<u64> {
        let sum = packet_sum(self.ctx, offset as u32, length as u32);
        if sum == u64::MAX { None } else { Some(sum) }
    }
}

/// A frame may be in pieces, of which only the first one is visible: it has the headers of packets from sockets.
impl Context for TcContext {
    #[inline(always)]
    fn ends(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn raw(&self) -> *mut c_void {
        self.skb.skb.cast()
    }

    /// No tc program of this project shortens a frame.
    #[inline(always)]
    fn grow_head(&self, bytes: i32) -> bool {
        // SAFETY: as above.
        bytes >= 0 && unsafe { bpf_skb_change_head(self.skb.skb, bytes as u32, 0) == 0 }
    }

    #[inline(always)]
    fn grow_tail(&self, _bytes: i32) -> bool {
        false
    }

    /// No tc program of this project computes a checksum.
    #[inline(always)]
    fn sum(&self, _offset: usize, _length: usize) -> Option<u64> {
        None
    }
}

/// The sum of a part of a frame, a global function: its loop is verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn packet_sum(ctx: *mut xdp_md, offset: u32, length: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let (offset, length) = (offset as usize & packet::OFFSETS, length as usize & packet::LONGEST_SUMMED);
    packet::sum(&ContextPacket::new(&ctx), offset, length).unwrap_or(u64::MAX)
}

/// The frame of a program's context.
pub(crate) struct ContextPacket<'a, C> {
    ctx: &'a C,
}

impl<'a, C: Context> ContextPacket<'a, C> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a C) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn find<T>(&self, offset: usize) -> Option<*mut T> {
        let (start, end) = self.ctx.ends();
        at(start, offset, || end)
    }
}

/// Address of the `T` at `offset` of the frame at `data`, if it is wholly in the frame. The verifier requires the
/// comparison with the frame's end before each access.
#[inline(always)]
pub(crate) fn at<T>(data: usize, offset: usize, data_end: impl FnOnce() -> usize) -> Option<*mut T> {
    let found = data + offset;
    let start: usize;
    // SAFETY: copies a register; it hides the origin of `start`. Otherwise LLVM computes the end and the accesses
    // separately, and the verifier does not recognize the compared pointer as the accessed one.
    unsafe { asm!("{0} = {1}", lateout(reg) start, in(reg) found, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: the kernel keeps no frame at address zero.
    unsafe { hint::assert_unchecked(start != 0) };
    if start + size_of::<T>() > data_end() {
        return None;
    }
    Some(start as *mut T)
}

impl<C: Context> Packet for ContextPacket<'_, C> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.length()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ctx.interface()
    }

    #[inline(always)]
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        const { assert!(align_of::<T>() == 1) };
        let at = self.find::<T>(offset)?;
        // SAFETY: `at` lies in the frame, as just checked; `T` has no alignment, and every bit pattern is a value of a
        // `Wire` type. Methods that move the frame's ends take `&mut self`, so no reference outlives a move.
        Some(unsafe { &*at })
    }

    #[inline(always)]
    fn view_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        const { assert!(align_of::<T>() == 1) };
        let at = self.find::<T>(offset)?;
        // SAFETY: as in `view`; a `Wire` type has no padding, so that it leaves no byte undefined.
        Some(unsafe { &mut *at })
    }

    #[inline(always)]
    fn merge_paths(&self, value: usize, mask: usize) -> usize {
        hide(value as u64, self.len() as u64) as usize & mask
    }

    #[inline(always)]
    fn sum(&self, offset: usize, length: usize) -> Option<u64> {
        self.ctx.sum(offset, length)
    }

    #[inline(always)]
    fn grow_head(&mut self, bytes: i32) -> Option<()> {
        if self.ctx.grow_head(bytes) { Some(()) } else { None }
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> Option<()> {
        let more = length as i32 - self.len() as i32;
        if more > 0 {
            return None;
        }
        if self.ctx.grow_tail(more) { Some(()) } else { None }
    }
}

/// A place that was found in a frame: a pointer, which the verifier refuses after the frame's ends have moved.
pub(crate) struct Place<T>(*mut T);

impl<T> Clone for Place<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

impl<C: Context> Places for ContextPacket<'_, C> {
    type Place<T: Wire> = Place<T>;

    #[inline(always)]
    fn places<T: Wire, U: Wire>(&self, offset: usize) -> Option<(Place<T>, Place<U>)> {
        const { assert!(align_of::<T>() == 1 && align_of::<U>() == 1) };
        let both = self.find::<(T, U)>(offset)?;
        // SAFETY: both lie in the frame, as just checked.
        Some((Place(both.cast()), Place(unsafe { both.byte_add(size_of::<T>()) }.cast())))
    }

    #[inline(always)]
    fn at<T: Wire>(&self, Place(place): Place<T>) -> &T {
        // SAFETY: as in `view`, at a place that was found; the verifier checks that it still is one.
        unsafe { &*place }
    }

    #[inline(always)]
    fn at_mut<T: Wire>(&mut self, Place(place): Place<T>) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *place }
    }

    #[inline(always)]
    fn start<T: Wire, U: Wire>(Place(place): Place<T>) -> Place<U> {
        const { assert!(size_of::<U>() <= size_of::<T>()) };
        Place(place.cast())
    }

    #[inline(always)]
    fn has_from<T: Wire>(&self, Place(place): Place<T>, bytes: usize) -> bool {
        // A difference: older verifiers have no bound for a byte-swapped length, and refuse to add it to a pointer.
        self.ctx.ends().1 - place as usize >= bytes
    }
}

/// `value`, hidden from the verifier by an operand without bounds.
#[inline(always)]
pub(crate) fn hide(value: u64, unknown: u64) -> u64 {
    let mut hidden = value;
    // SAFETY: the same bits are turned over twice; only the verifier loses the bounds of the value.
    unsafe {
        asm!(
            "{0} ^= {1}",
            "{0} ^= {1}",
            inout(reg) hidden,
            in(reg) unknown,
            options(pure, nomem, nostack, preserves_flags)
        );
    };
    hidden
}
