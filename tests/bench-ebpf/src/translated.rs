//! Baselines of translation: as many random reads of arrays as translation makes; and a program that does the same work
//! with two hash maps of the kernel, one per direction, and without any lookup of a service, slot or backend.

use core::ptr;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::bpf_ktime_get_coarse_ns,
    macros::{map, xdp},
    maps::{HashMap, PerCpuArray},
    programs::XdpContext,
};
use edge_bench_ebpf::{HashedFlow, HashedPath, VIP};

use super::{
    programs::BENCH_PLAN,
    tables::{TABLE_ENTRIES, TABLE_INDEX},
};

#[map]
static HASHED_FORTH: HashMap<HashedFlow, HashedPath> = HashMap::with_max_entries(1, 0);
#[map]
static HASHED_BACK: HashMap<HashedFlow, HashedPath> = HashMap::with_max_entries(1, 0);
#[map]
static HASHED_COUNT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Total length of Ethernet, IPv4 and TCP headers without options.
const HEADERS: usize = 14 + 20 + 20;

/// Makes the reads of a translated flow's packet: at positions that depend on the flow, the second one after the first.
#[xdp]
fn bench_reads(ctx: XdpContext) -> u32 {
    if reads(&ctx).unwrap_or(false) { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

#[inline(always)]
fn reads(ctx: &XdpContext) -> Option<bool> {
    let plan = BENCH_PLAN.get(0)?;
    let (address, ports) = (load(ctx, plan.address_at)?, load(ctx, plan.ports_at)?);
    let mixed = (u64::from(address) << 32 | u64::from(ports)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut slot = 0;
    if plan.reads == 2 {
        let slots = TABLE_INDEX.get_ptr((mixed >> 40) as u32 & plan.entry_mask / 8)?;
        // SAFETY: the pointer is valid.
        slot = unsafe { ptr::read_volatile(slots.cast::<u32>()) };
    }
    let entry = TABLE_ENTRIES.get_ptr((mixed >> 16) as u32 & plan.entry_mask ^ slot & 1)?;
    // SAFETY: as above.
    let life = unsafe { ptr::read_volatile(entry.cast::<u64>()) };
    Some(life != u64::MAX)
}

#[inline(always)]
fn load(ctx: &XdpContext, offset: u32) -> Option<u32> {
    let at = ctx.data() + (offset & 0xff) as usize;
    if at + size_of::<u32>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes are in the frame, as just checked.
    Some(unsafe { ptr::read_unaligned(at as *const u32) })
}

/// Translates by hash maps.
#[xdp]
fn bench_hashed(ctx: XdpContext) -> u32 {
    match translated(&ctx) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn translated(ctx: &XdpContext) -> Option<()> {
    let start = ctx.data();
    if start + HEADERS > ctx.data_end() {
        return None;
    }
    // SAFETY: all offsets below are within the headers, which are in the frame.
    let read = |offset: usize| unsafe { ptr::read_unaligned((start + offset) as *const u32) };
    // SAFETY: as above.
    let half = |offset: usize| unsafe { ptr::read_unaligned((start + offset) as *const u16) };
    // Ethernet's type, version and length, fragments, protocol and TTL.
    let (lives, protocol) = (half(22) & 0xff, half(22) >> 8);
    if half(12) != 8 || half(14) & 0xff != 0x45 || half(20) & 0xff3f != 0 || protocol != 6 || lives <= 1 {
        return None;
    }
    let key = HashedFlow { source: read(26), destination: read(30), ports: read(34), protocol: u32::from(protocol) };
    let path = if key.destination == VIP { HASHED_FORTH.get_ptr_mut(&key)? } else { HASHED_BACK.get_ptr_mut(&key)? };
    // SAFETY: the helper takes nothing and reads a clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: the pointer is valid; concurrent writers store the same value.
    let path = unsafe {
        if (*path).seen_ns >> 28 != now >> 28 {
            ptr::write_volatile(&raw mut (*path).seen_ns, now);
        }
        // A new flag would be written as well.
        if half(46) >> 8 & 5 != 0 {
            ptr::write_volatile(&raw mut (*path).flags, u32::from(half(46)));
        }
        &*path
    };
    let [network, transport] = path.changes;
    // SAFETY: as above.
    unsafe {
        let write = |offset: usize, value: u32| ptr::write_unaligned((start + offset) as *mut u32, value);
        let write_half = |offset: usize, value: u16| ptr::write_unaligned((start + offset) as *mut u16, value);
        write_half(22, half(22) - 1);
        write_half(24, folded(half(24), u32::from(network) + 1));
        write_half(50, folded(half(50), transport.into()));
        write(26, path.source);
        write(30, path.destination);
        write(34, path.ports);
        write(0, path.addresses[0]);
        write(4, path.addresses[1]);
        write(8, path.addresses[2]);
    }
    let count = HASHED_COUNT.get_ptr_mut(0)?;
    // SAFETY: the counter belongs to this CPU.
    unsafe { *count += 1 };
    Some(())
}

/// Updates a checksum by a change.
#[inline(always)]
fn folded(checksum: u16, change: u32) -> u16 {
    let sum = u32::from(checksum) + change;
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}
