//! Packets through the real program and through the host pipeline.
//!
//! One binary, so that its tests share what the kernel has loaded (`edge_tests::kernel`): the verifier's work is most of
//! what a packet test costs.

#![warn(clippy::wildcard_enum_match_arm, reason = "a new exit must not fall into an old arm")]

mod load;
mod exits;
mod routes;
mod peers;
mod probes;

mod slow;
mod spread;
mod any_port;
mod select;
mod flows;
mod nat;
mod hostile;
mod mss;
mod fingerprints;
mod flow_table;
