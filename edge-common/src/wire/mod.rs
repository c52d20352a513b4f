//! The content of a frame, one protocol per file. Functions take bytes and return numbers; none of them uses a map.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

pub mod packet;

pub mod ethernet;
pub mod vlan;
pub mod link;

pub mod protocol;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod icmp;

pub mod transport;
pub mod tcp;
pub mod udp;
pub mod gue;
pub mod quic;
pub mod plain;

pub mod checksum;
pub mod toa;
