//! The decapsulation program, and its maps.

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    macros::{map, xdp},
    maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::XdpContext,
};
use edge_common::{
    abi::{AddressPrefix, DecapExit, DecapSettings, Verdict},
    decap::{self, Addresses, Tunnel, Words},
    wire::{link::Link, packet::Packet},
};

use crate::packet::ContextPacket;

/// Entries of each map in the object; user space loads the maps with room for more.
const ENTRIES: u32 = 256;

/// An address as a key, with the alignment that the verifier requires on the stack.
#[repr(C, align(8))]
struct Address(Words);

/// An address as a key of a trie, after its number of bits.
#[repr(C, align(8))]
struct InTrie(Key<Padded>);

/// An address after [`AddressPrefix::PADDING`].
type Padded = [u32; 5];

#[map]
static DECAP_ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(ENTRIES, 0);
#[map]
static DECAP_VIPS: LpmTrie<Padded, u32> = LpmTrie::with_max_entries(ENTRIES, 0);
#[map]
static DECAP_EDGES: LpmTrie<Padded, u32> = LpmTrie::with_max_entries(ENTRIES, 0);
#[map]
static DECAP_SETTINGS: Array<DecapSettings> = Array::with_max_entries(1, 0);
#[map]
static DECAP_EXITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DecapExit::COUNT, 0);

/// Whether `address` is a VIP of this backend.
#[inline(always)]
pub(crate) fn is_vip(address: Words) -> bool {
    is_in(&DECAP_VIPS, address)
}

#[inline(always)]
fn is_in(trie: &LpmTrie<Padded, u32>, [a, b, c, d]: Words) -> bool {
    let InTrie(key) = &InTrie(Key::new(AddressPrefix::BITS, [0, a, b, c, d]));
    trie.get(key).is_some()
}

#[inline(always)]
fn settings() -> DecapSettings {
    DECAP_SETTINGS.get(0).copied().unwrap_or_default()
}

struct KernelAddresses(*mut xdp_md);

impl Addresses for KernelAddresses {
    #[inline(always)]
    fn roles(&self, address: Words) -> u32 {
        // SAFETY: the value is copied at once; it is not changed while the program is attached.
        unsafe { DECAP_ADDRESSES.get(Address(address)) }.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn is_vip(&self, address: Words) -> bool {
        is_vip(address)
    }

    #[inline(always)]
    fn is_in_edges(&self, address: Words) -> bool {
        settings().edge_prefixes != 0 && is_in(&DECAP_EDGES, address)
    }

    #[inline(always)]
    fn open<P: Packet>(&self, _packet: &mut P, link: Link, tunnel: Tunnel) -> DecapExit {
        DecapExit::from_raw(decap_open(self.0, link.l3 as u32, link.ether_type.into(), tunnel.word()))
    }

    #[inline(always)]
    fn gue_port(&self) -> [u8; 2] {
        settings().gue_port
    }

    #[inline(always)]
    fn count_exit(&self, exit: DecapExit) {
        if let Some(count) = DECAP_EXITS.get_ptr_mut(exit as u32) {
            // SAFETY: this CPU's own counter; no other program on this CPU can interrupt us and change it.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }
}

/// The subprogram that judges an inner packet: verified once, whatever the outer headers are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decap_open(ctx: *mut xdp_md, l3: u32, ether_type: u32, tunnel: u64) -> u32 {
    let (context, link) = (XdpContext::new(ctx), Link { l3: l3 as usize & 31, ether_type: ether_type as u16 });
    let packet = &mut ContextPacket::new(&context);
    decap::open(packet, &KernelAddresses(ctx), link, Tunnel::from_word(tunnel)) as u32
}

/// Decapsulation on a tunnel's backend.
#[xdp]
fn decap(ctx: XdpContext) -> u32 {
    let exit = decap::process(&mut ContextPacket::new(&ctx), &KernelAddresses(ctx.ctx));
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(&ctx, "decap exit {}", exit.name());
    match exit.verdict() {
        Verdict::Pass | Verdict::Tx | Verdict::Redirect => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}
