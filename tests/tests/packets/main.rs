//! Packet tests: single packets through the real program and through the host pipeline.
//!
//! They are one binary, so that they share loaded objects (`edge_tests::kernel`): most of a packet test's cost is the
//! verifier's.

#![warn(clippy::wildcard_enum_match_arm, reason = "a new exit must not fall into an old arm")]

mod load;
mod traced;
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
