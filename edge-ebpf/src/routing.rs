//! The kernel's routing of the namespace that the context's frame came into.

use core::ptr;

use aya_ebpf::{bindings::bpf_fib_lookup as FibLookup, helpers::bpf_fib_lookup};
use edge_common::{
    abi::{Backend, Generation, Mac},
    maps::Route,
};

use crate::packet::Context;

/// Address families in the encoding of `bpf_fib_lookup`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Looks the route to `backend` up in the kernel, which finds one only where forwarding is enabled on the ingress
/// (`net.ipv4.conf.IF.forwarding`, and the same of `ipv6`), whatever the flags.
///
/// A function of its own that returns a number: one that returns more may leave a pointer to the stack in the
/// register that the verifier takes for its result.
#[inline(never)]
pub(crate) fn to_backend<C: Context>(ctx: &C, generation: &Generation, backend: &Backend, route: &mut Route) -> bool {
    // SAFETY: all-zero bytes are a valid, empty request.
    let mut request: FibLookup = unsafe { core::mem::zeroed() };
    request.ifindex = ctx.interface();
    match backend.family {
        4 => {
            request.family = AF_INET;
            request.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(generation.tunnel_source_v4);
            request.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(backend.address_v4());
        }
        6 => {
            request.family = AF_INET6;
            request.__bindgen_anon_3.ipv6_src = words(generation.tunnel_source_v6);
            request.__bindgen_anon_4.ipv6_dst = words(backend.address);
        }
        _ => return false,
    }
    let (family, destination) = (request.family, words(backend.address));
    // SAFETY: the pointer and the size are those of `request`, which outlives the call.
    let verdict = unsafe { bpf_fib_lookup(ctx.raw(), &raw mut request, size_of::<FibLookup>() as i32, 0) };
    if verdict != 0 {
        return false;
    }
    // The helper puts the address of a router, of either family, in place of the destination. An IPv4 address is the
    // first of the words, and the others are zero.
    // SAFETY: all words of the union are set, here or by the helper.
    let hop = unsafe { request.__bindgen_anon_4.ipv6_dst };
    let differ = (0..hop.len()).fold(0, |bits, word| bits | (hop[word] ^ destination[word]));
    let by_router = differ != 0 || request.family != family;
    *route = Route {
        egress: request.ifindex,
        mac: in_pairs(&request.dmac),
        source_mac: in_pairs(&request.smac),
        by_router: by_router.into(),
    };
    true
}

/// A MAC address on the stack, read in pairs of bytes: the helper's struct aligns it to two, and the verifier requires
/// aligned reads of the stack.
#[inline(always)]
fn in_pairs(mac: &[u8; 6]) -> Mac {
    #[expect(clippy::cast_ptr_alignment, reason = "aligned in its struct")]
    let pair = |place: usize| -> u64 {
        // SAFETY: within the six bytes, aligned in its struct, and volatile so that reads are not joined.
        let pair = unsafe { ptr::read_volatile(mac.as_ptr().cast::<u16>().add(place)) };
        u16::from_le(pair).into()
    };
    Mac(pair(0) | pair(1) << 16 | pair(2) << 32)
}

/// An IPv6 address as the helper's four words, in network order.
#[inline(always)]
fn words(address: [u8; 16]) -> [u32; 4] {
    let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = address;
    [
        u32::from_ne_bytes([a0, a1, a2, a3]),
        u32::from_ne_bytes([b0, b1, b2, b3]),
        u32::from_ne_bytes([c0, c1, c2, c3]),
        u32::from_ne_bytes([d0, d1, d2, d3]),
    ]
}
