//! Code that the packet path and the control plane share.
//!
//! The packet path is written once, here, over two small traits: [`wire::packet::Packet`] (a frame's bytes) and
//! [`maps::Maps`] (the BPF maps). `edge-ebpf` implements them on the packet pointer and the BPF maps; [`host`] implements
//! them on a byte vector and plain memory, for tests and tools such as `edge-ctl explain`.
//!
//! A module imports only modules that are declared before it in this file.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "lengths and offsets of a packet fit 16 bits; where they might not, the conversion is checked"
)]
#![warn(clippy::wildcard_enum_match_arm, reason = "a new exit must not fall into an old arm")]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, reason = "time is an argument, or the trait's"))]

pub mod abi;
pub mod hash;
pub mod flow_table;
pub mod wire;
pub mod maps;
pub mod evidence;
pub mod step;

pub mod lookup;
pub mod select;
pub mod forward;
pub mod nat;
pub mod slow;
pub mod pipeline;
pub mod probe;
pub mod decap;
pub mod trace;

#[cfg(any(test, feature = "std"))]
pub mod tables;
#[cfg(any(test, feature = "std"))]
pub mod host;
