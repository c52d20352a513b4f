//! What the packet path and the control plane share.
//!
//! The packet path is written once, here, over two small traits: [`packet::Packet`] (a frame's bytes) and
//! [`tables::Tables`] (the maps). `edge-ebpf` implements them on the packet pointer and the BPF maps; host tests
//! implement them on a byte vector and plain memory.

#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod abi;
#[cfg(feature = "std")]
pub mod candidates;
pub mod exit;
pub mod hash;
