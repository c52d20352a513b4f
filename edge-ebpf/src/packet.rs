//! A frame behind the kernel's packet pointers: the only place that touches them.

use core::{arch::asm, hint};

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use edge_common::wire::packet::{Packet, Wire};

/// The frame of an XDP program's context.
pub(crate) struct ContextPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> ContextPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        at(self.ctx.data(), offset, || self.ctx.data_end())
    }
}

/// Address of the `T` at `offset` of the frame at `data`, if it is wholly in the frame. The comparison with the frame's end is
/// what the verifier wants to see before each access.
#[inline(always)]
pub(crate) fn at<T>(data: usize, offset: usize, data_end: impl FnOnce() -> usize) -> Option<*mut T> {
    let mut start = data + offset;
    // SAFETY: moves a register to itself; it hides where `start` comes from. Otherwise LLVM computes the end and the accesses each
    // in its own way, and the verifier does not see that the one that was compared is the one that is used.
    unsafe { asm!("{0} = {0}", inout(reg) start, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: the kernel keeps no frame at address zero.
    unsafe { hint::assert_unchecked(start != 0) };
    if start + size_of::<T>() > data_end() {
        return None;
    }
    Some(start as *mut T)
}

impl Packet for ContextPacket<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.data_end() - self.ctx.data()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        const { assert!(align_of::<T>() == 1) };
        let at = self.at::<T>(offset)?;
        // SAFETY: `at` lies in the frame, as just checked; `T` has no alignment, and every bit pattern is a value of a
        // `Wire` type. What moves the frame's ends takes `&mut self`, so no reference outlives it.
        Some(unsafe { &*at })
    }

    #[inline(always)]
    fn view_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        const { assert!(align_of::<T>() == 1) };
        let at = self.at::<T>(offset)?;
        // SAFETY: as in `view`; a `Wire` type has no padding, so that it leaves no byte undefined.
        Some(unsafe { &mut *at })
    }

    #[inline(always)]
    fn merge_paths(&self, value: usize, mask: usize) -> usize {
        hide(value as u64, self.len() as u64) as usize & mask
    }

    #[inline(always)]
    fn grow_head(&mut self, bytes: i32) -> Option<()> {
        // SAFETY: the helper checks the room; no pointer into the frame outlives the call.
        let failed = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -bytes) };
        if failed == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> Option<()> {
        let more = length as i32 - self.len() as i32;
        if more > 0 {
            return None;
        }
        // SAFETY: as above.
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, more) };
        if failed == 0 { Some(()) } else { None }
    }
}

/// `value`, hidden from the verifier behind something that it does not know.
#[inline(always)]
pub(crate) fn hide(value: u64, unknown: u64) -> u64 {
    let mut hidden = value;
    // SAFETY: the same bits are turned over twice; only the verifier loses sight of the value.
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
