//! What the packet path and the control plane share.
//!
//! The packet path is written once, here, over two small traits: [`packet::Packet`] (a frame's bytes) and
//! [`tables::Tables`] (the maps). `edge-ebpf` implements them on the packet pointer and the BPF maps; [`host`] implements
//! them on a byte vector and plain memory, for tests.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "lengths and offsets of a packet fit 16 bits; where they might not, the conversion is checked"
)]

pub mod abi;
pub mod packet;
pub mod tables;

pub mod pipeline;
pub mod odd;
pub mod exit;

pub mod frame;
pub mod ip;
pub mod transport;
pub mod quic;
pub mod flow;
pub mod select;
pub mod forward;
pub mod encap;
pub mod reply;
pub mod decap;

pub mod checksum;
pub mod hash;
pub mod service_index;

#[cfg(any(test, feature = "std"))]
pub mod candidates;
#[cfg(any(test, feature = "std"))]
pub mod follow;
#[cfg(any(test, feature = "std"))]
pub mod host;
#[cfg(any(test, feature = "std"))]
pub mod object;
