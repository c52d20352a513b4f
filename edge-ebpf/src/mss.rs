//! The program that lowers the maximum segment size of SYN-ACKs, and its maps.
//!
//! It writes by the kernel's helpers, not in place: for a program that writes in place, the kernel copies every packet
//! that has another holder as well, such as a segment that TCP may have to retransmit.

use aya_ebpf::{
    macros::{classifier, map},
    maps::{Array, PerCpuArray},
    programs::TcContext,
};
use edge_common::{
    abi::{MssExit, MssLimits},
    decap::{
        Words,
        mss::{self, Answers, Egress},
    },
    wire::packet::{Packet, Wire},
};

use crate::{
    NEXT, decap,
    packet::{at, hide},
};

#[map]
static MSS_LIMITS: Array<MssLimits> = Array::with_max_entries(1, 0);
#[map]
static MSS_EXITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MssExit::COUNT, 0);

struct KernelAnswers;

impl Answers for KernelAnswers {
    #[inline(always)]
    fn is_vip(&self, address: Words) -> bool {
        decap::is_vip(address)
    }

    #[inline(always)]
    fn limits(&self) -> MssLimits {
        MSS_LIMITS.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn count_mss(&self, exit: MssExit) {
        if let Some(count) = MSS_EXITS.get_ptr_mut(exit as u32) {
            // SAFETY: this CPU's own counter; a program that interrupts us here may lose a count.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }
}

/// An egress packet whose headers are contiguous.
struct Skb<'a> {
    ctx: &'a TcContext,
}

impl Packet for Skb<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.len() as usize
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        const { assert!(align_of::<T>() == 1) };
        let at = at::<T>(self.ctx.data(), offset, || self.ctx.data_end())?;
        // SAFETY: `at` lies in the frame, as just checked; `T` has no alignment, and every bit pattern is a value of a
        // `Wire` type. Methods that change the frame take `&mut self`, so no reference outlives a change.
        Some(unsafe { &*at })
    }

    /// Always `None`: packets are not changed in place.
    #[inline(always)]
    fn view_mut<T: Wire>(&mut self, _offset: usize) -> Option<&mut T> {
        None
    }

    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        self.ctx.store(offset, &value, 0).ok()
    }

    #[inline(always)]
    fn grow_head(&mut self, _bytes: i32) -> Option<()> {
        None
    }

    #[inline(always)]
    fn truncate(&mut self, _length: usize) -> Option<()> {
        None
    }

    #[inline(always)]
    fn merge_paths(&self, value: usize, mask: usize) -> usize {
        hide(value as u64, u64::from(self.ctx.len())) as usize & mask
    }
}

impl Egress for Skb<'_> {
    #[inline(always)]
    fn update_checksum(&mut self, at: usize, was: [u8; 2], now: [u8; 2]) -> Option<()> {
        let [was, now] = [was, now].map(|word| u64::from(u16::from_ne_bytes(word)));
        self.ctx.l4_csum_replace(at, was, now, size_of::<u16>() as u64).ok()
    }
}

/// Lowers the maximum segment size of SYN-ACKs on a tunnel's backend.
#[classifier]
fn mss(ctx: TcContext) -> i32 {
    let exit = mss::lower(&mut Skb { ctx: &ctx }, &KernelAnswers);
    #[cfg(feature = "trace")]
    if let Some(exit) = exit {
        aya_log_ebpf::info!(&ctx, "mss exit {}", exit.name());
    }
    #[cfg(not(feature = "trace"))]
    let _ = exit;
    NEXT
}
