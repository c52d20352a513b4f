//! Traces: which packets are traced, and what is written about each.

use bytemuck::{Pod, Zeroable};

use super::BackendNumber;

/// Bytes of a frame that a trace keeps, from the frame's start, before and after the packet path.
pub const TRACED_BYTES: usize = 256;

/// Which packets are traced. A tracer writes it, and the traced program reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TraceFilter {
    /// One in this many packets is looked at; at least 1.
    pub sample: u32,
    /// Packets that each CPU looks at in a [`window`](TraceState::window).
    pub looks: u32,
    /// Frames that each CPU writes in a window.
    pub frames: u32,
    /// 1 if only packets of `services` are traced. The second is the first again if one is enough.
    pub by_service: u32,
    pub services: [u32; 2],
    /// 1 if only packets to or from `backends` are traced.
    pub by_backend: u32,
    pub backends: [u32; 2],
    pub reserved: u32,
    /// A bit for each exit whose packets are traced.
    pub exits: [u64; 2],
    pub client: ClientPrefix,
}

impl TraceFilter {
    /// All packets, with these bounds for each CPU and window.
    pub const fn everything(sample: u32, looks: u32, frames: u32) -> Self {
        Self {
            sample,
            looks,
            frames,
            by_service: 0,
            services: [0; 2],
            by_backend: 0,
            backends: [0; 2],
            reserved: 0,
            exits: [u64::MAX; 2],
            client: ClientPrefix { address: [0; 2], mask: [0; 2] },
        }
    }

    /// Whether a frame with this fate is traced.
    #[inline(always)]
    pub const fn takes(&self, frame: &TracedFrame) -> bool {
        let exits = if frame.exit < 64 { self.exits[0] } else { self.exits[1] };
        let knows_service = frame.flags & traced_flags::SERVICE != 0;
        let of_service = knows_service && (frame.service == self.services[0] || frame.service == self.services[1]);
        let backend = frame.backend as u32;
        let of_backend = backend == self.backends[0] || backend == self.backends[1];
        exits >> (frame.exit & 63) & 1 != 0
            && (self.by_service == 0 || of_service)
            && (self.by_backend == 0 || of_backend)
    }
}

/// The addresses of clients that are traced, as 128 bits in two words of network byte order. IPv4 addresses are mapped
/// into IPv6. No bit in the mask: any address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ClientPrefix {
    pub address: [u64; 2],
    pub mask: [u64; 2],
}

/// State of a trace on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TraceState {
    /// Packets until the next one that is looked at.
    pub left: u32,
    /// 1 while a packet is on its way whose frame is traced.
    pub active: u32,
    /// The present window of time, and what may still be looked at and written in it.
    pub window: u32,
    pub looks: u32,
    pub frames: u32,
    pub reserved: u32,
    /// Packets that were looked at.
    pub looked: u64,
    /// Packets that were not looked at, since the window's looks or frames were used up. In steps of [`Self::PAUSE`].
    pub skipped: u64,
    /// Frames that found no room in the ring buffer.
    pub lost: u64,
}

impl TraceState {
    /// Packets for which a CPU pauses when the window's bounds are reached, before it reads the clock again.
    pub const PAUSE: u32 = 64;
    /// A window is 2 to the power of this, in nanoseconds: 67 ms.
    pub const WINDOW_BITS: u32 = 26;

    /// The window of a time in nanoseconds.
    #[inline(always)]
    pub const fn window_of(now_ns: u64) -> u32 {
        (now_ns >> Self::WINDOW_BITS) as u32
    }
}

/// Bits of [`TracedFrame::flags`].
pub mod traced_flags {
    /// The fields `service` and `backend` are known; a backend of 0 is none.
    pub const SERVICE: u16 = 1;
    /// A slot was read: `slot` and `owner` are known.
    pub const SLOT: u16 = 1 << 1;
    /// Packets of the slot look further than its owner.
    pub const LOOKS: u16 = 1 << 2;
    /// The flow's record was read: `record` is its backend, 0 if there is none.
    pub const RECORD: u16 = 1 << 3;
    /// The flow's record was made, changed or removed.
    pub const CHANGED: u16 = 1 << 4;
    /// The packet starts a flow.
    pub const STARTS: u16 = 1 << 5;
}

/// A frame and its fate: a record of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TracedFrame {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Bytes of the whole frame, before and after.
    pub length_before: u32,
    pub length_after: u32,
    /// Interface indices; the egress is 0 if the frame was not forwarded.
    pub ingress: u32,
    pub egress: u32,
    /// An [`Exit`](super::Exit).
    pub exit: u32,
    pub service: u32,
    /// Number of the slot among all slots.
    pub slot: u32,
    pub owner: BackendNumber,
    pub record: BackendNumber,
    pub backend: BackendNumber,
    pub flags: u16,
    /// The published bank.
    pub bank: u32,
    /// The start of the frame, as it came and as it left.
    pub before: [u8; TRACED_BYTES],
    pub after: [u8; TRACED_BYTES],
}
