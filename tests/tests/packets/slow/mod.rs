//! Packets of the slow path (fragments, ICMP errors) and their consequences, through host and kernel.

pub(crate) mod errors;
mod fragments;
mod fragments_refused;
mod permitted;
mod limit;
pub(crate) mod world;
pub(crate) mod path_mtu;
mod quotes;
mod too_long;
mod unserved;
mod least_mtu;
mod shared_address;
