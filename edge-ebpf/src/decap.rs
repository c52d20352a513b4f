//! The decapsulation program, and its maps.

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::XdpContext,
};
use edge_common::{
    abi::{DecapExit, Verdict, VipPrefix},
    decap::{self, Addresses, Words},
};

use crate::packet::ContextPacket;

/// Entries of each map in the object, which user space loads with room for more.
const ENTRIES: u32 = 256;

/// An address as a map's key, aligned as the verifier wants what lies on the stack.
#[repr(C, align(8))]
struct Address(Words);

/// The same in a trie, where the number of bits stands before it.
#[repr(C, align(8))]
struct Vip(Key<Padded>);

/// With [`VipPrefix::PADDING`] before it.
type Padded = [u32; 5];

#[map]
static DECAP_ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(ENTRIES, 0);
#[map]
static DECAP_VIPS: LpmTrie<Padded, u32> = LpmTrie::with_max_entries(ENTRIES, 0);
#[map]
static DECAP_EXITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DecapExit::COUNT, 0);

/// Whether it is one of the VIPs of this backend.
#[inline(always)]
pub(crate) fn is_vip([a, b, c, d]: Words) -> bool {
    let Vip(key) = &Vip(Key::new(VipPrefix::BITS, [0, a, b, c, d]));
    DECAP_VIPS.get(key).is_some()
}

struct KernelAddresses;

impl Addresses for KernelAddresses {
    #[inline(always)]
    fn roles(&self, address: Words) -> u32 {
        // SAFETY: the value is copied at once; nobody changes it while the program is attached.
        unsafe { DECAP_ADDRESSES.get(Address(address)) }.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn is_vip(&self, address: Words) -> bool {
        is_vip(address)
    }

    #[inline(always)]
    fn count_exit(&self, exit: DecapExit) {
        if let Some(count) = DECAP_EXITS.get_ptr_mut(exit as u32) {
            // SAFETY: this CPU's own counter, which no other program on it can interrupt us to change.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }
}

/// Decapsulation on a tunnel's backend.
#[xdp]
fn decap(ctx: XdpContext) -> u32 {
    let exit = decap::process(&mut ContextPacket::new(&ctx), &KernelAddresses);
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(&ctx, "decap exit {}", exit.name());
    match exit.verdict() {
        Verdict::Pass | Verdict::Tx | Verdict::Redirect => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}
